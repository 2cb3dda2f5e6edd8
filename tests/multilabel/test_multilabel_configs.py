"""Every multi-label config builds and trains a step."""

from pathlib import Path

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config

from asl_det.losses import AsymmetricLoss
from asl_det.multilabel import MultiLabelSample

CONFIGS = sorted(Path('configs/multilabel').glob('*.py'))


@pytest.fixture(params=CONFIGS, ids=[p.stem for p in CONFIGS])
def config(request):
    config = Config.fromfile(request.param)
    for key in ('pretrained', 'weights'):  # no downloads here
        if key in config.model.backbone:
            config.model.backbone[key] = None if key == 'weights' else False
    return config


def test_the_recipes_of_the_paper_are_there():
    names = {p.stem for p in CONFIGS}
    assert {'tresnet-l_asl_coco-448', 'tresnet-m_asl_coco-224', 'resnet101_asl_coco-448',
            'tresnet-l_asl_voc07-448', 'tresnet-l_asl_nus-wide-448',
            'tresnet-l_asl_open-images-448', 'tresnet-l-ml-decoder_asl_coco-448'} <= names
    for network, data in (('resnet18-w16', 'digits'), ('efficientnet-lite0', 'coco18')):
        assert {f'{network}_{loss}_{data}' for loss in ('asl', 'bce', 'focal')} <= names


def test_one_training_step(config):
    torch.manual_seed(0)
    model = MODELS.build(config.model).train()
    model.init_weights()
    loss = model.head.loss_cls
    assert isinstance(loss, AsymmetricLoss)
    point = (loss.gamma_neg, loss.gamma_pos, loss.clip)
    kind = Path(config.filename).stem.split('_')[1].split('-')[0]
    assert {'bce': point == (0, 0, 0), 'focal': loss.gamma_neg == loss.gamma_pos > 0 == loss.clip,
            'asl': loss.gamma_neg > loss.gamma_pos}[kind]
    shape = (112, 14, 14) if 'cached' in config.filename else (3, 64, 64)
    samples = []
    for i in range(2):
        sample = MultiLabelSample()
        sample.gt_label = torch.zeros(config.model.head.num_classes, dtype=torch.int8)
        sample.gt_label[i] = 1
        samples.append(sample)
    data = dict(inputs=[torch.randint(0, 255, shape, dtype=torch.uint8)] * 2, data_samples=samples)
    losses = model(**model.data_preprocessor(data, True), mode='loss')
    losses['loss'].backward()
    assert losses['loss'] > 0
    trained = [p for p in model.parameters() if p.requires_grad]
    assert all(p.grad is not None and p.grad.isfinite().all() for p in trained)


PAPER = [p for p in CONFIGS if '-448' in p.stem or '-224' in p.stem]


@pytest.mark.parametrize('path', PAPER, ids=lambda p: p.stem)
def test_the_recipe_of_the_paper_is_what_the_reference_trains(path):
    config = Config.fromfile(path)
    assert config.train_cfg.max_epochs == 41
    schedule, = config.param_scheduler
    assert config.train_cfg.max_epochs / schedule.run_share == pytest.approx(80)
    assert schedule.pct_start == 0.2 and schedule.momentum == (0.95, 0.85)
    assert config.optim_wrapper.type == 'AmpOptimWrapper'
    assert config.optim_wrapper.optimizer == dict(type='Adam', lr=1e-4, weight_decay=1e-4)
    assert config.default_hooks.ema == dict(type='RawAndEMAHook', decay=0.9997)
    assert config.model.head.loss.reduction == 'sum'
    assert config.train_dataloader.batch_size == 128
    assert not config.train_dataloader.get('drop_last', False)
    size = 224 if '224' in path.stem else 448
    steps = config.train_dataloader.dataset.pipeline
    assert [s.type for s in steps] == ['LoadImageWithPillow', 'Resize', 'ASLCutout',
                                       'ASLRandAugment', 'PackMultiLabel']
    assert steps[1] == dict(type='Resize', scale=(size, size), keep_ratio=False, backend='pillow')
    assert [s.type for s in config.val_dataloader.dataset.pipeline] == [
        'LoadImageWithPillow', 'Resize', 'PackMultiLabel']
    assert config.val_dataloader.dataset.pipeline[1] == steps[1]


@pytest.mark.parametrize('path', CONFIGS, ids=lambda p: p.stem)
def test_weight_decay_that_is_added_to_the_gradient_comes_with_a_summed_loss(path):
    config = Config.fromfile(path)
    if config.optim_wrapper.optimizer.type != 'AdamW':  # which decays apart from the gradient
        assert config.model.head.loss.reduction == 'sum'


def test_weight_decay_is_for_weights_only():
    from mmengine.optim import build_optim_wrapper
    config = Config.fromfile('configs/multilabel/tresnet-m_asl_coco-224.py')
    config.model.backbone.pretrained = False
    wrapper = dict(config.optim_wrapper, type='OptimWrapper')
    wrapper.pop('loss_scale')
    model = MODELS.build(config.model)
    optimizer = build_optim_wrapper(model, wrapper).optimizer
    for group in optimizer.param_groups:
        for parameter in group['params']:
            assert group['weight_decay'] == (1e-4 if parameter.dim() > 1 else 0), parameter.shape


def test_configs_say_what_they_reproduce_and_how():
    for path in CONFIGS:
        head = path.read_text().split('"""')[1]
        assert f'asl_det::multilabel/{path.name}' in head, path
        if '448' in path.stem or '224' in path.stem:
            assert 'Published: mAP' in head and 'Not run here' in head, path
