"""Configs of the new style (``with read_base()``), as mmdet's own are written, in every command.

``tests/new_style`` has small ones, their parts imported as classes by bases of bases.
"""

import json
import re
import shutil
import sys
from pathlib import Path

import pytest
import torch
from command_line import run_command
from mmengine.config import Config
from mmengine.config.lazy import LazyObject
from PIL import Image

from asl_det import engine
from asl_det.config.new_style import as_data, find_registered, plain_types
from asl_det.config.options import READ
from asl_det.config.saved import saved_config
from asl_det.detection import swap_losses
from asl_det.engine import load_config
from asl_det.errors import UserError
from asl_det.preflight.checks import CONFIG, preflight
from asl_det.preflight.run import Run

STYLE = Path('tests/new_style').resolve()
RETINANET = str(STYLE / 'retinanet.py')
NAMES = ('retinanet', 'rtmdet_l', 'rtmdet_s', 'mask_rcnn', 'dino')


@pytest.fixture(scope='module')
def coco(tmp_path_factory):
    """Three pictures with two objects each, and their outlines."""
    root = tmp_path_factory.mktemp('data')
    boxes = [[10, 10, 30, 40], [50, 20, 40, 30], [5, 5, 60, 60], [60, 40, 30, 30],
             [0, 0, 99, 79], [20, 30, 30, 30]]
    for i in (1, 2, 3):
        Image.effect_noise((100, 80), 90).convert('RGB').save(root / f'{i}.png')
    (root / 'instances.json').write_text(json.dumps(dict(
        images=[dict(id=i, file_name=f'{i}.png', width=100, height=80) for i in (1, 2, 3)],
        annotations=[dict(
            id=n + 1, image_id=n // 2 + 1, category_id=n % 2 + 1, bbox=[x, y, w, h], area=w * h,
            iscrowd=0, segmentation=[[x, y, x + w, y, x + w, y + h, x, y + h]])
            for n, (x, y, w, h) in enumerate(boxes)],
        categories=[dict(id=1, name='cat'), dict(id=2, name='dog')])))
    return root


def arguments(coco):
    return '--data-root', coco, '--classes', 'cat', 'dog'


def options(coco):
    return dict(data_root=str(coco), classes=['cat', 'dog'])


@pytest.mark.parametrize('name', NAMES)
def test_configs_written_as_mmdets_own_are_right(name, coco, capsys):
    assert run_command('check', STYLE / f'{name}.py', *arguments(coco)) is None
    assert capsys.readouterr().out.splitlines()[-1] == 'nothing is wrong'  # onedl has a word before


@pytest.mark.parametrize('name', NAMES)
def test_the_config_and_the_dump_that_mmengine_makes_of_it_are_the_same(name, tmp_path):
    path = tmp_path / f'{name}.py'
    cfg = Config.fromfile(STYLE / f'{name}.py')
    cfg.pop('halved', None)  # mmengine can not dump a function
    dump = cfg.pretty_text
    path.write_text(dump)
    assert 'mmdet.models.' in dump  # dotted paths
    cfg = load_config(str(STYLE / f'{name}.py'))
    again = load_config(str(path))
    assert {k: again[k] for k in READ & set(again)} == {k: cfg[k] for k in READ & set(cfg)}
    assert 'mmdet.models.' not in cfg.pretty_text and json.dumps(cfg.model)
    assert saved_config(dict(meta=dict(cfg=dump)), 'a.pth').model == cfg.model


def test_what_files_import_or_define_is_no_key(coco):
    cfg = load_config(RETINANET, options(coco))
    assert not {'LogProcessor', 'DetVisualizationHook', 'chain', 'halved', 'nms'} & set(cfg)
    assert cfg.dataset_type == 'CocoDataset' and cfg.milestones == [1, 2]
    assert not preflight(Run(cfg, 'retinanet', 'check'), CONFIG).findings


