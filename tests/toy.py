"""A training that takes a second: a linear model on noise. Imported by its config."""

import time
from pathlib import Path

import numpy as np
import torch
from mmengine.dist import is_main_process
from mmengine.evaluator import BaseMetric
from mmengine.hooks import CheckpointHook, Hook
from mmengine.model import BaseModel
from mmengine.registry import DATASETS, HOOKS, METRICS, MODELS
from torch.utils.data import Dataset

CONFIG = """
default_scope = 'mmengine'
model = dict(type='Toy')
train_dataloader = dict(
    batch_size=2, num_workers=0, dataset=dict(type='ToyData'),
    sampler=dict(type='DefaultSampler', shuffle=False))
test_dataloader = train_dataloader
test_evaluator = dict(type='ToyMetric')
test_cfg = dict(type='TestLoop')
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=1)
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.1))
default_hooks = dict(logger=dict(type='LoggerHook', interval=1),
                     visualization=dict(type='ToyDrawing'))
randomness = dict(seed=0)
auto_scale_lr = dict(enable=False, base_batch_size=1)
"""


def write_config(folder, more='', imports="custom_imports = dict(imports=['toy'])\n",
                 name='toy_config.py'):
    """The config as a file, with lines of one's own."""
    path = Path(folder) / name
    path.write_text(CONFIG + imports + more)
    return str(path)


@DATASETS.register_module()
class ToyData(Dataset):

    def __len__(self):
        return 32

    def __getitem__(self, i):
        return dict(inputs=torch.full((2,), i / 32))


@MODELS.register_module()
class Toy(BaseModel):
    """Args: unused: with a parameter that has no gradient."""

    def __init__(self, unused=False):
        super().__init__()
        self.layer = torch.nn.Linear(2, 1)
        self.unused = torch.nn.Parameter(torch.zeros(1)) if unused else None

    def forward(self, inputs, mode):
        out = self.layer(torch.stack(inputs)).mean()
        return dict(loss=out ** 2) if mode == 'loss' else [out]


@METRICS.register_module()
class ToyMetric(BaseMetric):

    def process(self, data_batch, data_samples):
        self.results += data_samples

    def compute_metrics(self, results):
        return dict(single=np.float32(0.5), array=np.arange(2), tensor=torch.tensor(0.25),
                    of_classes={'a': np.float64(1.0)}, plain=1)


@METRICS.register_module()
class ToyWriter(BaseMetric):
    """Writes a file, as mmdet's metrics of detections do."""

    def __init__(self, outfile_prefix=None, prefix=None):
        super().__init__(prefix=prefix)
        self.outfile_prefix = outfile_prefix

    def process(self, data_batch, data_samples):
        self.results += data_samples

    def compute_metrics(self, results):
        if self.outfile_prefix is not None:
            Path(f'{self.outfile_prefix}.found.json').write_text(self.prefix or 'none')
        return dict(single=1)


@METRICS.register_module()
class ToyWriterOfMore(ToyWriter):

    def __init__(self, more=None, **kwargs):
        kwargs.setdefault('prefix', 'more')
        super().__init__(**kwargs)


@METRICS.register_module()
class ToyWriterFixed(ToyWriter):

    def __init__(self, name='fixed'):
        super().__init__(prefix=name)


@HOOKS.register_module()
class ToyDrawing(Hook):

    def __init__(self, draw=False, test_out_dir=None):
        pass


@HOOKS.register_module()
class SlowCheckpointHook(CheckpointHook):
    """The main process takes 4 seconds to write."""

    def _save_checkpoint_with_step(self, runner, step, meta):
        if is_main_process():
            time.sleep(4)
        super()._save_checkpoint_with_step(runner, step, meta)


@HOOKS.register_module()
class SlowEndHook(Hook):
    """The main process takes a while to finish."""

    def after_run(self, runner):
        if is_main_process():
            time.sleep(2)
            Path(runner.work_dir, 'finished').touch()
