"""Checkpoints, classes, resumed trainings and places to write, as commands meet them."""

import copy
import re
import shutil
from pathlib import Path

import pytest
import torch
from command_line import run_command
from mmengine.registry import DefaultScope
from toy import Toy, write_config

from asl_det import engine
from asl_det.data.digits import make_digits
from asl_det.engine import load_config
from asl_det.errors import UserError
from asl_det.preflight.checks import preflight
from asl_det.preflight.classes import set_num_classes
from asl_det.preflight.run import Run
from asl_det.registry import MODELS

CLASSIFIER = str(Path('configs/multilabel/resnet18-w16_asl_digits.py').resolve())
DETECTOR = str(Path('configs/digits/retinanet_r18-w16_fpn_asl-800i_digits.py').resolve())
LFS = 'version https://git-lfs.github.com/spec/v1\noid sha256:1234\nsize 99\n'


@pytest.fixture(scope='module')
def digits(tmp_path_factory):
    root = tmp_path_factory.mktemp('data') / 'digits'
    make_digits(root, num_train=8, num_val=4, size=64, digit_size=(20, 32))
    return root


def build(cfg):
    with DefaultScope.overwrite_default_scope('mmdet'):
        return MODELS.build(cfg.model)


@pytest.fixture(scope='module')
def weights():
    """The state dict of the classifier."""
    cfg = load_config(CLASSIFIER)
    torch.manual_seed(0)
    return build(cfg).state_dict()


@pytest.fixture
def save(tmp_path):
    def save(content, name='a.pth'):
        path = tmp_path / name
        path.write_text(content) if isinstance(content, str) else torch.save(content, path)
        return str(path)

    return save


def check(config, digits, checkpoint=None, options=None, partial=False, purpose='check', **more):
    """What the preflight says, and the config."""
    options = dict(options or {})
    if digits is not None:
        options['data_root'] = str(digits)
    cfg = load_config(config, options)
    run = Run(cfg, 'mine.py', purpose, checkpoint, partial=partial, **more)
    set_num_classes(cfg, 'mine.py', purpose, None)
    return '\n'.join(preflight(run).lines())


def changed(weights, **change):
    return {**weights, **change}


# Name, content as a function of the weights, what is said; None where it is good.
CONTENTS = {
    'whole': (lambda w: dict(state_dict=w), None),
    'bare': (lambda w: w, None),
    'of DataParallel': (lambda w: {f'module.{k}': v for k, v in w.items()}, None),
    'under model': (lambda w: dict(model=w), None),
    'git-lfs': (lambda w: LFS, r'is a git-lfs pointer.*git lfs pull'),
    'text': (lambda w: 'not found\n', 'is a text file, not what torch.save writes'),
    'html': (lambda w: '<!DOCTYPE html><html>404</html>', 'is an HTML page'),
    'json': (lambda w: '{"model": 1}', 'is a json file'),
    'empty': (lambda w: '', 'is empty'),
    'tensor': (lambda w: torch.zeros(3, 2), r'holds no weights but a tensor \(3, 2\)'),
    'list': (lambda w: [1, 2], 'holds no weights but a list'),
    'optimizer': (lambda w: torch.optim.Adam([torch.zeros(1)]).state_dict(),
                  'holds no weights but the state of an optimizer'),
    'nothing': (lambda w: dict(state_dict={}), 'holds no weights but a dict of nothing'),
    'other keys': (lambda w: dict(epoch=1, best=2.0), 'holds no weights but a dict of epoch, best'),
    'nan': (lambda w: changed(w, **{'head.fc.weight': w['head.fc.weight'] * torch.nan}),
            r'weights that are NaN \(head.fc.weight\)'),
    'a part': (lambda w: {k: v for k, v in w.items() if not k.startswith('head.')},
               r'\d+ of \d+ weights would be loaded; missing: head.fc.weight, head.fc.bias'),
    'other classes': (lambda w: changed(w, **{'head.fc.weight': torch.zeros(7, 128),
                                              'head.fc.bias': torch.zeros(7)}),
                      r'head.fc.weight \(7, 128\) instead of \(10, 128\)'),
    'other width': (lambda w: {k: torch.zeros([2 * n for n in v.shape]) for k, v in w.items()},
                    r'0 of \d+ weights would be loaded'),
    'other network': (lambda w: {f'features.{i}': v for i, v in enumerate(w.values())},
                      'does not fit MultiLabelClassifier'),
    'too much': (lambda w: changed(w, **{'head.extra': torch.zeros(1)}), 'left over: head.extra'),
}


