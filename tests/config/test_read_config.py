"""Mistakes in a config end a command before anything starts, all of them at once."""

import argparse
import re
import sys
from pathlib import Path

import pytest
import torch
from command_line import run_command
from mmengine.config import Config
from PIL import Image

from asl_det.commands.command_line import add_config, config_options, one_line
from asl_det.data.digits import make_digits
from asl_det.engine import load_config, train
from asl_det.errors import PreflightError, UserError
from asl_det.preflight.checks import CONFIG, preflight
from asl_det.preflight.finding import Finding
from asl_det.preflight.model import check_model
from asl_det.preflight.parts import parts
from asl_det.preflight.run import Run
from asl_det.registry import MODELS

CLASSIFIER = str(Path('configs/multilabel/resnet18-w16_asl_digits.py').resolve())
DETECTOR = str(Path('configs/digits/retinanet_r18-w16_fpn_asl-800i_digits.py').resolve())


@pytest.fixture(scope='module')
def digits(tmp_path_factory):
    root = tmp_path_factory.mktemp('data') / 'digits'
    make_digits(root, num_train=8, num_val=4, size=64, digit_size=(20, 32))
    return root


@pytest.fixture
def command(monkeypatch, tmp_path, capsys):
    """Runs a tool in this process: what it exits with, and what it printed."""

    def run(tool, *args):
        work = () if tool == 'check' else ('--work-dir', tmp_path / 'work')
        capsys.readouterr()
        code = run_command(tool, *args, *work)
        assert not (tmp_path / 'work').exists()  # nothing has started
        text = str(code) if tool != 'check' else capsys.readouterr().out
        assert code not in (0, None)
        return ' '.join(text.split())

    return run


@pytest.fixture
def write(tmp_path, digits):
    """A config on the small digits, with lines of one's own."""

    def config(base, text='', name='mine.py'):
        path = tmp_path / name
        path.write_text(f'_base_ = {base!r}\n{text}')
        return path

    return config


# What stands in a file that is no config.
FILES = [
    ('a.py', "model = dict(type='X'\na = 3\n", r"a.py, line 1: '\(' was never closed"),
    ('a.py', "x = 1\nmodel = dict(type='X', n=nc)\n",
     r"a.py, line 2: NameError: name 'nc' is not defined"),
    ('a.py', "_base_ = './nothing.py'\n", r'nothing.py can not be read: .*No such file'),
    ('a.py', "_base_ = 'mmdet::retinanet/nothing.py'\n", 'nothing.py" does not exist'),
    ('a.py', "_base_ = 'mmpretrain::resnet/resnet50_8xb32_in1k.py'\n",
     'mmpretrain is not installed'),
    ('a.py', "model = dict(type='X')\ncustom_imports = 'nothing_there'\n",
     'Failed to import nothing_there'),
    ('a.py', "model = 'RetinaNet'\n", r"model='RetinaNet': expected dict\(type="),
    ('a.py', "model = dict(type='X')\ndata = dict()\noptimizer = dict(lr=1)\nrunner = dict()\n",
     r'a config of mmdet 2.x: .*optim_wrapper.optimizer in the place of optimizer'),
    ('a.py', 'a = 1\nb = 2\n', r'no config: expected model, .*got a, b'),
    ('a.py', 'a = "{{_base_.size}}"\n', 'a.py: SyntaxError: invalid syntax'),
    ('a.json', '{"images": [], "annotations": []}', 'an annotation file, no config'),
    ('a.json', '{"metainfo": {}, "data_list": []}', 'an annotation file, no config'),
    ('a.json', '{"model": \n1', 'a.json, line 2: '),
    ('a.json', '[{"model": 1}]', r'a.json holds \[.*\]: expected an object with the keys model'),
    ('a.json', 'null', 'a.json holds None: expected an object'),
    ('a.yaml', '- model\n', r"a.yaml holds \['model'\]: expected an object"),
    ('a.yml', 'model: {a: 1\n', 'a.yml, line 2: '),
    ('a.yaml', 'a: &a [0, 0]\n' + ''.join(f'{n}: &{n} [{f"*{m}, " * 9}]\n' for m, n in zip(
        'abcdefgh', 'bcdefghi', strict=True)), 'its aliases unfold to more than 1,000,000 values'),
    ('a.txt', 'model', r'is a text file: expected a file that ends in .py'),
]


