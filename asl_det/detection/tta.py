"""Test-time augmentation of a detector, as ``tools/test.py --tta`` of mmdet has it."""

import copy
from typing import Any, Dict, Iterator

from mmengine.config import Config, ConfigDict

from asl_det.errors import UserError
from asl_det.files.nested import dicts
from asl_det.registry import is_type, type_name

# Where the config has none: mirrored pictures beside the pictures.
MODEL = dict(type='DetTTAModel',
             tta_cfg=dict(nms=dict(type='nms', iou_threshold=0.5), max_per_img=100))
KEYS = ('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor', 'flip', 'flip_direction')
MIRRORED = dict(type='TestTimeAug', transforms=[
    [dict(type='RandomFlip', prob=1.), dict(type='RandomFlip', prob=0.)],
    [dict(type='PackDetInputs', meta_keys=KEYS)]])


def use_tta(cfg: Config) -> None:
    """Test with every picture in several forms, whose boxes are merged; in place.

    ``tta_model`` and ``tta_pipeline`` of the config say how; where it has
    none, pictures are tested as they are and mirrored.

    Raises:
        UserError: if the model is no detector, or the test pipeline does not
            end with PackDetInputs and the config has no ``tta_pipeline``.
    """
    if is_type(cfg.model, 'MultiLabelClassifier'):
        raise UserError('--tta merges boxes, and the config has a MultiLabelClassifier')
    data = list(_with_pipeline(cfg.get('test_dataloader')))
    if not data:
        raise UserError('--tta: the config has no test_dataloader with a pipeline')
    for dataset in data:
        steps = copy.deepcopy(cfg.get('tta_pipeline'))
        if steps is None:
            *steps, last = copy.deepcopy(dataset['pipeline'])
            if not is_type(last, 'PackDetInputs'):
                raise UserError('--tta: the test pipeline ends with '
                                f'{type_name(last)}, not with PackDetInputs: write a tta_pipeline')
            steps.append(ConfigDict(copy.deepcopy(MIRRORED)))
        dataset['pipeline'] = steps
    if not is_type(cfg.model, 'DetTTAModel'):
        cfg.model = ConfigDict(cfg.get('tta_model') or copy.deepcopy(MODEL), module=cfg.model)


def _with_pipeline(node: Any) -> Iterator[Dict[str, Any]]:
    """The data sets of a loader, in any wrapper."""
    return (part for _, part in dicts(node, enter=lambda part: 'pipeline' not in part)
            if 'pipeline' in part)
