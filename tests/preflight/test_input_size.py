"""Networks of a fixed size, and the images that the pipelines give them."""

import pytest
from mmengine.config import Config

from asl_det.preflight.checks import CHECKS
from asl_det.preflight.finding import collect
from asl_det.preflight.input_size import check_input_size
from asl_det.preflight.run import Run

TINY_SWIN = dict(type='TimmBackbone', model_name='swin_tiny_patch4_window7_224', embed_dim=24,
                 depths=(1, 1, 1, 1), num_heads=(1, 2, 3, 4))


def said(backbone, train=(96, 96), val=None, **resize):
    def loader(scale):
        steps = [dict(type='LoadImageWithPillow'), dict(
            type='Resize', **(dict(scale=scale, keep_ratio=False) | resize)),
            dict(type='PackMultiLabel')]
        return dict(dataset=dict(type='CSVMultiLabelDataset', pipeline=steps))
    cfg = Config(dict(model=dict(type='MultiLabelClassifier', backbone=backbone),
                      train_dataloader=loader(train), val_dataloader=loader(val or train)))
    assert check_input_size in CHECKS
    return [str(f) for f in collect(check_input_size(Run(cfg, 'c.py', 'train'))).errors]


@pytest.mark.parametrize('backbone', [
    dict(type='TimmBackbone', model_name='deit_tiny_patch16_224', pooled=True),
    dict(type='mmdet.TimmBackbone', model_name='vit_tiny_patch16_224'), TINY_SWIN,
    dict(type='TimmBackbone', model_name='mixer_s32_224'),
    dict(type='TorchvisionBackbone', model_name='vit_b_32')], ids=lambda b: b['model_name'])
def test_a_network_of_a_fixed_size_is_compared_with_the_pipelines_before_the_start(backbone):
    line, = said(backbone)
    name = 'image_size' if backbone['type'] == 'TorchvisionBackbone' else 'img_size'
    assert line.startswith('error: c.py: train_dataloader.dataset.pipeline: gives images of 96 x 96'
                           f', which {backbone["model_name"]}, made for 224 x 224, does not take (')
    assert line.endswith(f'): resize to its size, or set model.backbone.{name}=96')
    line, = said(backbone, (224, 224), (256, 192))
    assert 'val_dataloader.dataset.pipeline: gives images of 192 x 256' in line


def test_images_that_a_network_takes_have_no_findings(monkeypatch):
    vit = dict(type='TimmBackbone', model_name='deit_tiny_patch16_224')
    assert said(vit, (224, 224)) == said(dict(vit, img_size=96)) == []
    assert said(dict(vit, dynamic_img_size=True)) == []
    assert said(dict(type='TimmBackbone', model_name='test_vit'), (160, 160)) == []
    monkeypatch.setattr('asl_det.preflight.input_size.build_part', lambda node: 1 / 0)
    for free in (dict(type='TimmBackbone', model_name='resnet18'), dict(type='ResNet', depth=18),
                 dict(type='TorchvisionBackbone', model_name='resnet18'),
                 dict(type='TimmBackbone', model_name='nothing'), dict(vit, skip=('blocks.0',))):
        assert said(free) == []  # and no network is built


def test_images_of_several_sizes_do_not_fit_a_fixed_network():
    vit = dict(type='TimmBackbone', model_name='deit_tiny_patch16_224')
    lines = said(vit, scale=(224, 224), keep_ratio=True)
    assert len(lines) == 2 and all(line.endswith('resize to its size') for line in lines)
