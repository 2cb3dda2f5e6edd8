"""Every family of timm: its own pooling, its own weights, and a map where it has one."""

import pytest
import timm
import torch
import torchvision
from torch import nn

from asl_det.errors import UserError
from asl_det.multilabel import TimmBackbone, TorchvisionBackbone

# A small network of every module of timm and how it is built: 64 px, or size, or img_size.
FAMILIES = dict(
    beit=('beit_base_patch16_224', dict(img_size=64, depth=1)),
    byoanet=('eca_botnext26ts_256', dict(img_size=64)),
    byobnet=('test_byobnet', dict(img_size=64)),
    cait=('cait_xxs24_224', dict(img_size=64)),
    coat=('coat_tiny', dict(img_size=64)),
    convit=('convit_tiny', dict(img_size=64)),
    convmixer=('convmixer_768_32', dict()),
    convnext=('test_convnext', dict()),
    cpubone=('cpubone_nano', dict()),
    crossvit=('crossvit_tiny_240', dict()),
    csatv2=('csatv2', dict()),
    cspnet=('cs3darknet_focus_s', dict()),
    cspnext=('cspnext_tiny', dict()),
    davit=('davit_tiny', dict()),
    deepseek_vit=('deepseek_vit_412m', dict(img_size=70, depth=1)),
    deit=('deit_tiny_patch16_224', dict(img_size=64)),
    densenet=('densenet121', dict()),
    dla=('dla46x_c', dict()),
    dpn=('dpn48b', dict()),
    edgenext=('edgenext_xx_small', dict()),
    efficientformer=('efficientformer_l1', dict(size=224)),
    efficientformer_v2=('efficientformerv2_s0', dict(img_size=64)),
    efficientnet=('test_efficientnet', dict()),
    efficientvim=('efficientvim_m1', dict()),
    efficientvit_mit=('efficientvit_b0', dict()),
    efficientvit_msra=('efficientvit_m0', dict(img_size=64)),
    eva=('vit_tiny_patch16_dinov3_qkvb', dict(img_size=64)),
    fasternet=('fasternet_t0', dict()),
    fastvit=('fastvit_t8', dict()),
    focalnet=('focalnet_tiny_srf', dict()),
    gcvit=('gcvit_xxtiny', dict(img_size=64)),
    gemma4_vit=('gemma4_vit_167m', dict(img_size=64, depth=1)),
    ghostnet=('ghostnet_050', dict()),
    hardcorenas=('hardcorenas_b', dict()),
    hgnet=('hgnetv2_b0', dict()),
    hiera=('hiera_tiny_224', dict(img_size=64)),
    hieradet_sam2=('sam2_hiera_tiny', dict()),
    hrnet=('hrnet_w18_small', dict()),
    iformer=('iformer_t', dict()),
    inception_next=('inception_next_atto', dict()),
    inception_resnet_v2=('inception_resnet_v2', dict(size=128)),
    inception_v3=('inception_v3', dict(size=128)),
    inception_v4=('inception_v4', dict(size=128)),
    lcnetv2=('lcnetv2_small', dict()),
    levit=('levit_128s', dict(img_size=64)),
    lowformer=('lowformer_b0', dict()),
    mambaout=('test_mambaout', dict()),
    maxxvit=('test_coatnet', dict(img_size=64)),
    metaformer=('poolformerv2_s12', dict()),
    mlp_mixer=('gmlp_ti16_224', dict(img_size=64)),
    mobilenetv3=('lcnet_035', dict()),
    mobilenetv5=('mobilenetv5_base', dict()),
    mobilevit=('mobilevit_xxs', dict(img_size=64)),
    mvitv2=('mvitv2_tiny', dict(img_size=64)),
    naflexvit=('naflexvit_base_patch16_parfac_gap', dict(img_size=64, depth=1)),
    nasnet=('nasnetalarge', dict(num_features=96, stem_size=8)),
    nest=('nest_tiny', dict(img_size=64)),
    nextvit=('nextvit_small', dict()),
    nfnet=('test_nfnet', dict()),
    pit=('pit_ti_224', dict(img_size=64)),
    pnasnet=('pnasnet5large', dict()),
    pvt_v2=('pvt_v2_b0', dict()),
    qwen3_vit=('qwen3_vit_88m', dict(img_size=64, depth=1)),
    rdnet=('rdnet_tiny', dict()),
    regnet=('regnetx_002', dict()),
    repghost=('repghostnet_050', dict()),
    repvit=('repvit_m1', dict(img_size=64)),
    res2net=('res2next50', dict()),
    resnest=('resnest14d', dict()),
    resnet=('test_resnet', dict()),
    resnetv2=('resnetv2_18', dict()),
    rexnet=('rexnet_100', dict()),
    selecsls=('selecsls42', dict()),
    senet=('legacy_seresnet18', dict()),
    sequencer=('sequencer2d_s', dict(img_size=64)),
    shvit=('shvit_s1', dict()),
    sknet=('skresnet18', dict()),
    starnet=('starnet_s050', dict()),
    swiftformer=('swiftformer_xs', dict(img_size=64)),
    swin_transformer=('swin_tiny_patch4_window7_224', dict(img_size=64)),
    swin_transformer_v2=('swinv2_tiny_window8_256', dict(img_size=64)),
    swin_transformer_v2_cr=('swinv2_cr_tiny_224', dict(img_size=64)),
    tiny_vit=('tiny_vit_5m_224', dict()),
    tnt=('tnt_s_legacy_patch16_224', dict(img_size=64)),
    tresnet=('tresnet_m', dict()),
    twins=('twins_svt_small', dict(img_size=64)),
    vgg=('vgg11', dict()),
    visformer=('visformer_tiny', dict(img_size=64)),
    vision_transformer=('test_vit', dict(img_size=64)),
    vision_transformer_hybrid=('vit_tiny_r_s16_p8_224', dict(img_size=64)),
    vision_transformer_relpos=('test_vit_relpos', dict(img_size=64)),
    vision_transformer_sam=('samvit_base_patch16_224',
                            dict(img_size=64, depth=1, global_attn_indexes=(0,))),
    vitamin=('vitamin_small_224', dict(img_size=64)),
    volo=('volo_d1_224', dict(img_size=64, use_aux_head=False)),
    vovnet=('ese_vovnet19b_slim_dw', dict()),
    xception=('legacy_xception', dict()),
    xception_aligned=('xception41p', dict()),
    xcit=('xcit_nano_12_p8_224', dict(img_size=64)),
)
NO_MAP = {'coat', 'crossvit', 'efficientvim', 'pit'}
# What every run checks: each layout of features, pooling and head that timm has.
USUAL = ('beit', 'byobnet', 'cait', 'coat', 'convnext', 'crossvit', 'davit', 'deit', 'efficientnet',
         'efficientvim', 'efficientvit_mit', 'efficientvit_msra', 'eva', 'hiera', 'inception_next',
         'levit', 'mambaout', 'maxxvit', 'mlp_mixer', 'mobilenetv3', 'nfnet', 'pit', 'regnet',
         'resnet', 'resnetv2', 'swin_transformer', 'swin_transformer_v2', 'tresnet',
         'vision_transformer', 'vision_transformer_relpos', 'volo', 'xcit')


