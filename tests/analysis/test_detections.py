"""Boxes of a COCO result, right or wrong as COCO's evaluation says."""

import io
import json
from contextlib import redirect_stdout

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from scipy.special import expit
from sklearn.metrics import average_precision_score

from asl_det.analysis.detections import claims_of_boxes
from asl_det.errors import UserError


@pytest.fixture
def files(tmp_path):
    """A writer of annotations (image, category, x, crowd) and boxes (image, category, x, score)."""
    def write(annotations, boxes):
        truth = dict(
            images=[dict(id=i, width=200, height=50) for i in (7, 3, 5)],
            categories=[dict(id=9, name='cat'), dict(id=2, name='dog')],
            annotations=[dict(id=n, image_id=i, category_id=c, bbox=[x, 0, 10, 10], area=100,
                              iscrowd=crowd)
                         for n, (i, c, x, crowd) in enumerate(annotations)])  # ids from 0
        found = [dict(image_id=i, category_id=c, bbox=[x, 0, 10, 10], score=s)
                 for i, c, x, s in boxes]
        (tmp_path / 'truth.json').write_text(json.dumps(truth))
        (tmp_path / 'boxes.json').write_text(json.dumps(found))
        return tmp_path / 'boxes.json', tmp_path / 'truth.json'
    return write


def test_hits_misses_doubles_and_crowds_count_as_in_cocos_evaluation(files):
    names, claims, images = claims_of_boxes(*files(
        [(3, 2, 0, 0), (3, 2, 50, 0), (5, 2, 100, 1), (7, 9, 0, 0)],
        [(3, 2, 1, 0.9), (3, 2, 2, 0.8), (3, 2, 90, 0.7),  # right, again the same, elsewhere
         (5, 2, 100, 0.6), (7, 9, 0, 0.3), (7, 2, 0, 0.2)]))  # crowd, annotation 3, wrong class
    assert (names, images) == (['dog', 'cat'], 3)
    dog, cat = claims
    assert expit(dog.logits) == pytest.approx([0.9, 0.8, 0.7, 0.2])
    assert dog.hits.tolist() == [True, False, False, False]
    assert dog.images.tolist() == [0, 0, 0, 2] and dog.positives.tolist() == [0, 0]
    assert cat.hits.tolist() == [True] and cat.positives.tolist() == [2]


def test_an_annotation_with_the_id_0_can_be_found(files):
    claims = claims_of_boxes(*files([(3, 2, 0, 0)], [(3, 2, 0, 0.5)]))[1]
    assert claims[0].hits.tolist() == [True] and len(claims[1].logits) == 0


def test_the_overlap_decides(files):
    paths = files([(3, 2, 0, 0)], [(3, 2, 3, 0.5)])  # overlap 70 / 130
    assert claims_of_boxes(*paths, iou=0.5)[1][0].hits.all()
    assert not claims_of_boxes(*paths, iou=0.6)[1][0].hits.any()


def test_recall_and_precision_are_cocos_own(files):
    rng = np.random.default_rng(0)
    draw = lambda n: zip(rng.choice([7, 3, 5], n).tolist(), rng.choice([9, 2], n).tolist(),  # noqa: E731
                         rng.integers(0, 190, n).tolist(), strict=True)
    results, truth = files([(*a, 0) for a in draw(40)],
                           [(*b, s) for b, s in zip(draw(90), rng.random(90), strict=True)])
    content = json.loads(truth.read_text())
    for one in content['annotations']:
        one['id'] += 1
    truth.write_text(json.dumps(content))
    with redirect_stdout(io.StringIO()):
        coco = COCO(truth)
        official = COCOeval(coco, coco.loadRes(str(results)), 'bbox')
        official.evaluate()
        official.accumulate()
    for c, claim in enumerate(claims_of_boxes(results, truth)[1]):
        recall = claim.hits.sum() / len(claim.positives)
        assert recall == pytest.approx(official.eval['recall'][0, c, 0, -1])
        mine = average_precision_score(claim.hits, claim.logits) * recall
        assert mine == pytest.approx(official.eval['precision'][0, :, c, 0, -1].mean(), abs=0.06)


def test_files_that_do_not_belong_together_are_refused(files, tmp_path):
    results, truth = files([(3, 2, 0, 0)], [(4, 2, 0, 0.5)])
    with pytest.raises(UserError, match=r'image_id \[4\] is not in .*truth.json'):
        claims_of_boxes(results, truth)
    results, truth = files([(3, 2, 0, 0)], [(3, 1, 0, 0.5)])
    with pytest.raises(UserError, match=r'category_id \[1\] is not in'):
        claims_of_boxes(results, truth)
    with pytest.raises(UserError, match='no COCO annotation file'):
        claims_of_boxes(results, results)
    with pytest.raises(UserError, match="has no boxes in COCO's result format"):
        claims_of_boxes(truth, truth)
    with pytest.raises(UserError, match='none.json does not exist'):
        claims_of_boxes(results, tmp_path / 'none.json')
    results.write_text('[]')
    with pytest.raises(UserError, match='no boxes at all'):
        claims_of_boxes(results, truth)
    results.write_text('[')
    with pytest.raises(UserError, match='is no json'):
        claims_of_boxes(results, truth)
