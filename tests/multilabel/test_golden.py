"""Networks and heads against what the official implementations compute."""

import pytest
import torch
from golden import case

from asl_det.multilabel import MLDecoderHead, MultiLabelClassifier

ASL = dict(type='AsymmetricLoss', use_sigmoid=True)


@pytest.mark.parametrize('name, bottleneck', [
    ('tresnet_m', None), ('tresnet_l', None), ('tresnet_l_bottleneck', 512), ('tresnet_xl', None)])
def test_official_tresnet_files_give_the_official_logits(name, bottleneck, tmp_path):
    weights, inputs, logits = case('tresnet', name)
    torch.save(dict(model=weights, epoch=3), tmp_path / 'official.pth')
    head = dict(type='LinearHead', num_classes=80, bottleneck=bottleneck, loss=ASL)
    backbone = dict(type='TimmBackbone', model_name=name.removesuffix('_bottleneck'))
    model = MultiLabelClassifier(backbone, head, checkpoint=str(tmp_path / 'official.pth'))
    model.init_weights()  # as a training does
    with torch.no_grad():
        got = model.eval()(inputs)[:, :64]
    assert torch.allclose(got, logits, rtol=0, atol=1e-5), (got - logits).abs().max()


@pytest.mark.parametrize('name, groups', [
    ('80_classes_-1_groups', 100), ('80_classes_80_groups', 80), ('81_classes_100_groups', 100),
    ('9605_classes_200_groups', 200)])
def test_the_decoder_gives_the_official_logits(name, groups):
    weights, features, logits = case('ml_decoder', name)
    head = MLDecoderHead(int(name.split('_')[0]), 512, ASL, num_groups=groups)
    head.load_state_dict({head.own_name(k, None): v for k, v in weights.items()})
    with torch.no_grad():
        got = head.eval()(features)[:, :64]
    assert torch.allclose(got, logits, rtol=0, atol=1e-5), (got - logits).abs().max()