def own_file(network, tmp_path):
    torch.save(network.state_dict(), tmp_path / 'own.pth')
    return str(tmp_path / 'own.pth')


def check_family(family, name, tmp_path, size=64, **options):
    """The adapter against the network itself, each with the same weights, the classifier too."""
    size = options.get('img_size', size)
    network = timm.create_model(name, num_classes=5, **options).eval()
    inputs = torch.randn(2, 3, size, size)
    if family in NO_MAP:
        with pytest.raises(UserError, match=f'{type(network).__name__} gives no single map'):
            TimmBackbone(name, **options)
    backbone = TimmBackbone(name, checkpoint=own_file(network, tmp_path),
                            pooled=family in NO_MAP, **options).eval()
    with torch.no_grad():
        features = network.forward_features(inputs)
        if family not in NO_MAP:
            places, = backbone(inputs)
            assert places.size(1 if places.dim() == 4 else -1) == backbone.num_features
            assert torch.allclose(places, map_of(network, features, inputs), atol=1e-4)
            backbone.pooled = True
        pooled, = backbone(inputs)
        assert torch.allclose(pooled, network.forward_head(features, pre_logits=True), atol=1e-4)
        if isinstance(network.get_classifier(), nn.Linear):
            assert torch.allclose(network.get_classifier()(pooled), network(inputs), atol=1e-4)
    with torch.device('meta'):
        assert pooled.shape == (2, TimmBackbone(name, pooled=True, **options).num_features)


