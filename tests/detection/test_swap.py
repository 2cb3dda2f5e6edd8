"""Another loss in a config: what changes, what stays, what is refused."""

import argparse
import copy
from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.hub import get_config

from asl_det.commands.command_line import add_config, config_options
from asl_det.detection import KINDS, PRESETS, swap_losses, take_swap
from asl_det.detection.presets import OVER_MARGIN
from asl_det.engine import default_work_dir, load_config
from asl_det.errors import UserError

DIGITS = 'configs/digits/retinanet_r18-w16_fpn_800i_digits.py'
FASTER = 'mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py'


def mmdet(name):
    return get_config(f'mmdet::{name}.py')


def head(loss=None, **settings):
    """A config with one dense head."""
    loss = loss or dict(type='FocalLoss', use_sigmoid=True, gamma=2.0, alpha=0.25, loss_weight=1.0)
    return Config(dict(model=dict(bbox_head=dict(type='RetinaHead', loss_cls=loss)), **settings))


def hooks(cfg, name):
    return [hook for hook in cfg.get('custom_hooks') or [] if hook['type'] == name]


def test_how_a_head_calls_its_loss_stays():
    old = dict(type='FocalLoss', use_sigmoid=True, loss_weight=2.5, reduction='none',
               activated=True, gamma=1.0)
    cfg = head(old)
    (swap,) = swap_losses(cfg, 'asl', clip=0.1)
    assert cfg.model.bbox_head.loss_cls == dict(
        type='AsymmetricLoss', use_sigmoid=True, gamma_neg=2.0, gamma_pos=0.0, clip=0.1,
        loss_weight=2.5, reduction='none', activated=True)
    assert (swap.path, swap.kind, swap.old) == ('bbox_head.loss_cls', 'dense', old)
    swap_losses(cfg, 'focal', loss_weight=3.0)
    assert cfg.model.bbox_head.loss_cls.loss_weight == 3.0


def test_only_classes_are_replaced():
    cfg = mmdet('fcos/fcos_r50-caffe_fpn_gn-head_1x_coco')
    before = copy.deepcopy(cfg.model)
    assert [s.path for s in swap_losses(cfg)] == ['bbox_head.loss_cls']
    del cfg.model.bbox_head['loss_cls'], before.bbox_head['loss_cls']
    assert cfg.model == before


@pytest.mark.parametrize('name, expected', {
    'retinanet/retinanet_r50_fpn_1x_coco': {'bbox_head.loss_cls': 'dense'},
    'atss/atss_r50_fpn_1x_coco': {'bbox_head.loss_cls': 'centerness'},
    'fcos/fcos_r50-caffe_fpn_gn-head_1x_coco': {'bbox_head.loss_cls': 'centerness'},
    'ddod/ddod_r50_fpn_1x_coco': {'bbox_head.loss_cls': 'centerness'},
    'vfnet/vfnet_r50_fpn_1x_coco': {'bbox_head.loss_cls': 'soft'},
    'yolox/yolox_tiny_8xb8-300e_coco': {'bbox_head.loss_cls': 'dense'},
    'yolo/yolov3_mobilenetv2_8xb24-320-300e_coco': {'bbox_head.loss_cls': 'dense'},
    'dino/dino-4scale_r50_8xb2-12e_coco': {'bbox_head.loss_cls': 'detr'},
    'cascade_rcnn/cascade-rcnn_r50_fpn_1x_coco': {
        'rpn_head.loss_cls': 'rpn', **{f'roi_head.bbox_head.{i}.loss_cls': 'roi'
                                       for i in range(3)}},
    'tood/tood_r50_fpn_1x_coco': {'bbox_head.initial_loss_cls': 'dense',
                                  'bbox_head.loss_cls': 'soft'},
    'gfl/gfl_r50_fpn_1x_coco': {'bbox_head.loss_cls': 'soft'},
    'cornernet/cornernet_hourglass104_10xb5-crop511-210e-mstest_coco': {},
    'ssd/ssd300_coco': {},
}.items())
def test_every_kind_of_head_is_found(name, expected):
    cfg = mmdet(name)
    if not expected:
        with pytest.raises(UserError):
            swap_losses(cfg, where=tuple(KINDS))
        return
    assert {s.path: s.kind for s in swap_losses(cfg, where=tuple(KINDS))} == expected
    cfg, asked = mmdet(name), {p: k for p, k in expected.items() if k not in ('rpn', 'soft')}
    if asked:
        assert {s.path: s.kind for s in swap_losses(cfg)} == asked


def test_a_head_whose_loss_is_the_default_of_its_class_is_served():
    cfg = Config(dict(model=dict(bbox_head=dict(type='FCOSHead', num_classes=3, in_channels=8))))
    assert swap_losses(cfg)[0].old['type'] == 'FocalLoss'
    assert cfg.model.bbox_head.loss_cls.type == 'AsymmetricLoss'


