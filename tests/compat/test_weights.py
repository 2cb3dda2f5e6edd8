"""Weights are where they should be: after init_weights, a training, a test, a resume."""

import copy
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
import torchvision
from mmengine.config import Config
from PIL import Image
from processes import python

from asl_det import engine
from asl_det.data.digits import make_digits
from asl_det.errors import UserError
from asl_det.multilabel import MLDecoderHead, MultiLabelClassifier, TimmBackbone
from asl_det.training.runner import build_runner

ASL = dict(type='AsymmetricLoss', use_sigmoid=True)
TINY = dict(type='TimmBackbone', model_name='test_resnet')


@pytest.fixture(scope='module')
def images(tmp_path_factory):
    root = tmp_path_factory.mktemp('images')
    rng = np.random.default_rng(0)
    for i in range(4):
        Image.fromarray(rng.integers(0, 255, (32, 32, 3), np.uint8)).save(root / f'{i}.png')
    (root / 'labels.csv').write_text(''.join(f'{i}.png,{"abcd"[i]}\n' for i in range(4)))
    return root


@pytest.fixture(scope='module')
def digits(tmp_path_factory):
    root = tmp_path_factory.mktemp('data') / 'digits'
    make_digits(root, num_train=32, num_val=2, size=64, digits_per_image=(1, 3),
                digit_size=(20, 32), clutter=0)
    return root


def config(images, backbone, size=32, head=None, classes='abcd', **more):
    """A run of two steps that changes nothing but batch statistics: the learning rate is 0."""
    pipeline = [dict(type='LoadImageFromFile', imdecode_backend='pillow'),
                dict(type='Resize', scale=(size, size)), dict(type='PackMultiLabel')]
    loader = dict(batch_size=2, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=False),
                  dataset=dict(type='CSVMultiLabelDataset', ann_file=str(images / 'labels.csv'),
                               metainfo=dict(classes=list(classes)), pipeline=pipeline,
                               data_prefix=dict(img_path=str(images))))
    model = dict(
        type='MultiLabelClassifier', backbone=backbone,
        head=dict(dict(type='LinearHead', num_classes=len(classes), loss=ASL), **head or {}),
        data_preprocessor=dict(type='ImgDataPreprocessor', mean=[127] * 3, std=[128] * 3))
    return Config(copy.deepcopy(dict(
        default_scope='mmdet', model=model, train_dataloader=loader, test_dataloader=loader,
        train_cfg=dict(type='EpochBasedTrainLoop', max_epochs=1), test_cfg=dict(type='TestLoop'),
        test_evaluator=dict(type='MultiLabelMetric'), randomness=dict(seed=0),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.0)),
        custom_hooks=[dict(type='EMAHook')], **more)))


def train(cfg, folder, **kwargs):
    cfg.experiment_name = folder.name
    return torch.load(engine.train(cfg, work_dir=str(folder), **kwargs), weights_only=False)


def log_of(folder):
    return ''.join(path.read_text() for path in folder.glob('*/*.log'))


NETWORKS = [
    ('TimmBackbone', 'resnet18', 32, {}),
    ('TimmBackbone', 'vit_tiny_patch16_224', 32, dict(img_size=32)),
    ('TimmBackbone', 'deit_tiny_patch16_224', 32, dict(img_size=32)),
    ('TimmBackbone', 'deit_tiny_distilled_patch16_224', 32, dict(img_size=32)),
    ('TimmBackbone', 'swin_tiny_patch4_window7_224', 32, dict(img_size=32)),
    ('TimmBackbone', 'vit_small_patch14_dinov2', 28, dict(img_size=28)),
    ('TorchvisionBackbone', 'resnet18', 32, {}),
    ('TorchvisionBackbone', 'convnext_tiny', 32, {}),
    ('TorchvisionBackbone', 'swin_t', 32, {}),
    ('TorchvisionBackbone', 'vit_b_32', 32, dict(image_size=32)),
    ('ResNet', 'resnet18', 32, {}),
]


@pytest.mark.parametrize('kind, name, size, options', NETWORKS,
                         ids=[f'{kind}-{name}' for kind, name, *_ in NETWORKS])