def test_a_list_of_names_where_dicts_are_built_is_refused(command, digits):
    for key in ('visualizer.vis_backends', 'train_dataloader.dataset.pipeline'):
        said = command('train', DETECTOR, '--data-root', digits, '--cfg-options',
                       f'{key}=[TensorboardVisBackend]')
        assert f"{key}.0: 'TensorboardVisBackend' is text: expected dict(type=" in said


def test_another_networks_checkpoint_is_refused_before_anything_starts(command, tmp_path, digits):
    torch.save(dict(state_dict={'backbone.conv1.weight': torch.zeros(2)}), tmp_path / 'a.pth')
    said = command('test', DETECTOR, tmp_path / 'a.pth', '--data-root', digits)
    assert re.search(r'a.pth: does not fit RetinaNet, 0 of \d+ weights would be loaded', said)
    said = command('train', DETECTOR, '--data-root', digits, '--cfg-options',
                   f'load_from={tmp_path / "a.pth"}')
    assert re.search(r'a.pth: does not fit RetinaNet, 0 of \d+ weights would be loaded', said)


def test_a_module_that_registers_a_name_of_ours_is_told_what_to_do(command, write, tmp_path,
                                                                  monkeypatch):
    (tmp_path / 'my_losses.py').write_text(
        'from mmdet.registry import MODELS\n@MODELS.register_module()\n'
        'class AsymmetricLoss:\n    pass\n')
    monkeypatch.syspath_prepend(str(tmp_path))
    path = write(DETECTOR, "custom_imports = dict(imports=['asl_det', 'my_losses'])")
    said = command('train', path)
    assert re.search(r'registers a name that is taken: AsymmetricLoss .*asl_det.losses.module; give'
                     ' yours another name, or, .* ASL_DET_LEAVE=AsymmetricLoss', said)


@pytest.mark.parametrize('name, text, expected', FILES)
def test_a_file_that_is_no_config_is_called_what_it_is(command, tmp_path, name, text, expected):
    (tmp_path / name).write_text(text)
    assert re.search(expected, command('train', tmp_path / name))


def test_an_error_in_a_base_names_the_base(command, tmp_path):
    (tmp_path / 'base.py').write_text('model = dict(\n  n=nc)\n')
    (tmp_path / 'mine.py').write_text("_base_ = './base.py'\n")
    assert re.search(r'base.py, line 2: NameError', command('train', tmp_path / 'mine.py'))


def test_a_yaml_config_is_data_and_runs_nothing_that_it_or_its_base_names(command, tmp_path):
    proof = tmp_path / 'proof'
    for tag in ('object/apply:os.mkdir', 'object/new:os.mkdir', 'name:os.mkdir'):
        (tmp_path / 'evil.yaml').write_text(f'model: !!python/{tag} [{proof}]\n')
        (tmp_path / 'mine.yml').write_text('_base_: evil.yaml\n')
        (tmp_path / 'mine.py').write_text("_base_ = 'evil.yaml'\n")
        for name in ('evil.yaml', 'mine.yml', 'mine.py'):
            said = command('train', tmp_path / name)
            assert re.search(f'evil.yaml, line 1: .*{tag}.*write plain values', said)
            assert not proof.exists()


def test_what_mmengine_writes_as_a_yaml_config_is_read_as_it_was(tmp_path):
    cfg = load_config(DETECTOR)
    cfg.dump(tmp_path / 'a.yaml')
    assert load_config(str(tmp_path / 'a.yaml')).to_dict() == cfg.to_dict()


def test_no_package_is_ever_installed(command, monkeypatch):
    monkeypatch.setattr('mmengine.utils.package_utils.call_command',
                        lambda *a: pytest.fail('it ran pip'))
    said = command('train', 'mmpretrain::resnet/resnet50_8xb32_in1k.py')
    assert 'mmpretrain, which is not installed: pip install mmpretrain' in said
    assert 'no package with configs' in command('train', 'mine::a/b.py')


def test_swapped_arguments_are_told_apart(command, tmp_path):
    torch.save(dict(state_dict={}), tmp_path / 'a.pth')
    said = command('test', tmp_path / 'a.pth', DETECTOR)
    assert 'is a checkpoint: expected' in said and 'CONFIG comes before CHECKPOINT' in said


