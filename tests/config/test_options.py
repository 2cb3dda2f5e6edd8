"""One value of the command line reaches every place of a config, or is refused."""

from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import OneCycleLR

from asl_det.engine import load_config
from asl_det.errors import UserError

DIGITS = 'configs/multilabel/resnet18-w16_asl_digits.py'
COCO18 = 'configs/multilabel/efficientnet-lite0_asl_coco18.py'
DETECTION = 'configs/digits/retinanet_r18-w16_fpn_asl-800i_digits.py'
OWN_DATA = 'configs/own_data/retinanet_r18-w16_fpn_asl-12e_deeppcb.py'
RETINANET = 'mmdet::retinanet/retinanet_r50_fpn_1x_coco.py'
RTMDET = 'mmdet::rtmdet/rtmdet_tiny_8xb32-300e_coco.py'
YOLOX = 'mmdet::yolox/yolox_s_8xb8-300e_coco.py'
PANOPTIC = 'mmdet::panoptic_fpn/panoptic-fpn_r50_fpn_1x_coco.py'


@pytest.fixture
def scheduled(tmp_path):
    """Writes a config with other schedulers, as mmdet's configs have them."""

    def write(base, *schedulers):
        path = tmp_path / 'scheduled.py'
        path.write_text(f'_base_ = {str(Path(base).resolve())!r}\n'
                        f'param_scheduler = {list(schedulers)}\n')
        return str(path)

    return write


BY_EPOCH = dict(type='OneCycleLR', eta_max=2e-3, total_steps=10, pct_start=0.2, by_epoch=True,
                convert_to_iter_based=True)
BY_ITERATION = dict(type='OneCycleLR', eta_max=2e-3, total_steps=800, by_epoch=False)


def strings(node):
    if isinstance(node, str):
        yield node
    elif isinstance(node, (dict, list, tuple)):
        for value in node.values() if isinstance(node, dict) else node:
            yield from strings(value)


@pytest.mark.parametrize('config, old', [
    (DIGITS, 'data/digits_multilabel'), (DETECTION, 'data/digits'), (OWN_DATA, 'data/deeppcb'),
    (RETINANET, 'data/coco'), (YOLOX, 'data/coco'), (PANOPTIC, 'data/coco')])
@pytest.mark.parametrize('root', ['/else/where', 's3://bucket/where/'])
def test_a_data_root_replaces_the_old_one_in_data_sets_and_evaluators(config, old, root):
    cfg = load_config(config, {'data_root': root})
    parts = [cfg[f'{split}_{part}'] for split in ('train', 'val', 'test')
             for part in ('dataloader', 'evaluator') if f'{split}_{part}' in cfg]
    paths = [s for s in strings(parts) if s.startswith((root.rstrip('/'), old))]
    assert len(paths) >= 3 and all(p.startswith(root.rstrip('/') + '/') for p in paths)
    before = [s for s in strings([load_config(config)[k] for k in cfg if k.endswith('_evaluator')])
              if s.startswith(old)]
    after = [s for s in strings([cfg[k] for k in cfg if k.endswith('_evaluator')])
             if s.startswith(root.rstrip('/'))]
    assert [s.removeprefix(old) for s in before] == [
        s.removeprefix(root.rstrip('/')) for s in after]


def test_a_folder_whose_name_only_begins_like_the_root_stays():
    cfg = load_config('configs/multilabel/efficientnet-lite0_asl_coco18_cached.py',
                      {'data_root': 'x'})
    assert cfg.train_dataloader.dataset.data_root == 'x/'
    assert cfg.train_dataloader.dataset.pipeline[0].folder == 'data/coco18_features/'


def test_what_an_option_says_about_one_data_set_comes_after_the_common_root():
    cfg = load_config(DIGITS, {'data_root': 'a', 'val_dataloader.dataset.data_root': 'b/'})
    roots = [cfg[f'{split}_dataloader'].dataset.data_root for split in ('train', 'val', 'test')]
    assert roots == ['a/', 'b/', 'a/']


@pytest.mark.parametrize('key', ['max_epochs', 'train_cfg.max_epochs'])
@pytest.mark.parametrize('epochs', [5, 20])
def test_a_one_cycle_schedule_is_as_long_as_the_training(scheduled, key, epochs):
    cfg = load_config(scheduled(DIGITS, BY_EPOCH), {key: epochs})
    assert cfg.train_cfg.max_epochs == epochs == cfg.param_scheduler[0].total_steps


def test_schedules_keep_their_shape_at_another_length(scheduled):
    config = scheduled(COCO18, dict(type='LinearLR', start_factor=0.1, end=1, by_epoch=True,
                                    convert_to_iter_based=True),
                       dict(type='CosineAnnealingLR', begin=1, end=6, T_max=5, by_epoch=True,
                            convert_to_iter_based=True))
    before, after = load_config(config), load_config(config, {'max_epochs': 3})
    assert before.train_cfg.max_epochs == 6 and after.train_cfg.max_epochs == 3
    for old, new in zip(before.param_scheduler, after.param_scheduler, strict=True):
        assert new.get('begin', 0) == old.get('begin', 0) / 2 and new.end == old.end / 2
    retinanet = load_config(RETINANET, {'max_epochs': 24})
    warm_up, steps = retinanet.param_scheduler
    assert warm_up.end == 500  # iterations do not depend on the number of epochs
    assert list(steps.milestones) == [16, 22] and steps.end == 24
    assert load_config(RETINANET, {'max_epochs': 1}).param_scheduler[1].end == 1


