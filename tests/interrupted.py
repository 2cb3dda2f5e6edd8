"""A training of a second with everything random, and ways to interrupt it."""

import copy
import os
import signal
import uuid

import pytest
import torch
from mmengine.config import Config
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS
from torch.utils.data import Dataset

import asl_det.training.hooks.drawing
from asl_det import engine
from asl_det.losses import AsymmetricLoss
from asl_det.registry import DATASETS, HOOKS, METRICS, MODELS

ITEMS, BATCH, EPOCHS = 8, 2, 2
STEPS = ITEMS // BATCH  # of an epoch


class Killed(BaseException):
    """What the rest of a process that is killed does: nothing."""


@DATASETS.register_module()
class NoisyData(Dataset):
    """New numbers at every look."""

    def __len__(self):
        return ITEMS

    def __getitem__(self, i):
        return dict(inputs=torch.full((4,), i / ITEMS) + torch.rand(4))


@MODELS.register_module()
class NoisyModel(BaseModel):

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(4, 2)
        self.norm = torch.nn.BatchNorm1d(2)
        self.dropout = torch.nn.Dropout(0.5)

    def forward(self, inputs, mode):
        out = self.dropout(self.norm(self.layer(torch.stack(inputs))))
        return dict(loss=((out - 1) ** 2).mean()) if mode == 'loss' else [self.layer.weight.sum()]


@MODELS.register_module()
class MaskedModel(NoisyModel):

    def __init__(self):
        super().__init__()
        self.register_buffer('mask', torch.full((1,), -torch.inf))


@MODELS.register_module()
class NoisyModelWithASL(NoisyModel):

    def __init__(self):
        super().__init__()
        self.loss = AsymmetricLoss()

    def forward(self, inputs, mode):
        if mode != 'loss':
            return super().forward(inputs, mode)
        return dict(loss=self.loss(self.layer(torch.stack(inputs)), torch.ones(len(inputs), 2)))


@MODELS.register_module()
class NoisyModelWithAdaptiveASL(NoisyModelWithASL):

    def __init__(self):
        super().__init__()
        self.loss = AsymmetricLoss(gamma_neg=2.0, adaptive=dict(step_size=1.0))


@MODELS.register_module()
class TwoOptimizersModel(NoisyModel):
    """The optimizers step one after the other."""

    def train_step(self, data, optim_wrapper):
        data = self.data_preprocessor(data, True)
        losses = {}
        for name, wrapper in optim_wrapper.items():
            with wrapper.optim_context(self):
                losses[f'loss_{name}'] = self(**data, mode='loss')['loss']
            wrapper.update_params(losses[f'loss_{name}'])
        return losses


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class TwoOptimizers:

    def __init__(self, optim_wrapper_cfg, paramwise_cfg=None):
        self.cfg = optim_wrapper_cfg

    def __call__(self, model):
        return OptimWrapperDict(**{
            name: OptimWrapper(torch.optim.SGD(getattr(model, name).parameters(), **{
                k: v for k, v in part['optimizer'].items() if k != 'type'}),
                accumulative_counts=part.get('accumulative_counts', 1))
            for name, part in self.cfg.items()})


@METRICS.register_module()
class WeightSum(BaseMetric):

    def process(self, data_batch, data_samples):
        self.results.append(float(data_samples[0]))

    def compute_metrics(self, results):
        return dict(score=results[0])


@HOOKS.register_module()
class Interrupt(Hook):
    """After a step, one of ACTIONS is called with the runner."""

    priority = 'HIGH'

    def __init__(self, step, what):
        self.step, self.what = step, ACTIONS[what]

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if runner.iter + 1 == self.step:
            self.what(runner)


def break_weights(runner):
    runner.model.layer.weight.data[0, 0] = torch.nan


def raise_signal(runner):
    signal.raise_signal(signal.SIGTERM)


def fail(runner):
    raise RuntimeError('a step fails')


ACTIONS = {'break_weights': break_weights, 'raise_signal': raise_signal, 'fail': fail,
           'pass': lambda runner: None}


def interrupt(step, what):
    return dict(type='mmdet.Interrupt', step=step, what=what)


def config(by_epoch=True, **more):
    loader = dict(batch_size=BATCH, num_workers=0, dataset=dict(type='mmdet.NoisyData'),
                  sampler=dict(type='DefaultSampler' if by_epoch else 'InfiniteSampler',
                               shuffle=True))
    val = dict(loader, sampler=dict(type='DefaultSampler', shuffle=False))
    length = dict(by_epoch=True, max_epochs=EPOCHS) if by_epoch else dict(
        by_epoch=False, max_iters=EPOCHS * STEPS, val_interval=STEPS)
    cfg = dict(
        default_scope='mmengine', model=dict(type='mmdet.NoisyModel'), train_dataloader=loader,
        val_dataloader=val, val_cfg=dict(type='ValLoop'),
        val_evaluator=dict(type='mmdet.WeightSum'), train_cfg=length,
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1, momentum=0.9)),
        param_scheduler=[dict(type='PolyLR', eta_min=0.01, by_epoch=False, end=EPOCHS * STEPS)],
        default_hooks=dict(
            logger=dict(type='LoggerHook', interval=1),
            checkpoint=dict(type='CheckpointHook', interval=1 if by_epoch else 2,
                            by_epoch=by_epoch, max_keep_ckpts=1, save_best='score',
                            rule='greater')),
        randomness=dict(seed=0))
    return Config(cfg) if not more else Config({**cfg, **more})


def train(cfg, work_dir, **kwargs):
    """Under a name of its own: mmengine shares logs of one name within a second."""
    cfg = copy.deepcopy(cfg)
    cfg.experiment_name = str(uuid.uuid4())
    with pytest.MonkeyPatch.context() as patch:  # most of the time of so short a training
        patch.setattr(asl_det.training.hooks.drawing, 'draw_curves', lambda work_dir: None)
        return engine.train(cfg, work_dir=str(work_dir), **kwargs)


def load(path):
    return torch.load(path, weights_only=False)


def assert_same_end(one, other):
    """Checkpoints of two runs: the same files, bit for bit, but for times and folders."""
    names = sorted(p.name for p in one.glob('*.pth'))
    assert names == sorted(p.name for p in other.glob('*.pth'))
    assert os.path.basename((one / 'last_checkpoint').read_text()) == os.path.basename(
        (other / 'last_checkpoint').read_text())
    for name in names:
        a, b = load(one / name), load(other / name)
        for part in ('state_dict', 'ema_state_dict', 'optimizer', 'param_schedulers', 'random'):
            assert_equal(a.get(part), b.get(part), f'{name}: {part}')


def assert_equal(a, b, where):
    if isinstance(a, torch.Tensor):
        assert torch.equal(a, b), where
    elif isinstance(a, dict):
        assert a.keys() == b.keys(), where
        for key in a:
            assert_equal(a[key], b[key], f'{where}.{key}')
    elif isinstance(a, (list, tuple)):
        assert len(a) == len(b), where
        for i, (x, y) in enumerate(zip(a, b, strict=True)):
            assert_equal(x, y, f'{where}.{i}')
    else:
        assert (a == b).all() if hasattr(a, 'all') else a == b, where
