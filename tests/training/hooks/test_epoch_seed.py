"""The random numbers of an epoch."""

import itertools
import random
import uuid
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch.utils.data import Dataset

from asl_det.errors import UserError
from asl_det.training.hooks import EpochSeedHook


def draws(seed, epoch, rank, monkeypatch):
    """The first random numbers of an epoch, as the hook leaves the generators."""
    monkeypatch.setattr('asl_det.training.hooks.epoch_seed.get_rank', lambda: rank)
    EpochSeedHook().before_train_epoch(SimpleNamespace(seed=seed, epoch=epoch))
    return (random.random(), np.random.random(), torch.rand(1).item())


def test_no_two_of_neighbouring_seeds_epochs_and_ranks_share_a_stream(monkeypatch):
    cases = list(itertools.product(range(6), range(6), range(6)))
    streams = [draws(*case, monkeypatch) for case in cases]
    for numbers in zip(*streams, strict=True):
        assert len(set(numbers)) == len(cases)
    assert draws(3, 2, 1, monkeypatch) == streams[cases.index((3, 2, 1))]
    draws(2**31 - 1, 10_000, 511, monkeypatch)


def note_worker(worker_id, path):
    with open(path, 'a') as file:
        file.write(f'{worker_id} {random.random()}\n')


class Noise(Dataset):
    """Every item is drawn in the worker."""

    def __len__(self):
        return 4

    def __getitem__(self, i):
        return dict(inputs=torch.full((2,), float(np.random.random())))


class Tiny(BaseModel):
    """Remembers the batches that it sees."""

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(2, 1)
        self.seen = []

    def forward(self, inputs, mode):
        self.seen.append(torch.stack(inputs).flatten().tolist())
        return dict(loss=self.layer(torch.stack(inputs)).sum())


def batches(folder, seed=0, **loader):
    """What a training of two epochs sees, with two workers."""
    model = Tiny()
    Runner(model, str(folder), train_cfg=dict(by_epoch=True, max_epochs=2),
           train_dataloader=dict(dataset=Noise(), batch_size=2, num_workers=2,
                                 sampler=dict(type='DefaultSampler', shuffle=False), **loader),
           optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)), default_scope='mmdet',
           custom_hooks=[dict(type='EpochSeedHook')], randomness=dict(seed=seed),
           experiment_name=f'{folder.name}_{uuid.uuid4()}').train()
    return model.seen


def test_every_epoch_and_worker_draws_its_own_numbers_and_a_second_run_the_same(tmp_path):
    seen = batches(tmp_path)
    values = [value for batch in seen for value in batch[::2]]
    assert len(values) == 8 == len(set(values))
    assert batches(tmp_path) == seen != batches(tmp_path, seed=1)


def test_a_configured_worker_init_fn_is_called_after_seeding(tmp_path):
    path = tmp_path / 'calls'
    seen = batches(tmp_path, worker_init_fn=dict(type=note_worker, path=str(path)))
    assert seen == batches(tmp_path)
    calls = [line.split() for line in path.read_text().splitlines()]
    assert sorted(worker for worker, _ in calls) == ['0', '0', '1', '1']
    assert len({number for _, number in calls}) == 4  # seeded anew in every epoch and worker
    path.unlink()
    batches(tmp_path, worker_init_fn=dict(type=note_worker, path=str(path)))
    assert sorted(line.split() for line in path.read_text().splitlines()) == sorted(calls)


def test_workers_that_live_on_are_refused(tmp_path):
    with pytest.raises(UserError, match='persistent_workers=False'):
        batches(tmp_path, persistent_workers=True)