# Lines that a config adds to the classifier's, and what is said about them.
LINES = [
    ("optim_wraper = dict(optimizer=dict(lr=1.0))", 'optim_wraper: nothing reads it: is it '
     'optim_wrapper'),
    ("train_dataloaders = dict(batch_size=4)", 'is it train_dataloader'),
    ("modle = dict(head=dict(dropout=0.5))", 'is it model'),
    ("auto_scale_lr = dict(enabled=True)", 'auto_scale_lr.enabled: nothing reads it: is it enable'),
    ("train_dataloader = dict(batchsize=4)", 'train_dataloader.batchsize: .* batch_size'),
    ("optim_wrapper = dict(optimizer=dict(weigth_decay=0.1))",
     "optim_wrapper.optimizer.weigth_decay: AdamW has no argument .* is it weight_decay"),
    ("optim_wrapper = dict(optimizer=dict(type='AdamWW'))", "no 'AdamWW': is it 'AdamW'"),
    ("optim_wrapper = dict(clip_gard=dict(max_norm=1))", 'is it clip_grad'),
    ("optim_wrapper = dict(paramwise_cfg=dict(bias_decay_mul=0))", 'is it bias_decay_mult'),
    ("optim_wrapper = dict(optimizer=dict(lr=-1.0))", 'Invalid learning rate: -1'),
    ("optim_wrapper = dict(clip_grad=dict(max_norm=-1))", 'clip_grad: .* above 0'),
    ("model = dict(head=dict(loss=dict(gama_neg=2.0)))", 'no argument .gama_neg.: is it gamma_neg'),
    ("model = dict(head=dict(loss=dict(type='AsymetricLoss')))", "is it 'AsymmetricLoss'"),
    ("model = dict(head=dict(loss=dict(gamma_neg=-1)))", 'gamma_neg=-1: expected a number >= 0'),
    ("model = dict(head=dict(loss=dict(clip=1.5)))", r'clip=1.5: expected .* in \[0, 1\)'),
    ("model = dict(head=dict(loss=dict(gamma_neg=[1, 2])))", r'gamma_neg=\[1, 2\] \(list\)'),
    ("model = dict(head=dict(loss=dict(use_sigmoid='True')))",
     "use_sigmoid: 'True' is text: expected a truth value"),
    ("model = dict(head=dict(loss=dict(_delete_=True, type='AsymmetricLossSingleLabel')))",
     'LinearHead takes the sigmoid'),
    ("model = dict(head=dict(loss=dict(_delete_=True, type='CrossEntropyLoss')))",
     'set use_sigmoid=True, or use AsymmetricLoss'),
    ("model = dict(head=dict(dropuot=0.1))", 'LinearHead has no argument .dropuot.: is it dropout'),
    ("model = dict(backbone=dict(type='ResNett'))", "there is no 'ResNett'"),
    ("model = dict(backbone=dict(type='mmpretrain.ResNet'))",
     'mmpretrain.ResNet needs the package mmpretrain, .* pip install mmpretrain'),
    ("model = dict(backbone=dict(deep_stem='yes'))", "deep_stem: 'yes' is text"),
    ("train_dataloader = dict(batch_size=0)", 'batch_size: 0 .* at least 1'),
    ("train_dataloader = dict(batch_size=2.5)", r'batch_size: 2.5 \(a number\): expected a whole'),
    ("train_dataloader = dict(num_workers=-1)", 'num_workers: -1'),
    ("train_dataloader = dict(num_workers=0, persistent_workers=True)", 'needs num_workers'),
    ("train_dataloader = dict(drop_last=True)", '8 images make no batch of 32'),
    ("train_dataloader = dict(dataset=dict(ann_fil='a.json'))", 'is it ann_file'),
    ("train_dataloader = dict(dataset=dict(type='CocoMultilabelDataset'))",
     "is it 'CocoMultiLabelDataset'"),
    ("train_dataloader = dict(sampler=dict(shufle=True))", 'is it shuffle'),
    ("train_cfg = dict(max_epochs=0)", 'train_cfg.max_epochs: 0 .* at least 1'),
    ("train_cfg = dict(max_epoch=3)", 'is it max_epochs'),
    ("train_cfg = dict(val_interval=0)", 'val_interval: 0'),
    ("default_hooks = dict(checkpoint=dict(save_best='mAP'))",
     "no metric is called 'mAP': expected multilabel/mAP"),
    ("default_hooks = dict(checkpoint=dict(save_best='coco/bbox_mAP'))", 'no metric is called'),
    ("default_hooks = dict(checkpoint=dict(intervall=2))", 'is it interval'),
    ("val_cfg = dict(key='multilabel/map')", "val_cfg.key: no metric is called 'multilabel/map'"),
    ("param_scheduler = [dict(type='OneCycle', pct_strat=0.2)]", 'is it pct_start'),
    ("param_scheduler = [dict(type='CosineLR')]", "there is no 'CosineLR'"),
    ("custom_hooks = [dict(type='ProbabilityMonitorHok')]", "is it 'ProbabilityMonitorHook'"),
    ("val_evaluator = dict(type='MultiLabelMetric', top_k=(1,))", 'is it topk'),
    ("default_hooks = dict(chekpoint=dict(interval=1))", 'default_hooks.chekpoint: has interval '
     'and no type, .*: is it default_hooks.checkpoint[?]'),
    ("default_hooks = dict(timer=dict(_delete_=True, priority=1))", "default_hooks.timer: .* add "
     "type='IterTimerHook'"),
    ("default_hooks = dict(mine=dict(a=1))", r"default_hooks.mine: has a and no type.*'\.\.\.'"),
    ("default_hooks = dict(logger=3)", 'default_hooks.logger: 3 is a number: expected dict'),
    ("custom_hooks = [dict(priority=1)]", 'custom_hooks.0: has priority and no type'),
    ("custom_hooks = ['EMAHook']", "custom_hooks.0: 'EMAHook' is text: expected dict"),
    ("param_scheduler = 3", 'param_scheduler: 3 is a number: expected dict'),
    ("val_cfg = 'yes'", "val_cfg: 'yes' is text: expected dict"),
    ("custom_imports = 3", r"custom_imports=3: expected a list of names"),
    ("default_hooks = dict(logger=dict(interval=-1))", 'LoggerHook refuses its arguments: .*inter'),
    ("param_scheduler = [dict(end=2)]", 'param_scheduler.0: has end and no type'),
    ("optim_wrapper = dict(optimizer=dict(_delete_=True, lr=1.0))", 'optimizer: has lr and no ty'),
    ("visualizer = dict(_delete_=True, name='x')", 'visualizer: has name and no type'),
    ("train_dataloader = dict(dataset=dict(pipeline=[dict(scale=1)]))", 'pipeline.0: has scale an'),
    ("val_evaluator = dict(_delete_=True, topk=(1,))", 'val_evaluator: has topk and no type'),
    ("randomness = dict(seed=-1)", 'randomness.seed: seed -1: expected a whole number from 0 to 4'),
    ("randomness = dict(seed=2**32)", 'seed 4294967296: expected'),
    ("randomness = dict(seed='one')", "seed 'one': expected"),
    ("randomness = 3", 'randomness: 3 is a number: expected dict'),
    ("train_dataloader = dict(dataset=dict(pipeline=[dict(type='RandomFlip', prob=2)]))",
     'pipeline.0: RandomFlip refuses its arguments'),
    ("train_dataloader = dict(dataset=dict(pipeline=[dict(type='TorchvisionTransform', name='Ran"
     "dAugment', interpolation='cubic')]))", "TorchvisionTransform refuses its .*'cubic'"),
]