@pytest.mark.parametrize('name', CONTENTS)
def test_a_checkpoint_is_called_what_it_is(digits, weights, save, name):
    make, expected = CONTENTS[name]
    said = check(CLASSIFIER, digits, save(make(dict(weights))))
    if expected is None:
        assert said == ''
    else:
        assert said.startswith('error: checkpoint ') and re.search(expected, said), said


def test_a_checkpoint_that_is_missing_or_a_folder_is_said(digits, tmp_path):
    assert 'does not exist: train one' in check(CLASSIFIER, digits, str(tmp_path / 'no.pth'))
    assert 'error: checkpoint' in check(CLASSIFIER, digits, str(tmp_path))
    assert 'no installed package' in check(CLASSIFIER, digits, 'package://nothing/a.pth')


def test_part_of_a_checkpoint_is_enough_where_it_is_asked_for(digits, weights, save):
    part = save({k: v for k, v in weights.items() if not k.startswith('head.')})
    assert check(CLASSIFIER, digits, part, partial=True) == ''
    # load_from keeps other heads, and nothing else
    assert check(CLASSIFIER, digits, options=dict(load_from=part)) == ''
    less = save({k: v for k, v in weights.items() if '.layer4.' not in k}, 'less.pth')
    said = check(CLASSIFIER, digits, options=dict(load_from=less))
    assert re.search(r'load_from .*missing: backbone.layer4.*--partial starts', said), said
    assert check(CLASSIFIER, digits, options=dict(load_from=less), partial=True) == ''


@pytest.mark.parametrize('change, prefix, expected', [
    (lambda w: w, 'backbone.', None),
    (lambda w: w, 'backbone', None),
    (lambda w: {k.removeprefix('backbone.'): v for k, v in w.items()}, None, None),
    (lambda w: w, None, r'0 of \d+ weights of ResNet are in it'),
    (lambda w: w, 'bone.', 'it has none of them'),
    (lambda w: {k: torch.zeros([2 * n for n in v.shape]) for k, v in w.items()}, 'backbone.',
     r'have another shape, such as conv1.weight \(32, 6, 14, 14\)'),
    (lambda w: {k: v for k, v in w.items() if 'layer4' not in k}, 'backbone.',
     'warning: .*keep their initial values: layer4'),
    (lambda w: {k: v * torch.nan for k, v in w.items()}, 'backbone.', 'are NaN'),
    (lambda w: LFS, None, 'git-lfs pointer'),
])
def test_weights_of_a_backbone_are_those_of_the_backbone(digits, weights, save, change, prefix,
                                                         expected):
    init = dict(type='Pretrained', checkpoint=save(change(dict(weights))))
    if prefix:
        init['prefix'] = prefix
    said = check(CLASSIFIER, digits, options={'model.backbone.init_cfg': init})
    assert said == '' if expected is None else re.search(expected, said), said


@pytest.mark.parametrize('trained, expected', [
    ('0123456789', None), ('abcde', r'trained on 5 classes \(a, b, c, d, e\), but .* has 10'),
    ('1023456789', r"another order .* class 0 was '1', and is '0'"),
    ('abcdefghij', r'warning: .*trained on other classes .*0, 1')])
def test_a_checkpoint_is_used_on_the_classes_that_it_knows(digits, weights, save, trained,
                                                           expected):
    path = save(dict(state_dict=weights, meta=dict(dataset_meta=dict(classes=tuple(trained)))))
    for purpose in ('check', 'test'):
        said = check(CLASSIFIER, digits, path, purpose=purpose)
        assert said == '' if expected is None else re.search(expected, said), said


HEADS = [
    ('mmdet::retinanet/retinanet_r50_fpn_1x_coco.py', ['bbox_head']),
    ('mmdet::detr/detr_r50_8xb2-150e_coco.py', ['bbox_head']),
    ('mmdet::yolox/yolox_s_8xb8-300e_coco.py', ['bbox_head']),
    ('mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py', ['roi_head.bbox_head', 'roi_head.mask_head']),
    ('mmdet::cascade_rcnn/cascade-rcnn_r50_fpn_1x_coco.py',
     [f'roi_head.bbox_head.{i}' for i in range(3)]),
    ('mmdet::htc/htc_r50_fpn_1x_coco.py', [f'roi_head.{kind}_head.{i}' for kind in ('bbox', 'mask')
                                          for i in range(3)]),
    ('mmdet::solov2/solov2_r50_fpn_1x_coco.py', ['mask_head']),
    ('mmdet::mask2former/mask2former_r50_8xb2-lsj-50e_coco.py',
     ['panoptic_head', 'panoptic_fusion_head'])]