@pytest.mark.parametrize('name, why', {
    'gfl/gfl_r50_fpn_1x_coco': r'QualityFocalLoss \(a soft head, which --loss-where soft asks',
    'detr/detr_r50_8xb2-150e_coco': r'bbox_head.loss_cls CrossEntropyLoss \(softmax',
    'free_anchor/freeanchor_r50_fpn_1x_coco': r'\(the head computes its own loss\)',
    'centernet/centernet-update_r50-caffe_fpn_ms-1x_coco': r'maps of centres',
    'double_heads/dh-faster-rcnn_r50_fpn_1x_coco': r'a rpn head.*built for softmax.*no loss of c',
    'ssd/ssd300_coco': 'the model of the config has no loss',
}.items())
def test_a_config_with_nothing_to_replace_says_why_in_one_line(name, why):
    cfg = mmdet(name)
    before = copy.deepcopy(cfg.to_dict())
    with pytest.raises(UserError, match=why) as error:
        swap_losses(cfg)
    assert '\n' not in str(error.value) and cfg.to_dict() == before


@pytest.mark.parametrize('loss, options, says', [
    ('als', {}, 'did you mean asl.*asl, asl-adaptive, focal, bce'),
    ('FocalLos', {}, 'did you mean FocalLoss'),
    ('asl', dict(gama_neg=1), r'--loss-options gama_neg: AsymmetricLoss .*did you mean gamma_neg'),
    ('focal', dict(clip=0.1), 'FocalLoss .*no such option.*gamma'),
    ('focal', dict(margin_rise=0.1), 'margin_rise: FocalLoss'),
    ('asl', dict(clip=2), r'clip=2: expected a probability margin in \[0, 1\)'),
    ('asl', dict(prior=1), 'prior=1: expected a number above 0 and below 1'),
    ('asl', dict(margin_rise=2), 'margin_rise=2: expected a number above 0 and up to 1'),
    ('asl', dict(clip=0, margin_rise=0.5), 'no margin to rise'),
    ('asl', dict(where=['denze']), 'did you mean dense'),
    ('SmoothL1Loss', {}, 'is a head of independent classes'),
    ('AsymmetricLossSingleLabel', {}, 'is a head of independent classes'),
])
def test_mistakes_name_what_is_known(loss, options, says):
    cfg = head()
    with pytest.raises(UserError, match=says):
        swap_losses(cfg, loss, **options)
    assert cfg.model.bbox_head.loss_cls.type == 'FocalLoss'


def test_a_way_of_calling_that_the_new_loss_does_not_know_is_an_error():
    cfg = head(dict(type='FocalLoss', use_sigmoid=True, activated=True))
    with pytest.raises(UserError, match='bbox_head.loss_cls needs activated=True'):
        swap_losses(cfg, 'CrossEntropyLoss', use_sigmoid=True)


def test_a_loss_by_its_registered_name_has_its_own_defaults():
    cfg = head()
    swap_losses(cfg, 'GHMC', bins=20)
    assert cfg.model.bbox_head.loss_cls == dict(type='GHMC', use_sigmoid=True, bins=20,
                                                loss_weight=1.0)
    assert not cfg.get('custom_hooks')


def test_options_reach_into_dicts_of_a_preset():
    cfg = head()
    swap_losses(cfg, 'asl-adaptive', **{'adaptive.step_size': 0.3})
    assert cfg.model.bbox_head.loss_cls.adaptive == dict(delta_p_target=0.1, step_size=0.3)
    assert cfg.default_hooks.adaptive_gamma == dict(type='AdaptiveGammaHook')
    assert 'step_size' not in PRESETS['asl-adaptive']['dense']['adaptive']


def test_hooks_of_the_config_stay_and_those_of_an_earlier_loss_go():
    mine = dict(type='EMAHook')
    cfg = head(custom_hooks=[mine])
    swap_losses(cfg, 'asl', margin_rise=0.4)
    assert cfg.custom_hooks == [
        mine, dict(type='ClassifierPriorHook', prior=0.42, heads=['bbox_head']),
        dict(type='RisingMarginHook', share=0.4)]
    swap_losses(cfg, 'asl', prior=0.1)
    assert [h['prior'] for h in hooks(cfg, 'ClassifierPriorHook')] == [0.1]
    assert not hooks(cfg, 'RisingMarginHook')
    swap_losses(cfg, 'focal')
    assert cfg.custom_hooks == [mine]
    swap_losses(cfg, 'focal', prior=0.05)
    assert hooks(cfg, 'ClassifierPriorHook')[0]['prior'] == 0.05
    assert swap_losses(cfg, 'asl', prior=None)[0].prior is None and cfg.custom_hooks == [mine]