@pytest.mark.parametrize('line, expected', LINES)
def test_a_mistake_in_a_config_is_found_before_a_training(command, write, digits, line, expected):
    said = command('train', write(CLASSIFIER, line + '\n'), '--data-root', digits)
    assert said.startswith('error: ') and re.search(expected, said), said


def test_the_parts_of_albumentations_are_none_of_mmdets(write):
    config = write(CLASSIFIER, """
train_dataloader = dict(dataset=dict(pipeline=[
    dict(type='Albu', transforms=[
        dict(type='OneOf', transforms=[dict(type='ShiftScaleRotate', p=0.5)], p=0.1)],
        bbox_params=dict(type='BboxParams', format='pascal_voc'))]))
""")
    run = Run(load_config(str(config)), 'mine.py', 'train')
    places = [part.place.partition('pipeline')[2] for part in parts(run)]
    assert '.0' in places and not [place for place in places if place.startswith('.0.')]


@MODELS.register_module(force=True)
class NormOfAGroup(torch.nn.Module):
    """As MMSyncBN: it asks for the number of processes when it is made."""

    def __init__(self):
        super().__init__()
        torch.distributed.get_world_size(torch.distributed.group.WORLD)


@pytest.mark.parametrize('purpose', ['check', 'train'])
def test_a_network_that_wants_a_launcher_is_no_error(purpose):
    cfg = Config(dict(model=dict(type='NormOfAGroup')))
    finding, = check_model(Run(cfg, 'mine.py', purpose))
    assert not finding.error and 'process group has not been initialized' in finding.message