def test_pretrained_weights_are_those_of_the_checkpoint_after_a_training_without_learning(
        kind, name, size, options, images, tmp_path):
    source = (timm.create_model(name, **options) if kind == 'TimmBackbone'
              else torchvision.models.get_model(name, **options))
    torch.save(source.state_dict(), tmp_path / 'pretrained.pth')
    path = str(tmp_path / 'pretrained.pth')
    if kind == 'ResNet':
        prefix, head = 'backbone.', dict(in_channels=512)
        backbone = dict(type=kind, depth=18, out_indices=(3,), norm_eval=False,
                        init_cfg=dict(type='Pretrained', checkpoint=path))
    else:
        prefix, head = 'backbone.model.', {}
        backbone = dict(type=kind, model_name=name, checkpoint=path, **options)
    cfg = config(images, backbone, size, head, default_hooks=dict(checkpoint=None))
    cfg.custom_hooks = []
    cfg.update(work_dir=str(tmp_path), launcher='none', experiment_name=tmp_path.name)
    model = build_runner(cfg).train()
    parameters = [k for k, v in model.named_parameters() if k.startswith(prefix)]
    assert parameters
    for key in parameters:
        expected = source.get_parameter(key.removeprefix(prefix))
        assert torch.equal(model.get_parameter(key), expected), key


def test_a_checkpoint_is_the_start_of_a_training_by_the_command(digits, tmp_path):
    source = timm.create_model('resnet18')
    torch.save(source.state_dict(), tmp_path / 'pretrained.pth')
    text = Path('configs/multilabel/resnet18-w16_asl_digits.py').resolve()
    (tmp_path / 'config.py').write_text(
        f"_base_ = '{text}'\n"
        "model = dict(backbone=dict(_delete_=True, type='TimmBackbone', model_name='resnet18',\n"
        f"    checkpoint='{tmp_path}/pretrained.pth'),\n"
        "    head=dict(_delete_=True, type='LinearHead', num_classes=10, "
        "loss=dict(type='AsymmetricLoss', use_sigmoid=True)))\n"
        "optim_wrapper = dict(optimizer=dict(lr=0.0))\n"
        "param_scheduler = None\n"
        # An average of equal weights is rounded.
        "default_hooks = dict(ema=None)\nval_cfg = dict(_delete_=True, type='ValLoop')\n"
        "train_cfg = dict(max_epochs=1, val_interval=1)\n")
    result = python('tools/train.py', tmp_path / 'config.py', '--work-dir', tmp_path / 'run',
                    '--data-root', f'{digits}/')
    assert result.returncode == 0, result.stderr[-3000:]
    saved = torch.load(tmp_path / 'run/epoch_1.pth', weights_only=False)['state_dict']
    for key, value in source.named_parameters():
        if not key.startswith('fc.'):
            assert torch.equal(saved[f'backbone.model.{key}'], value), key


def test_no_parameter_depends_on_what_was_in_memory_before(monkeypatch):
    def built():
        torch.manual_seed(0)
        return MLDecoderHead(7, 8, ASL, num_groups=3, embed_dims=16)

    plain = built()
    empty = torch.empty
    monkeypatch.setattr(torch, 'empty', lambda *a, **k: empty(*a, **k).fill_(float('nan')))
    for name, value in built().state_dict().items():
        assert torch.equal(value, plain.state_dict()[name]), name


@pytest.fixture(scope='module')
def trained(images, tmp_path_factory):
    folder = tmp_path_factory.mktemp('trained')
    train(config(images, TINY), folder)
    return folder / 'epoch_1.pth'


def evaluate(cfg, checkpoint, folder, **kwargs):
    cfg.experiment_name = folder.name
    return engine.test(cfg, str(checkpoint), work_dir=str(folder), **kwargs)


def test_a_checkpoint_of_another_network_is_not_evaluated(images, trained, tmp_path):
    assert evaluate(config(images, TINY), trained, tmp_path / 'same')
    other = config(images, dict(type='TimmBackbone', model_name='test_vit', img_size=32))
    for partial in (False, True):  # nothing fits, so there is nothing to be partial about
        with pytest.raises(UserError, match=r'epoch_1.pth: does not fit MultiLabelClassifier, 1 of '
                           r'\d+ weights.*missing: backbone.model.cls_token.*left over: '):
            evaluate(other, trained, tmp_path / f'other-{partial}', partial=partial)
    with pytest.raises(UserError, match=r'trained on 4 classes \(a, b, c, d\), but the data '
                       r'set of test_dataloader.dataset has 5'):
        evaluate(config(images, TINY, classes='abcde'), trained, tmp_path / 'classes')


def test_scores_are_not_read_as_those_of_classes_in_another_order(images, trained, tmp_path):
    cfg = config(images, TINY, classes='abdc')
    with pytest.raises(UserError, match="another order .* class 2 was 'c', and is 'd'"):
        evaluate(cfg, trained, tmp_path)