@pytest.mark.parametrize('config, heads', HEADS)
def test_every_kind_of_head_is_compared_with_the_data_and_set_from_it(config, heads):
    names = tuple('abcdef')
    cfg = load_config(config)
    for split in ('train', 'val', 'test'):
        dataset = cfg[f'{split}_dataloader'].dataset
        dataset = dataset.get('dataset', dataset)
        dataset.metainfo = dict(classes=names)
    run = Run(cfg, 'mine.py', 'train')
    said = [f for f in preflight(run).findings if f.rule == 'number of classes']
    key = 'num_things_classes' if 'panoptic' in heads[0] else 'num_classes'
    assert len(said) == 2  # training and validation
    assert f'mine.py: model.{heads[0]}.{key}: 80, but the data set of train' in str(said[0])
    assert 'has 6 classes (a, b, c, d, e, f): --num-classes auto, or --cfg-options' in str(said[0])
    assert all(f'model.{head}.{key}=6' in str(said[0]) for head in heads)
    done = set_num_classes(cfg, 'mine.py', 'train', 'auto')
    assert [line.split('=')[0] for line in done if 'num_' in line] == [
        f'model.{head}.{key}' for head in heads]
    after = preflight(Run(cfg, 'mine.py', 'train')).findings
    assert not [f for f in after if f.rule in ('number of classes', 'unknown key')]
    if 'panoptic' in heads[0]:
        assert list(cfg.model.panoptic_head.loss_cls.class_weight) == [1.0] * 6 + [0.1]


@pytest.mark.parametrize('number', [9, 11, 1, 80])
@pytest.mark.parametrize('config, key', [(CLASSIFIER, 'model.head.num_classes'),
                                         (DETECTOR, 'model.bbox_head.num_classes')])
def test_one_class_too_many_or_too_few_is_one_line(digits, config, key, number):
    said = check(config, digits, options={key: number}, purpose='train').split('\n')
    assert len(said) == 2  # training, validation
    assert f'{key}: {number}, but the data set of train_dataloader.dataset has 10' in said[0]


def test_the_number_of_classes_comes_from_the_data_where_the_config_has_none(digits):
    cfg = load_config(CLASSIFIER, {'data_root': str(digits)})
    del cfg.model.head['num_classes']
    said, = set_num_classes(cfg, 'mine.py', 'train', None)
    assert said.startswith('model.head.num_classes=10, from train_dataloader.dataset (0, 1, 2')
    cfg.model.head.num_classes = 'auto'
    assert set_num_classes(cfg, 'mine.py', 'train', None) and cfg.model.head.num_classes == 10
    assert set_num_classes(cfg, 'mine.py', 'train', None) == []
    assert set_num_classes(cfg, 'mine.py', 'train', '12') == [
        'model.head.num_classes=12, as --num-classes says']


@pytest.mark.parametrize('asked', ['ten', '0', '-1', '2.5', ''])
def test_a_number_of_classes_that_is_none_is_refused(asked):
    with pytest.raises(UserError, match="expected 'auto' or a whole number"):
        set_num_classes(load_config(CLASSIFIER), 'mine.py', 'train', asked)


def test_auto_names_the_classes_of_a_coco_file_too(digits):
    cfg = load_config('mmdet::retinanet/retinanet_r50_fpn_1x_coco.py')
    for split in ('train', 'val', 'test'):
        cfg[f'{split}_dataloader'].dataset.update(
            data_root=f'{digits}/', ann_file='instances_train.json', data_prefix=dict(img='train/'))
    cfg.val_evaluator.ann_file = cfg.test_evaluator.ann_file = f'{digits}/instances_train.json'
    said = set_num_classes(cfg, 'mine.py', 'train', 'auto')
    assert 'metainfo.classes of the data sets: the 10 of' in said[0]
    assert cfg.model.bbox_head.num_classes == 10
    assert [tuple(cfg[f'{s}_dataloader'].dataset.metainfo.classes) for s in (
        'train', 'val', 'test')] == [tuple('0123456789')] * 3
    assert not preflight(Run(cfg, 'mine.py', 'train')).errors


@pytest.fixture(scope='module')
def resumable(tmp_path_factory):
    """A finished toy training, and the folder of its config."""
    folder = tmp_path_factory.mktemp('resume')
    last = engine.train(load_config(write_config(folder)), work_dir=str(folder / 'run'))
    return folder, str(last)