DETECTION = [
    ("model = dict(bbox_head=dict(loss_cls=dict(_delete_=True, type='AsymmetricLoss')))",
     'RetinaHead reads use_sigmoid .* add use_sigmoid=True to AsymmetricLoss'),
    ("model = dict(bbox_head=dict(loss_cls=dict(_delete_=True, type='FocalLoss')))",
     'add use_sigmoid=True to FocalLoss'),
    ("model = dict(bbox_head=dict(num_clases=3))", 'RetinaHead has no argument .* num_classes'),
    ("model = dict(bbox_head=dict(anchor_generator=dict(scale=[1])))", 'is it scales'),
    ("model = dict(test_cfg=dict(nms_pre=10), necks=dict())", 'RetinaNet has no argument .necks.'),
    ("default_hooks = dict(checkpoint=dict(save_best='bbox_mAP'))",
     "no metric is called 'bbox_mAP': expected coco/bbox_mAP"),
    ("default_hooks = dict(checkpoint=dict(save_best='coco/bbox_map'))", 'no metric is called'),
    ("train_cfg = dict(max_iters=0)", 'max_iters: 0'),
    ("train_pipeline = []\ntrain_dataloader = dict(dataset=dict(pipeline=[\n    dict(type="
     "'LoadImageFromFile'), dict(type='Resize', scales=(1, 1))]))", 'is it scale'),
    ("visualizer = dict(vis_backends=[dict(type='LocalVisBackend'), dict(type='LocalVisBackend')])",
     "vis_backends.1: has the name of number 0, 'LocalVisBackend'"),
    ("visualizer = dict(vis_backends=[dict(type='WandbVisBackend')])",
     'WandbVisBackend needs the package wandb'),
    ("train_pipeline = []\ntrain_dataloader = dict(dataset=dict(pipeline=[\n    dict(type="
     "'RandomFlip', prob=[0.5, 0.9], direction=['horizontal', 'vertical'])]))",
     'pipeline.0: RandomFlip refuses its arguments'),
    ("train_dataloader = dict(dataset=dict(pipeline=[dict(type='RandomChoice', transforms=[[dict("
     "type='RandomCrop', crop_size=(0, 1))]])]))", 'RandomCrop refuses its arguments'),
]


@pytest.mark.parametrize('line, expected', DETECTION)
def test_a_mistake_in_a_detector_is_found_before_a_training(command, write, digits, line,
                                                            expected):
    said = command('train', write(DETECTOR, line + '\n'), '--data-root', digits)
    assert said.startswith('error: ') and re.search(expected, said), said


def test_a_softmax_loss_where_a_head_has_one_output_a_class_is_found(digits):
    cfg = load_config('mmdet::yolox/yolox_s_8xb8-300e_coco.py', {
        'model.bbox_head.loss_cls.use_sigmoid': False})
    assert [f.rule for f in preflight(Run(cfg, 'yolox', 'train'), CONFIG).errors] == [
        'softmax loss in a sigmoid place']
    cfg = load_config('mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py')
    assert not preflight(Run(cfg, 'rcnn', 'train'), CONFIG).findings
    cfg.model.roi_head.bbox_head.loss_cls = dict(type='AsymmetricLoss', use_sigmoid=True)
    assert [f.rule for f in preflight(Run(cfg, 'rcnn', 'train'), CONFIG).errors] == [
        'sigmoid loss in a softmax place']


