"""Whatever stands in a json that is read, null or a list in the place of an object: one line."""

import copy
import json
import sys
from pathlib import Path

import pytest

from asl_det.analysis.detections import claims_of_boxes
from asl_det.data.coco_json import hold_out, write_hidden
from asl_det.errors import UserError
from asl_det.experiments.table import read_record
from asl_det.multilabel.features import _check_record

sys.path.insert(0, str(Path(__file__).parents[1] / 'preflight'))
from coco_files import coco  # noqa: E402

CONTENT = dict(coco(), info=dict(a=1), images=[dict(id=1), dict(id=2)])
CONTENT['annotations'] = CONTENT['annotations'][:1]
BOXES = [dict(image_id=1, category_id=1, bbox=[1, 2, 3, 4], score=0.5)]
METRIC = dict(mean=0.1, values=[0.1, None], std=None)
SWEEP = dict(baseline='a', variants=dict(a=dict(metrics={'mAP': METRIC})), failed=dict(x='y'))


def spoilt(node):
    """A json's content again and again, a part of it replaced by one of another type."""
    yield from (None, [], {}, 3, 'x', [None])
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(
        node, list) else ()
    for key, inside in items:
        for other in spoilt(inside):
            changed = copy.copy(node)
            changed[key] = other
            yield changed


@pytest.mark.parametrize('content, read', [
    (CONTENT, lambda p: write_hidden(p, p.with_name('o'), 0.5)),
    (CONTENT, lambda p: hold_out(p, p.with_name('o'), p.with_name('q'), 0.5)),
    (CONTENT, lambda p: claims_of_boxes(p.with_name('boxes'), p)),
    (BOXES, lambda p: claims_of_boxes(p, p.with_name('truth'))),
    (SWEEP, read_record), (dict(backbone=dict(a=1)), lambda p: _check_record(p.parent, {}))],
    ids=['hide', 'hold out', 'annotations', 'boxes', 'sweep', 'features'])
def test_json_of_another_shape_is_refused_in_a_line(tmp_path, content, read):
    (tmp_path / 'boxes').write_text(json.dumps(BOXES))
    (tmp_path / 'truth').write_text(json.dumps(CONTENT))
    refused = []
    for wrong in spoilt(content):
        (tmp_path / 'features.json').write_text(json.dumps(wrong))
        try:
            read(tmp_path / 'features.json')
        except UserError as error:
            refused.append(str(error))
    assert len(refused) > 3 and not any('\n' in line for line in refused)
    assert any(' is null: expected ' in line for line in refused)