def map_of(network, features, inputs):
    """timm's own way from features to a map: its backbones for detection have places only."""
    if features.dim() == 4 and getattr(network, 'output_fmt', 'NCHW') == 'NCHW':
        return features
    norm = 'hiera' not in network.pretrained_cfg['architecture']  # there it is part of the head
    with torch.no_grad():
        places, = network.forward_intermediates(inputs, indices=1, norm=norm,
                                                intermediates_only=True)
    return places if features.dim() == 4 else places.flatten(2).transpose(1, 2)


@pytest.mark.parametrize('family', [f if f in USUAL else pytest.param(
    f, marks=pytest.mark.exhaustive) for f in FAMILIES])
def test_a_network_of_every_family_pools_as_timm_does_and_gives_its_map(family, tmp_path):
    name, options = FAMILIES[family]
    if not timm.is_model(name):
        pytest.skip(f'timm {timm.__version__} has no {name}')
    check_family(family, name, tmp_path, **options)


def test_no_family_of_timm_is_forgotten():
    assert set(timm.list_modules()) <= set(FAMILIES)


@pytest.mark.exhaustive
@pytest.mark.parametrize('family', FAMILIES)
def test_the_smallest_network_of_every_family_at_full_depth(family, tmp_path):
    sizes = {}
    for name in timm.list_models(module=family):
        with torch.device('meta'):
            network = timm.create_model(name)
        if (network.pretrained_cfg.get('min_input_size') or [224])[-1] <= 224:
            sizes[name] = sum(p.numel() for p in network.parameters())
    options = FAMILIES[family][1]
    options = {k: v for k, v in options.items() if k not in ('depth', 'global_attn_indexes',
                                                             'num_features', 'stem_size')}
    check_family(family, min(sizes, key=sizes.get), tmp_path, **options)


@pytest.mark.parametrize('name', ['test_convnext', 'test_vit_relpos', 'lcnet_035', 'test_mambaout'])
def test_what_only_timms_head_uses_is_not_trained_with_a_map(name):
    backbone = TimmBackbone(name)
    backbone(torch.randn(2, 3, 160, 160))[0].sum().backward()
    trained = {k for k, v in backbone.named_parameters() if v.requires_grad}
    assert trained == {k for k, v in backbone.named_parameters() if v.grad is not None}
    assert len(trained) < len(list(backbone.parameters()))
    assert all(p.requires_grad for p in TimmBackbone(name, pooled=True).parameters())


@pytest.mark.parametrize('name', ['coat_lite_tiny', 'deit_tiny_distilled_patch16_224',
                                  'eva02_tiny_patch14_224', 'vit_small_patch14_reg4_dinov2'])
def test_class_tokens_are_no_places(name, tmp_path):
    if name.startswith('eva02') and not hasattr(torch, 'compiler'):
        pytest.skip('torch 2.0 has no rotary embeddings on the meta device')
    check_family(None, name, tmp_path, img_size=56 if '14' in name else 64)


@pytest.mark.parametrize('name', [
    'convnext_tiny', 'densenet121', 'efficientnet_b0', 'mnasnet0_5', 'mobilenet_v3_small',
    'regnet_x_400mf', 'resnet18', 'shufflenet_v2_x0_5', 'swin_t', 'vit_b_32'])
def test_torchvisions_networks_pool_as_they_do(name, tmp_path):
    options = dict(image_size=64) if name.startswith('vit') else {}
    network = torchvision.models.get_model(name, **options).eval()
    checkpoint = own_file(network, tmp_path)
    pooled = TorchvisionBackbone(name, checkpoint=checkpoint, pooled=True, **options).eval()
    classifier = network.get_submodule(pooled.classifier)
    inputs = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        got, = pooled(inputs)
        assert got.shape == (2, pooled.num_features)
        assert torch.allclose(classifier(got), network(inputs), atol=1e-5)
        mapped = TorchvisionBackbone(name, **options).eval()
        places, = mapped(inputs)
    assert places.shape == ((2, 4, 768) if name.startswith('vit')
                            else (2, mapped.num_features, 2, 2))
