"""COCO json made of another: boxes hidden as if nobody had annotated them, images held out."""

import json
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple, Union

import numpy as np
from pycocotools import mask as rle

from asl_det.errors import UserError, check_seed
from asl_det.files.reading import MISSING, NUMBER, expect_shape, read_json
from asl_det.files.text import shown
from asl_det.files.whole import require_output, write_whole


def hide_boxes(annotations: List[Dict[str, Any]], share: float, seed: int = 0
               ) -> List[Dict[str, Any]]:
    """The annotations that are left when a share of them is hidden.

    Which ones depends on the seed and on the ids alone, whatever their order,
    and what is hidden at a share is hidden at every larger one. Crowd regions
    are not boxes of objects: they stay and do not count.

    Args:
        annotations: those of a COCO json, with different ids.
        share: of the boxes to hide, in [0, 1); the number is rounded.
        seed: of the choice.

    Raises:
        UserError: for a share out of range or an id that stands twice.
    """
    if isinstance(share, bool) or not isinstance(share, (int, float)) or not 0 <= share < 1:
        raise UserError(f'hide_boxes={share!r}: expected a share in [0, 1)')
    check_seed(seed)
    ids = sorted(a['id'] for a in annotations if not a.get('iscrowd'))
    if len(set(ids)) != len(ids):
        raise UserError('hide_boxes: an annotation id stands twice: ids have to differ')
    order = np.random.default_rng(seed).permutation(len(ids))
    hidden = {ids[i] for i in order[:round(share * len(ids))]}
    return [a for a in annotations if a.get('iscrowd') or a['id'] not in hidden]


def write_hidden(source: Union[str, Path], target: Union[str, Path], share: float,
                 seed: int = 0) -> int:
    """Write a COCO json without a share of its boxes; images stay, with and without boxes.

    Its ``info.hide_boxes`` says what was done.

    Returns:
        How many boxes were hidden.

    Raises:
        UserError: if ``source`` is no COCO json, ``target`` is the same file,
            and as :func:`hide_boxes`.
    """
    coco = _read(source, target)
    left = hide_boxes(coco['annotations'], share, seed)
    done = dict(source=Path(source).name, share=share, seed=seed)
    _write(target, coco, coco['images'], left, hide_boxes=done)
    return len(coco['annotations']) - len(left)


def hold_out(source: Union[str, Path], rest: Union[str, Path], held_out: Union[str, Path],
             share: float, seed: int = 0) -> Tuple[int, int]:
    """Write a COCO json as two, by images, to choose settings on one and keep a test set unseen.

    Which images are held out depends on the seed and on their ids alone, and
    those of a share are among those of every larger one. ``info.hold_out`` of
    both files says what was done.

    Args:
        source: COCO json.
        rest: json of the other images, to train on.
        held_out: json of the images that are held out.
        share: of the images to hold out, in (0, 1); the number is rounded.
        seed: of the choice.

    Returns:
        How many images ``rest`` and ``held_out`` have.

    Raises:
        UserError: if ``source`` is no COCO json, two of the paths are the
            same, an image (by id or file) stands twice, or a share leaves a
            file without images.
    """
    check_seed(seed)
    coco = _read(source, rest, held_out)
    ids = sorted(image['id'] for image in coco['images'])
    if len(set(ids)) != len(ids):
        raise UserError(f'{source}: an image id stands twice: ids have to differ')
    _check_files(coco['images'], source)
    number = 0
    if not isinstance(share, bool) and isinstance(share, (int, float)) and 0 < share < 1:
        number = round(share * len(ids))
    if not 0 < number < len(ids):
        raise UserError(f'share={share!r}: expected a number between 0 and 1 that leaves images in '
                        f'both files ({source} has {len(ids)})')
    order = np.random.default_rng(seed).permutation(len(ids))
    held = {ids[i] for i in order[:number]}
    for target, out in ((rest, False), (held_out, True)):
        done = dict(source=Path(source).name, share=share, seed=seed, held_out=out)
        _write(target, coco, [i for i in coco['images'] if (i['id'] in held) == out],
               [a for a in coco['annotations'] if (a['image_id'] in held) == out], hold_out=done)
    return len(ids) - number, number


def _check_files(images: List[Dict[str, Any]], source: Union[str, Path]) -> None:
    """Raise UserError for a file under two ids: it could be in both parts."""
    ids: Dict[Any, Any] = {}
    for image in images:
        name = str(image.get('file_name', image['id']))
        if name in ids:
            raise UserError(f'{source}: {name} is there twice, as the images {ids[name]} and '
                            f'{image["id"]}, and could be in both parts: remove one')
        ids[name] = image['id']