def test_partial_says_what_stays_random_and_what_is_left_over(images, trained, tmp_path):
    saved = torch.load(trained, weights_only=False)
    saved['state_dict']['extra.weight'] = saved['state_dict'].pop('head.fc.weight')
    torch.save(saved, tmp_path / 'odd.pth')
    with pytest.raises(UserError, match='missing: head.fc.weight; left over: extra.weight'):
        evaluate(config(images, TINY), tmp_path / 'odd.pth', tmp_path / 'strict')
    assert evaluate(config(images, TINY), tmp_path / 'odd.pth', tmp_path / 'partial', partial=True)
    assert ('odd.pth; keep their initial values: head.fc.weight; not used: extra.weight'
            in log_of(tmp_path / 'partial'))


def test_a_training_is_resumed_from_its_own_network_only(images, trained, tmp_path):
    cfg = config(images, TINY, classes='abcde')
    with pytest.raises(UserError, match='trained on 4 classes.*start a new training .*load_from'):
        train(cfg, tmp_path / 'run', resume=str(trained))
    bare = {k: v for k, v in torch.load(trained, weights_only=False).items() if k == 'state_dict'}
    torch.save(bare, tmp_path / 'bare.pth')
    with pytest.raises(UserError, match='no state of a training to resume: .*load_from'):
        train(config(images, TINY), tmp_path / 'bare', resume=str(tmp_path / 'bare.pth'))
    more = config(images, TINY)
    more.train_cfg.max_epochs = 2
    assert train(more, tmp_path / 'more', resume=str(trained))['meta']['epoch'] == 2


def test_load_from_takes_what_fits_and_says_so_but_not_nothing(images, trained, tmp_path):
    cfg = config(images, TINY, classes='abcde', load_from=str(trained))
    saved = train(cfg, tmp_path / 'run')['ema_state_dict']
    given = torch.load(trained, weights_only=False)['ema_state_dict']
    assert torch.equal(saved['module.backbone.model.conv1.0.weight'],
                       given['module.backbone.model.conv1.0.weight'])
    log = log_of(tmp_path / 'run')
    assert 'keep their initial values: head.fc.weight (4, 96) instead of (5, 96)' in log
    other = dict(type='TimmBackbone', model_name='test_vit', img_size=32)
    with pytest.raises(UserError, match='leave load_from out'):
        train(config(images, other, load_from=str(trained)), tmp_path / 'other')


@pytest.mark.parametrize('kind, form', [
    ('timm', 'bare'), ('timm', 'model'), ('timm', 'state_dict'), ('timm', 'module.'),
    ('torchvision', 'bare'), ('mmdet', 'bare')])
def test_official_files_start_trainings_and_are_evaluated(kind, form, images, tmp_path):
    if kind == 'timm':
        source, backbone = timm.create_model('test_resnet', num_classes=4), TINY
    else:
        source = torchvision.models.resnet18(num_classes=4)
        backbone = dict(type='TorchvisionBackbone', model_name='resnet18')
    prefix, head = 'backbone.model.', {}
    if kind == 'mmdet':
        backbone = dict(type='ResNet', depth=18, out_indices=(3,), norm_eval=False)
        prefix, head = 'backbone.', dict(in_channels=512)
    weights = source.state_dict()
    if form == 'module.':
        weights = {f'module.{k}': v for k, v in weights.items()}
    path = tmp_path / 'official.pth'
    torch.save(weights if form in ('bare', 'module.') else {form: weights, 'epoch': 7}, path)
    assert evaluate(config(images, backbone, head=head), path, tmp_path / 'test')
    cfg = config(images, backbone, head=head, load_from=str(path))
    saved = train(cfg, tmp_path / 'run')['ema_state_dict']
    for key, value in source.named_parameters():
        ours = f'head.{key}' if key.startswith('fc.') else prefix + key
        assert torch.equal(saved[f'module.{ours}'], value), key
    if kind == 'timm':
        backbone = TimmBackbone('test_resnet', checkpoint=str(path))
        assert torch.equal(backbone.model.conv1[0].weight, source.conv1[0].weight)
    model = MultiLabelClassifier(cfg.model.backbone, cfg.model.head, checkpoint=str(path)).eval()
    model.init_weights()
    inputs = torch.randn(2, 3, 32, 32)
    assert torch.allclose(model(inputs), source.eval()(inputs), atol=1e-5)


def test_the_whole_network_is_given_or_refused(tmp_path):
    torch.save(timm.create_model('test_resnet', num_classes=5).state_dict(), tmp_path / 'a.pth')
    head = dict(type='LinearHead', num_classes=4, loss=ASL)
    with pytest.raises(UserError, match=r'head.fc.weight \(5, 96\) instead of \(4, 96\)'):
        MultiLabelClassifier(TINY, head, checkpoint=str(tmp_path / 'a.pth'))
    torch.save(dict(epoch=3), tmp_path / 'b.pth')
    with pytest.raises(UserError, match='b.pth holds no weights'):
        MultiLabelClassifier(TINY, head, checkpoint=str(tmp_path / 'b.pth'))
