"""Trainings that are interrupted between two steps of an optimizer that accumulates gradients."""

import os

import pytest
import torch
from interrupted import EPOCHS, STEPS, assert_same_end, config, interrupt, load, train
from processes import in_two_processes

from asl_det.errors import Stopped
from asl_det.training.hooks.accumulation import set_accumulated

MODELS = ['NoisyModel', 'NoisyModelWithAdaptiveASL', 'TwoOptimizersModel']
COUNT = 3  # of gradients: no divisor of the epoch's steps


def accumulating(model='NoisyModel', by_epoch=True, **more):
    optim = dict(optimizer=dict(type='SGD', lr=0.1, momentum=0.9), accumulative_counts=COUNT)
    if model == 'TwoOptimizersModel':
        optim = dict(constructor='TwoOptimizers', layer=optim,
                     norm=dict(optimizer=dict(type='SGD', lr=0.1)))
        more.setdefault('param_scheduler', [])
    return config(by_epoch, model=dict(type=f'mmdet.{model}'), optim_wrapper=optim, **more)


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
    """Uninterrupted trainings, made where they are asked for."""
    folders = {}

    def get(*case):
        if case not in folders:
            folders[case] = tmp_path_factory.mktemp('whole')
            train(accumulating(*case), folders[case])
        return folders[case]

    return get


CASES = [(model, True, step) for model in MODELS for step in (2, STEPS)] + [
    ('NoisyModel', False, 2), ('NoisyModel', True, STEPS + 1)]


@pytest.mark.parametrize('model, by_epoch, step', CASES)
def test_a_stop_between_two_steps_of_the_optimizer_loses_no_gradient(whole, tmp_path, model,
                                                                     by_epoch, step):
    with pytest.raises(Stopped) as stopped:
        train(accumulating(model, by_epoch, custom_hooks=[interrupt(step, 'raise_signal')]),
              tmp_path)
    assert ('accumulated' in load(stopped.value.checkpoint)) == (step % COUNT != 0)
    train(accumulating(model, by_epoch), tmp_path, resume='auto', resume_anyway=True)
    assert_same_end(whole(model, by_epoch), tmp_path)


def test_a_checkpoint_at_an_interval_between_two_steps_holds_the_gradients_too(whole, tmp_path):
    cfg = accumulating()
    cfg.default_hooks.checkpoint.max_keep_ckpts = -1
    train(cfg, tmp_path)
    assert 'accumulated' in load(tmp_path / 'epoch_1.pth')  # after 4 of 3 + 3 gradients
    assert 'accumulated' not in load(tmp_path / f'epoch_{EPOCHS}.pth')  # the last step is made
    train(accumulating(), tmp_path, resume=str(tmp_path / 'epoch_1.pth'))
    os.remove(tmp_path / 'epoch_1.pth')
    assert_same_end(whole('NoisyModel'), tmp_path)


def test_another_number_of_processes_goes_on_with_the_mean_of_the_gradients():
    model = torch.nn.Linear(2, 1)
    weight = torch.ones(1, 2)
    set_accumulated(model, [dict(gradients={'weight': weight, 'bias': torch.ones(1)}, counted={}),
                            dict(gradients={'weight': 3 * weight}, counted={})])
    assert torch.equal(model.weight.grad, 2 * weight) and float(model.bias.grad) == 0.5


def _stop_and_resume(rank, folder):
    """Without a seed in the config, between two steps of the optimizer, in the first epoch."""
    os.environ['LOCAL_RANK'] = str(rank)

    def cfg(**more):
        return accumulating('NoisyModelWithAdaptiveASL', randomness=dict(seed=None),
                            find_unused_parameters=True, **more)

    what = 'raise_signal' if rank else 'pass'  # in one of them
    stopped = None
    try:
        train(cfg(custom_hooks=[interrupt(1, what)]), folder / 'stopped', launcher='pytorch')
    except Stopped as stop:
        stopped = stop.checkpoint
    saved = load(stopped)
    train(cfg(), folder / 'stopped', launcher='pytorch', resume='auto', resume_anyway=True)
    train(cfg(), folder / 'whole', launcher='pytorch', seed=saved['meta']['seed'])
    return [float(one['gradients']['layer.weight'].sum()) for one in saved['accumulated']]


def test_two_processes_keep_their_own_gradients_and_the_seed_that_was_drawn(tmp_path):
    found = in_two_processes(_stop_and_resume, tmp_path, tmp_path)
    assert found[0] == found[1] and len(set(found[0])) == 2
    assert_same_end(tmp_path / 'whole', tmp_path / 'stopped')