OPTIONS = [
    (['model.head.loss.gamma_neg=abc'], "gamma_neg='abc' is text, and was 2.0"),
    (['train_dataloader.batch_size=two'], "batch_size='two' is text, and was 32"),
    (['train_dataloader.num_workers=[1,2]'], r'num_workers: \[1, 2\] \(a list\)'),
    (['model.head.loss.clip=None,0.1'], r"clip=\[None, 0.1\]"),
    (['model.head.loss.gamma_neg'], 'gamma_neg: expected KEY=VALUE'),
    (['=2'], '=2: expected KEY=VALUE'),
    (['model.head.loss.gamma_neg', '=', '2'], 'expected KEY=VALUE'),
    (['model.head.loss.class_weight=[1,2'], 'close every bracket'),
    (['model.head.loss.gama_neg=3'], 'is it gamma_neg'),
    (['model.haed.loss.gamma_neg=3'], 'MultiLabelClassifier has no argument .haed.: is it head'),
    (['model.head.loss.use_sigmoid=None'], 'use_sigmoid: None: expected True or False'),
    (['default_hooks.chekpoint.interval=1'], 'is it default_hooks.checkpoint'),
    (['randomness.seed=-1'], 'seed -1: expected a whole number'),
    (['train_cfg.max_epochs=ten'], "max_epochs='ten': expected a whole number"),
    (['model.head.loss.gamma_neg=abc', 'model.head.loss.clip=x'], "gamma_neg='abc'.*clip='x'"),
]


@pytest.mark.parametrize('options, expected', OPTIONS)
def test_an_option_of_a_wrong_kind_is_refused(command, digits, options, expected):
    said = command('train', CLASSIFIER, '--data-root', digits, '--cfg-options', *options)
    assert said.startswith('error: ') and re.search(expected, said), said


def test_everything_is_said_at_once(command, write, digits):
    config = write(CLASSIFIER, "optim_wrapper = dict(optimizer=dict(weigth_decay=1))\n"
                               "train_dataloader = dict(batch_size=0)\n"
                               "model = dict(head=dict(loss=dict(gama_neg=1)))\n")
    for tool in ('train', 'check'):
        said = command(tool, config, '--data-root', digits)
        assert all(word in said for word in ('weigth_decay', 'batch_size', 'gama_neg')), said
    assert 'errors' in said


def test_every_mistake_has_a_line_of_its_own(write, digits):
    cfg = load_config(str(write(CLASSIFIER, 'train_dataloader = dict(batch_size=0, num_workers=-1)'
                                            '\n')), {'data_root': str(digits)})
    with pytest.raises(PreflightError) as error:
        train(cfg, work_dir='never')
    lines = f'error: {one_line(error.value)}'.split('\n')
    assert len(lines) == 2 and all(re.match('error: .*train_dataloader', line) for line in lines)


def test_a_sweep_looks_at_its_variants_before_the_first_training(command, digits, tmp_path):
    said = command('sweep', CLASSIFIER, '--data-root', digits, '--variant', 'good',
                   'model.head.loss.clip=0', '--variant', 'bad', 'model.head.loss.gama_neg=1')
    assert re.search(r'\(bad\): model.head.loss.gama_neg', said), said


@pytest.mark.parametrize('name', ['with space', 'a,b', 'c[1]', "it's(2)", 'e=f'])
def test_paths_are_taken_as_they_are(tmp_path, digits, name):
    folder = tmp_path / name
    folder.symlink_to(digits)
    parser = argparse.ArgumentParser()
    add_config(parser)
    args = parser.parse_args(['c.py', '--cfg-options', 'train_dataloader.batch_size=4',
                              f'train_dataloader.dataset.data_root={folder}'])
    assert config_options(args) == {'train_dataloader.dataset.data_root': str(folder),
                                'train_dataloader.batch_size': 4}
    config = tmp_path / f'{name}.py'
    config.write_text(f'_base_ = {CLASSIFIER!r}\n')
    cfg = load_config(str(config), {'data_root': str(folder)})
    assert not preflight(Run(cfg, str(config), 'train', work_dir=str(folder / 'run'))).findings


def test_a_check_that_fails_is_an_error_and_stops_no_other(monkeypatch):
    def broken(run):
        yield Finding('a', 'here', 'first')
        raise KeyError('x')

    def refusing(run):
        raise UserError('no')
        yield

    def good(run):
        yield Finding('b', 'there', 'second', error=False)

    checks = [broken, refusing, good]
    report = preflight(Run(None, 'c.py', 'train'), checks)
    assert [f.rule for f in report.findings] == ['a', 'check failed', 'refusing', 'b']
    assert [f.error for f in report.findings] == [True, True, True, False]
    assert 'ASL_DET_IGNORE_CHECKS=broken' in report.findings[1].message
    monkeypatch.setenv('ASL_DET_IGNORE_CHECKS', 'broken, refusing')
    again = preflight(Run(None, 'c.py', 'train'), checks)
    assert [f.message for f in again.findings] == [f.message for f in report.findings]
    assert not again.errors
    monkeypatch.setenv('ASL_DET_IGNORE_CHECKS', 'brokn')
    with pytest.raises(UserError, match='there is no check brokn; there are check_top_k.*good'):
        preflight(Run(None, 'c.py', 'train'), checks)