def test_classes_start_just_over_the_margin_that_was_asked_for():
    for kind, preset in PRESETS['asl'].items():
        if kind != 'multilabel':
            assert preset['prior'] == pytest.approx(preset['clip'] + OVER_MARGIN)
    for clip in (0.05, 0.6):
        (swap,) = swap_losses(head(), 'asl', clip=clip)
        assert swap.prior == round(clip + 0.02, 6) and swap.new['clip'] == clip
    assert swap_losses(head(), 'asl', clip=0.6, prior=0.7)[0].prior == 0.7
    assert swap_losses(head(), 'asl', clip=0.6, prior=None)[0].prior is None
    assert swap_losses(head(), 'focal', gamma=1.0)[0].prior is None
    with pytest.raises(UserError, match='clip'):
        swap_losses(head(), 'asl', clip='0.6')


def test_heads_of_one_prior_share_a_hook():
    cfg = mmdet('cascade_rcnn/cascade-rcnn_r50_fpn_1x_coco')
    swap_losses(cfg)
    assert hooks(cfg, 'ClassifierPriorHook') == [
        dict(type='ClassifierPriorHook', prior=0.07,
             heads=[f'roi_head.bbox_head.{i}' for i in range(3)])]


def test_a_classifier_of_images_takes_points_of_our_loss():
    cfg = load_config('configs/multilabel/resnet18-w16_bce_digits.py', dict(loss='focal'))
    loss = cfg.model.head.loss
    assert (loss.type, loss.gamma_pos, loss.gamma_neg, loss.clip) == ('AsymmetricLoss', 2, 2, 0)
    assert not hooks(cfg, 'ClassifierPriorHook')
    cfg = load_config('configs/multilabel/resnet18-w16_bce_digits.py', dict(loss='asl'))
    assert cfg.model.head.loss.clip == 0.05


def test_presets_are_complete_and_can_be_built():
    for loss, presets in PRESETS.items():
        assert set(presets) == set(KINDS), loss
    for loss in PRESETS:
        swap_losses(mmdet('cascade_rcnn/cascade-rcnn_r50_fpn_1x_coco'), loss, where=['rpn', 'roi'])
        swap_losses(mmdet('tood/tood_r50_fpn_1x_coco'), loss, where=['dense', 'soft'])


def test_the_flags_are_options_of_the_config(capsys, monkeypatch):
    monkeypatch.setenv('COLUMNS', '200')
    parser = argparse.ArgumentParser()
    add_config(parser)
    args = parser.parse_args([DIGITS, '--loss', 'asl', '--loss-options', 'clip=0.1', 'prior=0.15',
                              '--loss-where', 'dense'])
    cfg = load_config(args.config, config_options(args))
    assert cfg.model.bbox_head.loss_cls.clip == 0.1
    assert hooks(cfg, 'ClassifierPriorHook')[0]['prior'] == 0.15
    shown = capsys.readouterr().out
    for part in ('model.bbox_head.loss_cls (dense)', ' clip: - -> 0.1', 'classes start at: 0.15'):
        assert part in shown
    with pytest.raises(UserError, match='give --loss too'):
        load_config(DIGITS, config_options(parser.parse_args([DIGITS, '--loss-where', 'roi'])))
    later = {'loss': 'asl', 'model.bbox_head.loss_cls.gamma_neg': 3}
    assert load_config(DIGITS, later, quiet=True).model.bbox_head.loss_cls.gamma_neg == 3
    assert capsys.readouterr().out == ''


def test_options_of_a_loss_come_as_a_dict_or_one_by_one():
    options = {'loss': 'asl', 'loss_options': {'clip': 0.1, 'alpha': 0.3},
               'loss_options.clip': 0.2, 'lr': 1}
    assert take_swap(options) == dict(loss='asl', where=None, clip=0.2, alpha=0.3)
    assert options == dict(lr=1)
    assert take_swap({}) == {}


def test_a_run_with_another_loss_has_a_folder_of_its_own():
    assert default_work_dir(DIGITS, 'asl') == default_work_dir(DIGITS) + '-asl'


@pytest.mark.parametrize('name, loss', [(DIGITS, 'asl-adaptive'), (FASTER, 'asl')])
def test_the_dumped_config_alone_is_the_same(tmp_path, name, loss):
    cfg = load_config(name, {'loss': loss, 'loss_options': {'margin_rise': 0.5}}, quiet=True)
    cfg.dump(tmp_path / 'dumped.py')
    again = load_config(str(tmp_path / 'dumped.py'))
    assert again.to_dict() == cfg.to_dict()
    assert hooks(again, 'ClassifierPriorHook') and hooks(again, 'RisingMarginHook')


def test_the_diff_of_the_readme_is_what_the_flag_does():
    readme = Path('README.md').read_text()
    diff = readme[readme.index('```diff'):].split('```')[1]
    added = '\n'.join(line[1:] for line in diff.splitlines() if line.startswith('+'))
    cfg = head()
    (swap,) = swap_losses(cfg, 'asl')
    for key, value in PRESETS['asl']['dense'].items():
        assert f'{key}={value!r}' in added
    assert f"heads={cfg.custom_hooks[0]['heads']!r}" in added and swap.prior == 0.42