def test_hooks_and_intervals_that_wait_for_an_epoch_keep_their_place():
    cfg = load_config(RTMDET, {'max_epochs': 30})
    cosine = cfg.param_scheduler[1]
    assert (cosine.begin, cosine.end, cosine.T_max) == (15, 30, 15)
    assert [h.switch_epoch for h in cfg.custom_hooks if 'switch_epoch' in h] == [28]
    assert cfg.train_cfg.dynamic_intervals == [(28, 1)]
    cfg = load_config(YOLOX, {'max_epochs': 10})
    assert [h.num_last_epochs for h in cfg.custom_hooks if 'num_last_epochs' in h] == [1]


def test_a_training_by_iterations_has_its_schedule_follow_and_refuses_epochs(scheduled):
    config = scheduled(DETECTION, BY_ITERATION)
    cfg = load_config(config, {'train_cfg.max_iters': 40})
    assert cfg.param_scheduler[0].total_steps == 40
    kept = load_config(config, {'train_cfg.max_iters': 40, 'param_scheduler.0.total_steps': 800})
    assert kept.param_scheduler[0].total_steps == 800
    with pytest.raises(UserError, match=r'max_epochs=3: .*\(800\).*train_cfg.max_iters='):
        load_config(DETECTION, {'max_epochs': 3})


@pytest.mark.parametrize('value', [0, -1, 2.5, True, 'ten', [1, 2]])
def test_a_length_that_is_no_number_of_epochs_is_refused(value):
    with pytest.raises(UserError, match='max_epochs=.*expected a whole number'):
        load_config(DIGITS, {'max_epochs': value})


def test_a_length_given_twice_is_refused_unless_it_is_the_same():
    with pytest.raises(UserError, match='given twice: max_epochs=2, train_cfg.max_epochs=3'):
        load_config(DIGITS, {'max_epochs': 2, 'train_cfg.max_epochs': 3})
    assert load_config(DIGITS, {'max_epochs': 2, 'train_cfg.max_epochs': 2}).train_cfg[
        'max_epochs'] == 2


def test_a_learning_rate_is_the_one_that_parameters_get(scheduled):
    cfg = load_config(scheduled(DIGITS, BY_EPOCH), {'lr': 1e-2})
    assert cfg.optim_wrapper.optimizer.lr == 1e-2
    schedule = dict(cfg.param_scheduler[0])
    optimizer = torch.optim.AdamW([torch.zeros(1, requires_grad=True)],
                                  cfg.optim_wrapper.optimizer.lr)
    for name in ('type', 'by_epoch', 'convert_to_iter_based'):
        schedule.pop(name)
    scheduler = OneCycleLR(optimizer, **{**schedule, 'total_steps': 100})
    rates = []
    for _ in range(99):
        rates.append(optimizer.param_groups[0]['lr'])
        optimizer.step()
        scheduler.step()
    assert max(rates) == pytest.approx(1e-2)
    assert load_config(COCO18, {'lr': 1e-4}).optim_wrapper.optimizer.lr == 1e-4
    before, after = load_config(RTMDET), load_config(RTMDET, {'lr': 4e-4})
    assert after.optim_wrapper.optimizer.lr == 4e-4
    ratio = 4e-4 / before.optim_wrapper.optimizer.lr
    assert after.param_scheduler[1].eta_min == pytest.approx(
        before.param_scheduler[1].eta_min * ratio)


@pytest.mark.parametrize('value', [0, -1e-3, 'big', float('inf'), float('nan')])
def test_a_learning_rate_that_is_none_is_refused(value):
    with pytest.raises(UserError, match='lr=.*expected a number above 0'):
        load_config(DIGITS, {'lr': value})


@pytest.mark.parametrize('config, options, expected', [
    (DIGITS, {'train_pipeline.0.type': 'X'},
     'ignored: train_pipeline .* train_dataloader.dataset.pipeline.0.type='),
    (COCO18, {'train_pipeline': ()}, 'ignored.*train_dataloader.dataset.pipeline'),
    (DETECTION, {'asl_loss.gamma_neg': 1}, 'ignored.*model.bbox_head.loss_cls.gamma_neg='),
    (RETINANET, {'dataset_type': 'X'}, 'ignored.*test_dataloader.dataset.type='),
    (RETINANET, {'data_preprocessor.mean': 0}, 'ignored.*model.data_preprocessor.mean='),
    (DIGITS, {'vis_backends.0.type': 'X'}, 'visualizer.vis_backends.0.type='),
    (DIGITS, {'modle.head.dropout': 0.5}, 'ignored: the config has no such key'),
    (DIGITS, {'launcher': 'pytorch'}, 'use --launcher'),
    (DIGITS, {'auto_scale_lr.enabled': True}, 'auto_scale_lr has base_batch_size, enable'),
    (DIGITS, {'param_scheduler.7.begin': 1}, 'cfg-options param_scheduler.7.begin: .*Index 7'),
])
def test_an_option_that_would_be_ignored_is_refused_with_what_to_use(config, options, expected):
    with pytest.raises(UserError, match=expected):
        load_config(config, options)