def _read(source: Union[str, Path], *targets: Union[str, Path]) -> Dict[str, Any]:
    """A COCO json, after a look at the paths to write."""
    paths = [Path(path).resolve() for path in (source, *targets)]
    for i, path in enumerate(paths):
        if path in paths[:i]:
            what = 'the file to read' if path == paths[0] else 'given twice'
            raise UserError(f'{targets[i - 1]} is {what}: give another one to write')
    for target in targets:
        require_output(target)
    coco = read_json(source)
    known = (int, float, str)
    expect_shape(coco, {'images': [{'id': known}], 'info?': (dict, type(None)),
                        'annotations': [{'id': known, 'image_id': known}]},
                 f'{source} can not be read as COCO json, with images and annotations that have '
                 'ids')
    ids = {'images': [image['id'] for image in coco['images']],
           'annotations': [annotation['id'] for annotation in coco['annotations']],
           'images, in annotations': [a['image_id'] for a in coco['annotations']]}
    for name, found in ids.items():
        if not (all(isinstance(i, (int, float)) for i in found)
                or all(isinstance(i, str) for i in found)):
            raise UserError(f'{source}: the ids of {name} are not all numbers, nor all texts: '
                            'write them anew')
    return coco


def _write(target: Union[str, Path], coco: Dict[str, Any], images: List[Dict[str, Any]],
           annotations: List[Dict[str, Any]], **done: Dict[str, Any]) -> None:
    info = {**(coco.get('info') or {}), **done}
    write_whole(target, json.dumps({**coco, 'info': info, 'images': images,
                                    'annotations': annotations}))


EXPECTED = 'expected a list of polygons [x1, y1, x2, y2, x3, y3, ...], or run lengths with size '\
    'and counts'


FARTHEST = 1_000_000  # pycocotools takes memory for each pixel of an outline, and may crash


def wrong_mask(mask: Any, size: Sequence[float], split: str) -> Optional[Tuple[str, bool]]:
    """What pycocotools can not read of a ``segmentation``, and whether a run ends there.

    Args:
        mask: the value.
        size: width and height of the image; NaN if not known.
        split: as in :func:`check_masks`.
    """
    if isinstance(mask, list) and mask:
        return _wrong_polygons(mask, split)
    if isinstance(mask, dict):
        return _wrong_run_lengths(mask, size)
    if mask is MISSING or not mask:
        what = 'has no segmentation' if mask is MISSING else f'segmentation {shown(mask)} is empty'
        return f'{what}, and masks are asked for: give it one, remove the object, or leave ' \
               'masks out (with_mask of LoadAnnotations, the mask head, segm of the metric)', True
    return f'segmentation {shown(mask)}: {EXPECTED}', True


def _wrong_polygons(mask: List[Any], split: str) -> Optional[Tuple[str, bool]]:
    if not all(isinstance(polygon, list) for polygon in mask):
        flat = all(type(v) in NUMBER for v in mask)
        return (f'segmentation {shown(mask)} is a polygon without a list around it: write '
                '[[...]]' if flat else f'segmentation {shown(mask)}: {EXPECTED}'), True
    if not all(type(v) in NUMBER and abs(v) <= FARTHEST for polygon in mask for v in polygon):
        return f'segmentation {shown(mask)}: expected pixels, numbers up to {FARTHEST:,}', True
    short = [polygon for polygon in mask if len(polygon) < 6 or len(polygon) % 2]
    if not short:
        return None
    what = f'segmentation has a polygon of {len(short[0])} numbers, {shown(short[0])}: expected ' \
           'x and y of three points or more'
    if split != 'train':
        return f'{what}; evaluation stops at it', True
    return f'{what}; mmdet leaves {"it" if len(short) < len(mask) else "the object"} out', False


def _wrong_run_lengths(mask: Any, size: Sequence[float]) -> Optional[Tuple[str, bool]]:
    given, counts = mask.get('size'), mask.get('counts')
    if not (isinstance(given, list) and len(given) == 2 and isinstance(counts, (list, str))
            and all(type(v) in NUMBER and 0 < v <= FARTHEST and v % 1 == 0 for v in given)):
        return f'segmentation {shown(mask)}: {EXPECTED}', True
    if np.isfinite(size).all() and [float(v) for v in given] != [size[1], size[0]]:
        return (f'segmentation has the size {given} (height, width), but its image is '
                f'{size[0]:g} x {size[1]:g} (width x height)'), True
    height, width = given
    if isinstance(counts, list):
        fills = all(type(v) is int and v >= 0 for v in counts) and sum(counts) == height * width
    else:
        try:
            fills = rle.decode(mask).shape == (height, width)
        except Exception:  # whatever the compiled code raises
            fills = False
    return None if fills else (f'segmentation has run lengths {shown(counts)} that do not fill its '
                               f'{height} x {width} pixels', True)
