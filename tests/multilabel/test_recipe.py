"""The recipe of the paper against what the reference's own training loop computes."""

import json
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import DATA_SAMPLERS
from mmengine.runner import Runner
from torch import nn

from asl_det.multilabel import MultiLabelSample
from asl_det.registry import DATASETS, MODELS

RECIPE = 'configs/multilabel/_base_/asl_recipe.py'
# Losses, learning rates and weights of the reference: its loss, OneCycleLR, Adam and EMA.
GOLDEN = json.loads((Path(__file__).parent / 'golden_training.json').read_text())
NAMES = {'backbone.0': '0', 'backbone.1': '1', 'head.fc': '5'}  # ours: the reference's
EPOCHS = len(GOLDEN['steps']) // GOLDEN['steps_per_epoch']
BATCH = 16


def numbers(name, shape):
    """The rule by which the reference's tensors were filled, each from its own name."""
    if name.endswith('num_batches_tracked'):
        return torch.zeros(shape, dtype=torch.long)
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    if name.endswith('running_var'):
        array = 0.5 + rng.random(shape)
    elif len(shape) <= 1:
        array = 0.3 * rng.standard_normal(shape) + float(name.endswith('weight'))
    else:
        array = rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))
    return torch.from_numpy(np.asarray(array, dtype=np.float32))


def reference_name(ours):
    module, _, tensor = ours.rpartition('.')
    return f'{NAMES[module]}.{tensor}'


@MODELS.register_module()
class GoldenNetwork(nn.Sequential):

    def __init__(self):
        super().__init__(nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU())


@DATASETS.register_module()
class GoldenBatches(torch.utils.data.Dataset):
    """All batches in the order of the training, one image an item."""

    def __init__(self, test_mode=False):
        self.items = []
        for i in range(len(GOLDEN['steps'])):
            # As files are read: BGR, 255 times what the network sees.
            images = numbers(f'batch{i}', (BATCH, 3, 16, 16)).flip(1) * 28 * 255
            for image, target in zip(images, numbers(f'target{i}', (BATCH, 10)) > 0.3,
                                     strict=True):
                sample = MultiLabelSample()
                sample.gt_label = target.to(torch.int8)
                self.items.append(dict(inputs=image, data_samples=sample))

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        return self.items[index]


@DATA_SAMPLERS.register_module()
class InOrder(torch.utils.data.Sampler):
    """The images of an epoch, in their order."""

    def __init__(self, dataset, seed=None):
        self.epoch = 0

    def set_epoch(self, epoch):
        self.epoch = epoch

    def __len__(self):
        return GOLDEN['steps_per_epoch'] * BATCH

    def __iter__(self):
        start = self.epoch * len(self)
        return iter(range(start, start + len(self)))


class Watch(Hook):
    """Writes down every step, and ends the training where the reference's numbers end."""

    def __init__(self):
        self.steps = []

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        groups = runner.optim_wrapper.param_groups
        assert len({(group['lr'], group['betas'][0]) for group in groups}) == 1
        self.steps.append([groups[0]['lr'], groups[0]['betas'][0]])
        self.decays = {group['weight_decay'] for group in groups}

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.steps[-1] += [outputs['loss'].item(),
                           sum(int(s.gt_label.sum()) for s in data_batch['data_samples'])]

    def after_train_epoch(self, runner):
        runner.train_loop.stop_training = runner.epoch + 1 == EPOCHS


def train(cfg, tmp_path):
    """The recipe without mixed precision, on the network and the batches of the reference."""
    cfg.optim_wrapper.pop('loss_scale')
    cfg.optim_wrapper.type = 'OptimWrapper'
    cfg.optim_wrapper.optimizer.lr = GOLDEN['max_lr']
    cfg.model.backbone = dict(type='GoldenNetwork')
    cfg.model.head.update(num_classes=10, in_channels=8)
    cfg.merge_from_dict(dict(
        train_dataloader=dict(dataset=dict(type='GoldenBatches'), sampler=dict(type='InOrder'),
                              batch_size=BATCH, num_workers=0),
        val_cfg=None, val_evaluator=None, test_cfg=None, test_evaluator=None,
        default_hooks=dict(checkpoint=dict(save_best=None)), work_dir=str(tmp_path)))
    with_names = {name: tensor.shape for name, tensor in MODELS.build(cfg.model)
                  .state_dict().items()}
    torch.save({name: numbers(reference_name(name), shape) for name, shape in with_names.items()},
               tmp_path / 'start.pth')
    cfg.load_from = str(tmp_path / 'start.pth')
    watch = Watch()
    runner = Runner.from_cfg(cfg)
    runner.register_hook(watch)
    runner.train()
    return watch, torch.load(tmp_path / f'epoch_{EPOCHS}.pth', weights_only=False)


def assert_same(state, golden):
    assert {reference_name(name) for name in state} == set(golden)
    for name, tensor in state.items():
        expected = torch.tensor(golden[reference_name(name)]).view(tensor.shape)
        torch.testing.assert_close(tensor, expected.to(tensor.dtype), rtol=0, atol=1e-6, msg=name)


def test_the_recipe_ends_with_the_weights_and_the_average_of_the_reference(tmp_path):
    cfg = Config.fromfile(RECIPE)
    watch, saved = train(cfg, tmp_path)
    assert len(watch.steps) == len(GOLDEN['steps'])
    assert watch.decays == {0.0, 1e-4}
    for got, expected in zip(watch.steps, GOLDEN['steps'], strict=True):
        assert got[3] == expected[3]
        assert got[:2] == pytest.approx(expected[:2], rel=1e-9)
        assert got[2] == pytest.approx(expected[2], rel=1e-5)
    average = {name[len('module.'):]: tensor for name, tensor in saved['ema_state_dict'].items()
               if name != 'steps'}
    assert saved['meta']['state_dict_is'] == 'ema'
    assert_same(saved['state_dict'], GOLDEN['ema'])
    assert_same(average, GOLDEN['weights'])  # swapped, as mmengine's EMAHook saves


def a_model(**head):
    cfg = Config.fromfile(RECIPE)
    cfg.model.backbone = dict(type='GoldenNetwork')
    cfg.model.head.update(num_classes=10, in_channels=8, **head)
    torch.manual_seed(0)
    return MODELS.build(cfg.model), cfg


def a_batch(model):
    items = [GoldenBatches()[i] for i in range(8)]
    return model.data_preprocessor(
        dict(inputs=[item['inputs'] for item in items],
             data_samples=[item['data_samples'] for item in items]), True)


def test_under_mixed_precision_the_loss_is_computed_in_float32():
    model, _ = a_model()
    data = a_batch(model)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        logits = model(data['inputs'])
        loss = model(**data, mode='loss')['loss']
    assert logits.dtype == torch.bfloat16 and loss.dtype == torch.float32
    targets = torch.stack([sample.gt_label for sample in data['data_samples']])
    expected = model.head.loss_cls(logits.float(), targets)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)


def test_images_reach_the_network_in_0_to_1_as_rgb():
    model, _ = a_model()
    image = torch.randint(0, 256, (3, 4, 5), dtype=torch.uint8)
    got = model.data_preprocessor(dict(inputs=[image], data_samples=[None]), False)['inputs'][0]
    torch.testing.assert_close(got, image.flip(0) / 255)