@pytest.mark.parametrize('options, expected', [
    ({'optim_wrapper.optimizer.lr': 1}, r'ignored.*param_scheduler.0.eta_max.*--lr 1 '),
    ({'optim_wrapper.paramwise_cfg.custom_keys.head.lr_mult': 9}, 'ignored: OneCycleLR')])
def test_a_learning_rate_that_mmengines_one_cycle_would_ignore_is_refused(scheduled, options,
                                                                          expected):
    with pytest.raises(UserError, match=expected):
        load_config(scheduled(DIGITS, BY_EPOCH), options)
    assert load_config(DIGITS, options)  # OneCycle takes it from there


def test_a_learning_rate_beside_one_cycle_passes_where_the_peak_is_given_too(scheduled):
    cfg = load_config(scheduled(DIGITS, BY_EPOCH), {'optim_wrapper.optimizer.lr': 1e-2,
                                                    'param_scheduler.0.eta_max': 1e-2})
    assert cfg.param_scheduler[0].eta_max == 1e-2


def test_settings_without_a_single_place_are_refused(tmp_path):
    path = tmp_path / 'two.py'
    path.write_text('train_dataloader = dict(dataset=dict(type="ConcatDataset", datasets=[\n'
                    '    dict(data_root="a/", ann_file="x"),\n'
                    '    dict(data_root="b/", ann_file="x")]))\n'
                    'optim_wrapper = dict(constructor="Mine", g=dict(optimizer=dict(lr=1.0)))\n')
    with pytest.raises(UserError, match=r'several roots \(a, b\): give the paths of each'):
        load_config(str(path), {'data_root': 'c'})
    with pytest.raises(UserError, match='no optim_wrapper.optimizer.lr'):
        load_config(str(path), {'lr': 1e-3})
    with pytest.raises(UserError, match='no train_cfg.max_epochs'):
        load_config(str(path), {'max_epochs': 3})
    path.write_text('param_scheduler = [dict(type="OneCycleLR", eta_max=[1.0, 2.0])]\n'
                    'optim_wrapper = dict(optimizer=dict(lr=1.0))\n')
    with pytest.raises(UserError, match='several values of eta_max'):
        load_config(str(path), {'lr': 1e-3})


def test_every_config_states_the_batch_that_its_learning_rate_is_for():
    for path in Path('configs').rglob('*.py'):
        if '_base_' not in path.parts:
            cfg = Config.fromfile(path)
            assert cfg.auto_scale_lr.base_batch_size >= 16, path
            if 'coco' not in path.name or 'multilabel' in path.parts:  # those of mmdet: 8 GPUs
                assert cfg.auto_scale_lr.base_batch_size == cfg.train_dataloader.batch_size, path


def test_classes_name_the_data_sets_and_size_every_head():
    cfg = load_config('mmdet::cascade_rcnn/cascade-rcnn_r50_fpn_1x_coco.py',
                      {'classes': ['cat', 'dog']})
    assert [h.num_classes for h in cfg.model.roi_head.bbox_head] == [2, 2, 2]
    for split in ('train', 'val', 'test'):
        assert cfg[f'{split}_dataloader'].dataset.metainfo == dict(classes=('cat', 'dog'))
    inner = load_config(YOLOX, {'classes': ['cat']})
    assert inner.train_dataloader.dataset.dataset.metainfo.classes == ('cat',)
    assert inner.model.bbox_head.num_classes == 1
    with pytest.raises(UserError, match='a name stands twice'):
        load_config(YOLOX, {'classes': ['cat', 'cat']})
    with pytest.raises(UserError, match='no num_classes'):
        load_config('mmdet::common/ms_3x_coco.py', {'classes': ['cat']})


@pytest.mark.parametrize('options, expected', [
    ({'custom_hooks.2.interval': 1}, '2 is a place in a list, and the config has no list custom_h'),
    ({'train_cfg.0.interval': 1}, '0 is a place in a list, and the config has train_cfg='),
    ({'model.neck.3': 1}, '3 is a place in a list, and the config has model.neck=')])
def test_a_place_in_a_list_that_is_none_is_refused(options, expected):
    with pytest.raises(UserError, match=expected):
        load_config(RETINANET, options)


@pytest.mark.parametrize('config', [RETINANET, 'mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py'])
def test_classes_are_given_to_a_model_with_one_class_and_not_to_proposals(config, tmp_path):
    cfg = load_config(config, {'classes': ['cat']})  # now a config with one class
    cfg.dump(tmp_path / 'one.py')
    two = load_config(str(tmp_path / 'one.py'), {'classes': ['cat', 'dog']}).model
    head = two.roi_head.bbox_head if 'roi_head' in two else two.bbox_head
    assert head.num_classes == 2 and 'num_classes' not in two.get('rpn_head', {})