def test_a_training_starts_past_a_check_only_when_it_is_asked_to(command, write, digits, tmp_path,
                                                                 monkeypatch):
    config = write(CLASSIFIER)
    monkeypatch.setattr('asl_det.preflight.images.check_image', lambda *args: 1 / 0)
    monkeypatch.setattr('asl_det.preflight.images.build_loader', lambda *args: 1 / 0)
    said = command('train', config, '--data-root', digits)
    assert said.count('check_images could not look at it (ZeroDivisionError') == 2  # train and val
    monkeypatch.setenv('ASL_DET_IGNORE_CHECKS', 'check_images')
    monkeypatch.setattr('asl_det.training.screen.build_runner',
                        lambda cfg: sys.exit('it starts'))
    assert run_command('train', config, '--data-root', digits, '--work-dir',
                       tmp_path / 'run') == 'it starts'


def test_a_line_without_a_file_name_hides_no_broken_image_behind_it(command, write, tmp_path):
    Image.new('RGB', (32, 32)).save(tmp_path / '1.png')
    (tmp_path / '2.png').write_text('no image')
    (tmp_path / 'a.csv').write_text('1.png,cat\n,dog\n2.png,dog\n')
    said = command('check', write(CLASSIFIER, f"""
train_dataloader = dict(dataset=dict(_delete_=True, type='CSVMultiLabelDataset', ann_file='a.csv',
    data_root={str(tmp_path)!r}, metainfo=dict(classes=('cat', 'dog')),
    pipeline=[dict(type='LoadImageWithPillow'), dict(type='PackMultiLabel')]))
"""))
    assert 'line 2: has no file name' in said
    assert '2.png: is no image' in said


@pytest.mark.parametrize('config', [
    DETECTOR, CLASSIFIER, 'mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py',
    'mmdet::detr/detr_r50_8xb2-150e_coco.py', 'mmdet::yolox/yolox_s_8xb8-300e_coco.py',
    'mmdet::mask2former/mask2former_r50_8xb2-lsj-50e_coco.py', 'mmdet::fcos/fcos_r50-caffe_fpn_gn-'
    'head_1x_coco.py', 'mmdet::cascade_rcnn/cascade-mask-rcnn_r50_fpn_1x_coco.py',
    'mmdet::rtmdet/rtmdet_tiny_8xb32-300e_coco.py', 'mmdet::vfnet/vfnet_r50_fpn_1x_coco.py',
    'mmdet::sparse_rcnn/sparse-rcnn_r50_fpn_1x_coco.py', 'mmdet::ssd/ssd300_coco.py',
    'mmdet::queryinst/queryinst_r50_fpn_1x_coco.py', 'mmdet::htc/htc_r50_fpn_1x_coco.py',
    'mmdet::solov2/solov2_r50_fpn_1x_coco.py'])
def test_a_good_config_has_no_findings(config):
    cfg = load_config(config)
    assert not preflight(Run(cfg, config, 'check'), CONFIG).lines()


@pytest.mark.parametrize('name', [
    'retinanet/retinanet_r50_fpn_1x_coco', 'atss/atss_r50_fpn_1x_coco',
    'faster_rcnn/faster-rcnn_r50_fpn_1x_coco', 'cascade_rcnn/cascade-rcnn_r50_fpn_1x_coco',
    'mask_rcnn/mask-rcnn_r50_fpn_1x_coco', 'yolox/yolox_s_8xb8-300e_coco',
    'deformable_detr/deformable-detr_r50_16xb2-50e_coco',
    'sparse_rcnn/sparse-rcnn_r50_fpn_1x_coco'])
def test_a_loss_that_was_put_in_is_no_mistake(name):
    cfg = load_config(f'mmdet::{name}.py', {'loss': 'asl'}, quiet=True)
    assert preflight(Run(cfg, name, 'check'), CONFIG).errors == []