@pytest.mark.parametrize('line', ['optim_wraper = dict()', 'trian_cfg = dict(max_epochs=2)'])
def test_a_misspelt_key_is_found_in_a_base_too(line, tmp_path, coco):
    shutil.copytree(STYLE, tmp_path / 'new_style')
    with open(tmp_path / 'new_style/_base_/schedule.py', 'a') as file:
        file.write(f'{line}\n')
    cfg = load_config(str(tmp_path / 'new_style/retinanet.py'), options(coco))
    found = preflight(Run(cfg, 'retinanet', 'check'), CONFIG).errors
    assert [f'nothing reads it: is it {key}?' in str(found[0])
            for key in ('optim_wrapper', 'train_cfg')].count(True) == 1 and len(found) == 1


def test_an_import_that_is_not_there_is_told_with_its_line(tmp_path):
    path = tmp_path / 'mine.py'
    path.write_text('from mmdet.models import Nothing\nmodel = dict(type=Nothing)\n')
    with pytest.raises(UserError, match=r'mine.py, line 1: mmdet.models.Nothing can not be imp'):
        load_config(str(path))


def test_a_class_of_ones_own_stays_an_import_and_its_dump_can_be_run(tmp_path, monkeypatch, coco):
    (tmp_path / 'my_parts.py').write_text(
        'from mmdet.datasets import CocoDataset as Base\nfrom mmdet.models import RetinaHead\n'
        'class CocoDataset(Base):\n    pass\n'
        'class MyHead(RetinaHead):\n    pass\n')
    monkeypatch.syspath_prepend(str(tmp_path))
    shutil.copytree(STYLE, tmp_path / 'new_style')
    path = tmp_path / 'new_style/mine.py'
    path.write_text('from mmengine.config import read_base\n'
                    'with read_base():\n    from .retinanet import *\n'
                    'from my_parts import CocoDataset, MyHead\n'
                    "model['bbox_head']['type'] = MyHead\n"
                    "train_dataloader['dataset']['type'] = CocoDataset\n")
    cfg = load_config(str(path), options(coco))  # moving the data keeps the import
    cfg.dump(tmp_path / 'dump.py')
    assert "'my_parts.MyHead'" in (tmp_path / 'dump.py').read_text()
    for config in (cfg, load_config(str(tmp_path / 'dump.py'))):
        report = preflight(Run(config, 'mine', 'check'))
        assert not report.findings, report.lines()
        assert type(report) and config.train_dataloader.dataset.type in (
            'my_parts.CocoDataset', sys.modules['my_parts'].CocoDataset)


def test_names_are_those_of_the_object_not_of_another_package():
    cfg = as_data(Config(dict(
        default_scope='mmdet', a=dict(type=LazyObject('mmcv.transforms', 'Resize')),
        b=dict(type=LazyObject('mmdet.datasets.transforms', 'Resize')),
        c=dict(type='mmcv.transforms.processing.Resize'), d=dict(type='mmdet.Resize'),
        e=dict(type='mmcv.ops.nms.nms'), f=[dict(type='torch.nn.Upsample'), dict(type='os.system')],
        g=dict(type=LazyObject('torch.nn', 'Upsample')), h=dict(type='mmdet.models.Resize'))))
    assert [cfg[k]['type'] for k in 'abcdeh'] == [
        'mmengine.Resize', 'Resize', 'mmengine.Resize', 'mmdet.Resize', 'nms',
        'mmdet.models.Resize']
    assert [part['type'] for part in cfg.f] == ['torch.nn.Upsample', 'os.system']
    assert cfg.g.type is torch.nn.Upsample
    assert plain_types(dict(type='mmdet.models.RetinaNet'), 'mmengine')['type'] == 'mmdet.RetinaNet'
    assert find_registered('os.system') is None


@pytest.fixture(scope='module')
def trained(coco, tmp_path_factory):
    """A run of two epochs with our loss, from the command line."""
    work = tmp_path_factory.mktemp('run')
    assert run_command('train', RETINANET, '--loss', 'asl', *arguments(coco), '--epochs', 2,
                       '--seed', 1, '--work-dir', work) is None
    return work


