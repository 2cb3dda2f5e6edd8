"""Which predicted boxes are right: pycocotools' own matching."""

import io
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Sequence, Tuple, Union

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from asl_det.analysis.calibration import logits_of
from asl_det.analysis.claims import Claims
from asl_det.errors import UserError
from asl_det.files.reading import ID, NUMBER, expect_shape, read_json

BOX = {'image_id': ID, 'category_id': ID, 'bbox': [NUMBER] * 4}
TRUTH = {'images': [{'id': ID}], 'categories': [{'id': ID, 'name': ID}],
         'annotations': [dict(BOX, area=NUMBER, iscrowd=(*NUMBER, bool))]}


def claims_of_boxes(results: Union[str, Path], annotations: Union[str, Path], iou: float = 0.5
                    ) -> Tuple[List[str], List[Claims], int]:
    """Match boxes to objects as COCO's evaluation does.

    Boxes are matched best first, so which are right does not depend on the
    threshold that leaves out worse ones. Crowds, and boxes on them, do not
    count. No image has too many boxes, unlike for COCO's AP. Boxes of equal
    scores are matched in the order of the file.

    Args:
        results: json in COCO's result format.
        annotations: the json of the images that were detected.
        iou: overlap from which a box is right.

    Returns:
        Class names in the order of the category ids, their claims, and the
        number of images.

    Raises:
        UserError: if a file is not there or not in its format, or the results
            are not of these images and categories.
    """
    truth = read_json(annotations)
    expect_shape(truth, TRUTH, f'{annotations} is no COCO annotation file with images, annotations '
                 'and categories')
    boxes = read_json(results)
    expect_shape(boxes, [dict(BOX, score=NUMBER)], f'{results} has no boxes in COCO\'s result '
                 'format (image_id, category_id, bbox, score), as asl-det test --out writes them '
                 '(results.bbox.json)')
    if not boxes:
        raise UserError(f'{results} has no boxes at all: nothing to choose a threshold from')
    for key, known in (('image_id', 'images'), ('category_id', 'categories')):
        if len({type(one['id']) for one in truth[known]}) > 1:
            raise UserError(f'{annotations}: some ids of {known} are numbers and some are texts: '
                            'write all alike')
        unknown = {b[key] for b in boxes} - {one['id'] for one in truth[known]}
        if unknown:
            raise UserError(f'{results}: {key} {sorted(unknown, key=str)[:3]} is not in '
                            f'{annotations}: give the annotations of the images that were tested')
    return _match(truth, boxes, iou)


class Boxes(NamedTuple):
    """The boxes of one image, predicted or annotated.

    Attributes:
        corners: ``(n, 4)``: left, top, right, bottom in pixels of the image.
        labels: int ``(n,)``, places in the list of classes.
        scores: ``(n,)``, from 0 to 1; of annotated boxes 1 for those that
            count, 0 for crowds and others that evaluation ignores.
    """

    corners: np.ndarray
    labels: np.ndarray
    scores: np.ndarray


def claims_of_predictions(predictions: Sequence[Boxes], truth: Sequence[Boxes],
                          classes: Sequence[str], iou: float = 0.5) -> List[Claims]:
    """:func:`claims_of_boxes` of what a validation has in memory, image by image.

    Returns:
        Claims in the order of the classes.
    """
    def listed(images: Sequence[Boxes]) -> List[Dict[str, Any]]:
        return [dict(image_id=number, category_id=int(label), score=float(score),
                     iscrowd=int(score == 0), bbox=[x, y, right - x, bottom - y],
                     area=(right - x) * (bottom - y))
                for number, found in enumerate(images)
                for (x, y, right, bottom), label, score in zip(
                    found.corners.tolist(), found.labels, found.scores, strict=True)]

    content = dict(images=[dict(id=number) for number in range(len(truth))],
                   categories=[dict(id=i, name=name) for i, name in enumerate(classes)],
                   annotations=listed(truth))
    return _match(content, listed(predictions), iou)[1]


def _match(truth: Dict[str, Any], boxes: List[Dict[str, Any]], iou: float
           ) -> Tuple[List[str], List[Claims], int]:
    for number, one in enumerate(truth['annotations'], 1):
        one['id'] = number  # COCOeval takes a match with id 0 for none
    with redirect_stdout(io.StringIO()):
        evaluation = COCOeval(_index(truth), _index(dict(truth, annotations=_as_annotations(boxes)))
                              , 'bbox')
        evaluation.params.iouThrs = np.array([iou])
        evaluation.params.maxDets = [max(len(boxes), 1)]
        evaluation.params.areaRng, evaluation.params.areaRngLbl = [[0, 1e10]], ['all']
        evaluation.evaluate()
    number = {image: i for i, image in enumerate(sorted(one['id'] for one in truth['images']))}
    names = {one['id']: one['name'] for one in truth['categories']}
    found: Dict[Any, List[dict]] = {category: [] for category in sorted(names)}
    for one in evaluation.evalImgs:
        if one is not None:
            found[one['category_id']].append(one)
    claims = []
    for images in found.values():
        parts = [_of_image(one, number[one['image_id']]) for one in images]
        claims.append(Claims(*(np.concatenate(p) for p in zip(*parts, strict=True))) if parts else
                      Claims(np.empty(0), np.empty(0, bool), *np.empty((2, 0), int)))
    return [names[category] for category in found], claims, len(number)


def _of_image(one: dict, number: int) -> Claims:
    counts = ~one['dtIgnore'][0].astype(bool)
    logits = logits_of(one['dtScores'])[counts]
    return Claims(logits, one['dtMatches'][0][counts] > 0, np.full(len(logits), number),
                  np.full(int((one['gtIgnore'] == 0).sum()), number))


def _as_annotations(boxes: List[dict]) -> List[dict]:
    return [dict(b, id=number, area=b['bbox'][2] * b['bbox'][3], iscrowd=0)
            for number, b in enumerate(boxes, 1)]


def _index(content: dict) -> COCO:
    coco = COCO()
    coco.dataset = content
    coco.createIndex()
    return coco
