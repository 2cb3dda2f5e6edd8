"""Test-time augmentation: the same weights, every picture in several forms."""

import importlib.util
import json

import pytest
import torch
from command_line import run_command
from mmengine.config import Config
from mmengine.registry import DefaultScope

from asl_det.data.digits import make_digits
from asl_det.detection.tta import use_tta
from asl_det.engine import load_config
from asl_det.errors import UserError
from asl_det.registry import MODELS

DETECTOR = 'configs/digits/retinanet_r18-w16_fpn_asl-800i_digits.py'


@pytest.fixture(scope='module')
def digits(tmp_path_factory):
    root = tmp_path_factory.mktemp('data') / 'digits'
    make_digits(root, num_train=1, num_val=2, size=64, digit_size=(20, 32))
    return root


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory):
    path = tmp_path_factory.mktemp('checkpoint') / 'a.pth'
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('mmdet'):
        model = MODELS.build(load_config(DETECTOR).model)
    torch.save(dict(state_dict=model.state_dict(), meta=dict()), path)
    return path


def run(config, checkpoint, digits, out, *more):
    assert run_command('test', config, checkpoint, '--data-root', digits, '--work-dir', out,
                       '--out', out / 'r.json', *more) is None
    return json.loads((out / 'r.bbox.json').read_text())


def test_the_flag_merges_mirrored_pictures_where_the_config_says_nothing(digits, checkpoint,
                                                                         tmp_path, capsys):
    options = ('--cfg-options', 'model.test_cfg.score_thr=0.0', 'test_dataloader.num_workers=0',
               'test_dataloader.persistent_workers=False')
    plain = run(DETECTOR, checkpoint, digits, tmp_path / 'a', *options)
    found = run(DETECTOR, checkpoint, digits, tmp_path / 'b', '--tta', *options)
    log = ''.join(p.read_text() for p in (tmp_path / 'b').glob('*/*.log'))
    assert 'RetinaNet: ' in log and 'keep their initial values' not in log
    assert found != plain and len(found) > 50
    # A mirrored picture has mirrored boxes: both forms of each are there.
    assert {b['image_id'] for b in found} == {b['image_id'] for b in plain}


def test_a_config_whose_model_is_the_augmented_one_loads_all_weights(digits, checkpoint, tmp_path):
    path = tmp_path / 'tta.py'
    cfg = Config.fromfile(DETECTOR)
    cfg.test_dataloader.update(num_workers=0, persistent_workers=False)
    use_tta(cfg)
    cfg.dump(path)
    assert "type='DetTTAModel'" in path.read_text()
    assert run(path, checkpoint, digits, tmp_path / 'work')
    log = ''.join(p.read_text() for p in (tmp_path / 'work').glob('*/*.log'))
    loaded = [line for line in log.splitlines() if ' weights from ' in line][0]
    one, _, all_of_them, *_ = loaded.partition('RetinaNet: ')[2].split()
    assert one == all_of_them and int(one) > 50


def test_the_models_own_augmentation_is_used_and_reached_by_options(tmp_path):
    path = tmp_path / 'own.py'
    text = (
        "tta_model = dict(type='DetTTAModel', tta_cfg=dict(nms=dict(type='nms', "
        'iou_threshold=0.4), max_per_img=7))\n')
    base = str(importlib.util.find_spec('asl_det').origin).replace('asl_det/__init__.py', DETECTOR)
    path.write_text(f'_base_ = {base!r}\n{text}')
    cfg = load_config(str(path), {'tta_model.tta_cfg.max_per_img': 9})
    use_tta(cfg)
    assert cfg.model.tta_cfg.max_per_img == 9 and cfg.model.module.type == 'RetinaNet'
    assert cfg.test_dataloader.dataset.pipeline[-1].type == 'TestTimeAug'


def test_a_classifier_and_a_pipeline_without_an_end_are_refused():
    with pytest.raises(UserError, match='--tta merges boxes'):
        use_tta(load_config('configs/multilabel/resnet18-w16_asl_digits.py'))
    cfg = load_config(DETECTOR)
    del cfg.test_dataloader.dataset.pipeline[-1]
    with pytest.raises(UserError, match='ends with .*not with PackDetInputs: write a tta_pipeline'):
        use_tta(cfg)