@pytest.mark.parametrize('options, expected', [
    ({}, None),
    ({'max_epochs': 2}, None),
    ({'train_dataloader.num_workers': 1, 'default_hooks.logger.interval': 5}, None),
    ({'model.unused': True}, 'another model.unused: nothing -> True: .*--resume-anyway'),
    ({'train_dataloader.batch_size': 4}, 'train_dataloader.batch_size: 2 -> 4'),
    ({'optim_wrapper.optimizer.type': 'Adam'}, "optimizer.type: 'SGD' -> 'Adam'"),
    ({'optim_wrapper.optimizer.momentum': 0.5}, 'momentum: nothing -> 0.5'),
    ({'optim_wrapper.optimizer.weight_decay': 0.5}, 'nothing -> 0.5: .* can not be followed'),
    ({'optim_wrapper.paramwise_cfg': dict(bias_lr_mult=2.0)}, 'can not be followed'),
    ({'optim_wrapper.clip_grad': dict(max_norm=35)}, 'max_norm: nothing -> 35: go on with its own'),
    ({'lr': 0.2}, r'optimizer.lr: 0.1 -> 0.2: mmengine takes .* can not be followed'),
    ({'param_scheduler': [dict(type='MultiStepLR', milestones=[1])]}, 'can not be followed'),
    ({'param_scheduler': [dict(type='CosineAnnealingLR', T_max=1, end=1)], 'max_epochs': 3},
     r'ends after 1 epochs, and the training goes on to 3 at a learning rate of 0'),
])
def test_a_resumed_training_says_what_is_different(resumable, options, expected):
    folder, last = resumable
    said = check(write_config(folder), None, last, options, purpose='resume')
    assert said == '' if expected is None else re.search(expected, said), said
    anyway = check(write_config(folder), None, last, options, purpose='resume', anyway=True)
    assert ('can not be followed' in anyway or 'ends after' in anyway) == bool(
        expected and '--resume-anyway' not in said), anyway


def test_resume_anyway_reaches_the_training(resumable):
    folder, last = resumable
    config = load_config(write_config(folder), {'train_dataloader.batch_size': 4, 'max_epochs': 2})
    with pytest.raises(UserError, match='batch_size: 2 -> 4'):
        engine.train(config, work_dir=str(folder / 'other'), resume=last)
    assert engine.train(config, work_dir=str(folder / 'other'), resume=last,
                        resume_anyway=True).name == 'epoch_2.pth'


def test_settings_with_dotted_names_are_compared_too(tmp_path):
    """mmengine writes them as dict({...})."""
    keys = "dict(custom_keys={'layer.weight': dict(lr_mult=0.5)})"
    config = write_config(tmp_path, f'optim_wrapper.update(paramwise_cfg={keys})\n')
    last = engine.train(load_config(config), work_dir=str(tmp_path / 'run'))
    assert 'dict({' in torch.load(last, weights_only=False)['meta']['cfg']
    assert check(config, None, str(last), purpose='resume') == ''
    said = check(config, None, str(last), {'train_dataloader.batch_size': 4}, purpose='resume')
    assert 'train_dataloader.batch_size: 2 -> 4' in said
    said = check(config, None, str(last), {'optim_wrapper.paramwise_cfg': dict(
        custom_keys={'layer.weight': dict(lr_mult=2.0)})}, purpose='resume', anyway=True)
    assert 'layer.weight.lr_mult: 0.5 -> 2.0: ' in said and 'can not be followed' in said


def test_a_noted_config_that_can_not_be_read_is_said_and_not_run(resumable, tmp_path):
    folder, last = resumable
    content = torch.load(last, weights_only=False)
    harm = tmp_path / 'harm'
    for text in (f'a = open({str(harm)!r}, "w")', 'import os', 'a = ('):
        content['meta']['cfg'] = text
        torch.save(content, tmp_path / 'a.pth')
        said = check(write_config(folder), None, str(tmp_path / 'a.pth'), purpose='resume')
        assert re.search(r'^warning: .*the config that the checkpoint holds.*give its config file. '
                         r'Whether the settings are still those of the run is not compared', said)
    assert not harm.exists()


@pytest.mark.parametrize('before, options, expected', [
    ("custom_hooks = [dict(type='mmdet.ClassifierPriorHook', prior=0.1)]\n",
     {'custom_hooks.0.prior': 0.2}, 'prior: 0.1 -> 0.2: .*can not be followed'),
    ("custom_hooks = [dict(type='EMAHook', momentum=0.1)]\n", {'custom_hooks.0.momentum': 0.2},
     None),
    ("default_hooks['ema'] = dict(type='EMAHook', momentum=0.1)\n",
     {'default_hooks.ema.momentum': 0.2}, 'ema.momentum: 0.1 -> 0.2: go on with its own'),
    ('', {'randomness.diff_rank_seed': True}, 'diff_rank_seed: False -> True: .*can not be foll'),
    ('', {'randomness.seed': 3}, 'seed 3, but the run has seed 0'),
    ('', {'model.unused': dict.fromkeys('abcdefghijklm', 1), 'lr': 0.2}, 'lr: .*can not be fol')])