def of_mmengine(checkpoint, path):
    """The same checkpoint as mmengine writes it, with dotted paths in its config."""
    cfg = Config.fromfile(RETINANET)
    cfg.pop('halved')
    content = torch.load(checkpoint, weights_only=False)
    for split in ('train', 'val', 'test'):
        cfg[f'{split}_dataloader'].dataset.metainfo = dict(classes=('cat', 'dog'))
    content['meta']['cfg'] = cfg.pretty_text
    assert 'mmcv.ops.nms' in cfg.pretty_text
    torch.save(content, path)
    return path


def test_a_loss_is_put_into_it_and_its_run_is_tested_from_its_own_dump(trained, tmp_path, coco):
    text = (trained / 'retinanet.py').read_text()
    assert "type='AsymmetricLoss'" in text and 'FocalLoss' not in text
    assert run_command('test', trained / 'retinanet.py', trained / 'epoch_2.pth', '--out',
                tmp_path / 'a.json', '--work-dir', tmp_path) is None
    assert run_command('test', RETINANET, of_mmengine(trained / 'epoch_2.pth', tmp_path / 'b.pth'),
                *arguments(coco), '--out', tmp_path / 'b.json', '--work-dir', tmp_path) is None
    one, other = (json.loads((tmp_path / f'{n}.bbox.json').read_text()) for n in 'ab')
    assert one == other and len(one) > 5


def test_its_run_is_resumed_from_the_config_and_from_the_dump(trained, coco, tmp_path):
    for i, config in enumerate(((RETINANET, '--loss', 'asl', *arguments(coco), '--epochs', 2),
                                (trained / 'retinanet.py', ))):
        work = shutil.copytree(trained, tmp_path / str(i))
        assert run_command('train', *config, '--seed', 1, '--resume', work / 'epoch_1.pth',
                           '--work-dir', work) is None
        one, other = (torch.load(path / 'epoch_2.pth', weights_only=False)['state_dict']
                      for path in (trained, work))
        assert all(torch.equal(one[k], other[k]) for k in one)


def test_its_checkpoint_is_enough_to_infer_and_to_export(trained, coco, tmp_path, capsys):
    mine = of_mmengine(trained / 'epoch_2.pth', tmp_path / 'mmengine.pth')
    rows = []
    for i, source in enumerate(([trained / 'epoch_2.pth'], [mine],
                                [trained / 'retinanet.py', trained / 'epoch_2.pth'])):
        assert run_command('infer', *source, coco / '1.png', '--out', tmp_path / str(i)) is None
        rows.append(json.loads((tmp_path / str(i) / 'predictions.json').read_text()))
    assert rows[0] == rows[1] == rows[2] and rows[0]
    pytest.importorskip('onnxruntime')
    assert run_command('export', mine, '--out', tmp_path / 'a.onnx') is None
    assert re.search(r'boxes: at most \S+ from torch', capsys.readouterr().out)


def test_configs_of_mmengine_are_trained_and_changed_in_python(coco, tmp_path):
    cfg = Config.fromfile(RETINANET)
    for split in ('train', 'val', 'test'):
        cfg[f'{split}_dataloader'].dataset.update(
            data_root=str(coco), metainfo=dict(classes=('cat', 'dog')))
    cfg.val_evaluator.ann_file = str(coco / 'instances.json')
    swap_losses(cfg, 'asl')
    cfg.custom_imports = dict(imports=['asl_det'])
    checkpoint = engine.train(cfg, work_dir=str(tmp_path))
    assert checkpoint.is_file() and "type='AsymmetricLoss'" in (tmp_path / 'retinanet.py'
                                                                ).read_text()
    fresh = Config.fromfile(RETINANET)  # given as it is, it is not changed
    with pytest.raises(UserError, match='data/coco'):
        engine.train(fresh, work_dir=str(tmp_path / 'other'))
    assert 'LogProcessor' in fresh and fresh.default_scope is None
