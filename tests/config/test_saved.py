"""A config that travels in a checkpoint is data: nothing in it is executed."""

import pytest
from mmengine.config import Config
from tiny_networks import classifier_config

from asl_det.config.literals import read_literals
from asl_det.config.saved import saved_config
from asl_det.errors import UserError


def checkpoint(text):
    return dict(meta=dict(cfg=text))


def with_change(change):
    cfg = classifier_config()
    change(cfg)
    return checkpoint(cfg.pretty_text)


def test_what_mmengine_writes_is_read_as_it_was():
    content = dict(
        a=dict(type='X', scale=(1, -2.5), nested=[dict(b=None), [1, (2, )], 'it\'s "\n']),
        odd={'0': 1, 'a.b': dict(c=True), 3: 'x'}, empty=dict(), nothing=[], name='a', big=1e-9,
        flag=False)
    assert read_literals(Config(content).pretty_text, 'config') == content
    cfg = Config.fromfile('configs/digits/retinanet_r18-w16_fpn_asl-800i_digits.py')
    assert read_literals(cfg.pretty_text, 'config') == cfg.to_dict()


@pytest.mark.parametrize('text', [
    "import os\nos.system('touch {0}')",
    "model = __import__('pathlib').Path('{0}').touch()",
    "model = dict(a=[open('{0}', 'w') for _ in (1,)])",
    "model = dict(type='X', **dict(a=open('{0}', 'w')))",
    "model = (lambda: open('{0}', 'w'))()",
    "model = f\"{{open('{0}', 'w')}}\"",
    "class model:\n    x = open('{0}', 'w')",
    "model = dict.fromkeys([open('{0}', 'w')])",
    "if open('{0}', 'w'):\n    model = 1"])
def test_nothing_is_executed(text, tmp_path):
    with pytest.raises(UserError, match=r'tiny.pth, line \d: .*is no plain value'):
        saved_config(checkpoint(text.format(tmp_path / 'run')), 'tiny.pth')
    assert not (tmp_path / 'run').exists()


@pytest.mark.parametrize('text', ['model = dict(', 'model = ' + '(' * 5000, 'model = {[]: 1}',
                                  'a = "\0"'])
def test_what_can_not_be_read_is_told_in_one_error(text):
    with pytest.raises(UserError, match='tiny.pth can not be read'):
        saved_config(checkpoint(text), 'tiny.pth')


@pytest.mark.parametrize('change', [
    lambda c: c.model.update(type='os.system'),
    lambda c: c.model.update(type='subprocess'),
    lambda c: c.model.head.update(type='mmengine.utils.call_command'),
    lambda c: c.model.update(test_cfg=dict(nms=dict(type="__import__('os').getcwd()"))),
    lambda c: c.model.update(tracker=dict(type='CameraMotionCompensation', warp_mode='print(1)')),
    lambda c: c.model.update(language_model=dict(type='BertModel', name='someone/something')),
    lambda c: c.test_dataloader.dataset.pipeline.append(dict(type='runpy.run_path', path='x.py')),
    lambda c: c.test_dataloader.dataset.pipeline.append(dict(
        type='RandomResize', scale=(1, 1), resize_type='subprocess.Popen', args='true')),
    lambda c: c.model.head.update(conv_type='antigravity'),
    lambda c: c.model.head.update(padding_mode='antigravity'),
    lambda c: c.model.backbone.update(_scope_='someone'),
    lambda c: c.model.update(teacher_config='x.py'),
    lambda c: c.update(custom_imports=dict(imports=['antigravity'])),
    lambda c: c.update(custom_imports='this')])
def test_code_is_not_called_by_its_name_either(change):
    with pytest.raises(UserError, match='asl-det infer CONFIG CHECKPOINT'):
        saved_config(with_change(change), 'tiny.pth')


def test_classes_may_be_named_with_their_scope_or_module():
    def change(cfg):
        cfg.model.type = 'mmdet.MultiLabelClassifier'
        cfg.model.data_preprocessor.type = (
            'mmengine.model.base_model.data_preprocessor.ImgDataPreprocessor')
        cfg.model.head.type = 'asl_det.multilabel.heads.LinearHead'

    model = saved_config(with_change(change), 'tiny.pth').model
    assert model.type == 'mmdet.MultiLabelClassifier'
    assert model.data_preprocessor.type == 'ImgDataPreprocessor'
    assert model.head.type == 'LinearHead'


def test_a_checkpoint_without_a_config_says_what_to_give():
    for content in ({}, dict(meta={}), dict(meta=dict(cfg='model = 1'))):
        with pytest.raises(UserError, match='give'):
            saved_config(content, 'tiny.pth')