def test_only_what_is_followed_is_accepted(tmp_path, before, options, expected):
    config = write_config(tmp_path, before)
    cfg = load_config(config)
    torch.save(dict(state_dict=Toy().state_dict(), meta=dict(
        cfg=cfg.pretty_text, epoch=1, iter=16, seed=0)), tmp_path / 'a.pth')
    said, anyway = (check(config, None, str(tmp_path / 'a.pth'), options, purpose='resume',
                          anyway=anyway) for anyway in (False, True))
    if expected is None:
        assert '--resume-anyway' in said and anyway == ''
    else:
        assert re.search(expected, said), said
        assert (anyway == '') == ('can not' not in expected and 'seed' not in expected), anyway


def test_places_that_can_not_be_written_are_said(digits, weights, save, tmp_path):
    file = tmp_path / 'file'
    file.write_text('')
    (tmp_path / 'dead').symlink_to(tmp_path / 'nowhere')
    for work_dir, expected in ((file, f'--work-dir {file}: {file} is a file: expected a folder'),
                               (file / 'run', f'{file} is a file'),
                               (tmp_path / 'dead', 'a link to nothing'),
                               ('/proc/nothing', '/proc can not be written')):
        assert expected in check(CLASSIFIER, digits, purpose='train', work_dir=str(work_dir))
    good = save(dict(state_dict=weights))
    for outputs, expected in (({'--out': str(tmp_path)}, f'{tmp_path} is a folder: .*results.json'),
                              ({'--out': str(file / 'a.json')}, f'{file} is a file'),
                              ({'--show': str(file)}, f'--show {file}: .*is a file')):
        said = check(CLASSIFIER, digits, good, purpose='test', outputs=outputs)
        assert said.startswith('error: ') and re.search(expected, said.replace(': is', ' is')), said


def test_space_for_the_checkpoints_to_come_is_asked_for(digits, tmp_path, monkeypatch):
    from asl_det.preflight import paths
    usage = paths.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(paths.shutil, 'disk_usage', lambda path: usage._replace(free=1_000_000))
    said = check(CLASSIFIER, digits, purpose='train', work_dir=str(tmp_path / 'run'))
    assert re.search(r'0.00 GB are free, but the checkpoints to come take about 0.0\d GB', said)


def test_what_a_checkpoint_takes_is_estimated_within_a_tenth(resumable, digits, tmp_path):
    from asl_det.preflight.paths import checkpoint_bytes
    cfg = load_config(CLASSIFIER, {'data_root': str(digits)})
    model = build(cfg)
    optimizer = torch.optim.AdamW(model.parameters())
    sum(p.sum() for p in model.parameters()).backward()
    optimizer.step()
    torch.save(dict(state_dict=model.state_dict(), ema_state_dict=copy.deepcopy(model.state_dict()),
                    optimizer=optimizer.state_dict()), tmp_path / 'a.pth')
    size = (tmp_path / 'a.pth').stat().st_size
    # One is kept, the best one and the next one are beside it.
    assert checkpoint_bytes(Run(cfg, 'mine.py', 'train')) == pytest.approx(3 * size, rel=0.1)


def test_the_command_counts_what_it_found(digits, weights, save, capsys):
    good, bad = save(dict(state_dict=weights)), save(LFS, 'b.pth')
    base = ['check', CLASSIFIER]
    for args, ended, text in (
            (base + [good], None, 'nothing is wrong'), (base + [bad], 1, '1 errors, 0 warnings'),
            (base + [good, '--num-classes', '12'], 1, 'head.num_classes=12, as --num-classes'),
            (base, None, 'nothing is wrong')):
        code = run_command(*args, '--data-root', digits)
        assert code == ended and text in capsys.readouterr().out


def test_suspicious_images_are_drawn(digits, tmp_path, capsys):
    root = shutil.copytree(digits, tmp_path / 'digits')
    image = next((root / 'train').glob('*.png'))
    image.write_bytes(image.read_bytes()[:40])
    assert run_command('check', CLASSIFIER, '--data-root', root, '--show', tmp_path / 'shown') == 1
    drawn = list((tmp_path / 'shown').iterdir())
    assert drawn and all(path.stat().st_size > 5000 for path in drawn)
    assert f'drawn: {drawn[0]}' in capsys.readouterr().out
