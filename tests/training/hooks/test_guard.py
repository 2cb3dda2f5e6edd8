"""Trainings that end before their end: by a signal, an error, a loss that is not finite."""

import math
import signal
from types import SimpleNamespace

import pytest
import torch
from interrupted import EPOCHS, STEPS, assert_same_end, config, interrupt, load, train
from mmengine.hooks import EMAHook, Hook
from mmengine.optim import OptimWrapper, OptimWrapperDict

from asl_det.errors import Stopped, UserError
from asl_det.registry import HOOKS, METRICS
from asl_det.training.hooks import GuardHook
from asl_det.training.hooks.guard import loss_of
from asl_det.training.stopping import Signals


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
    """Uninterrupted trainings, by epochs and by iterations."""
    folders = {}
    for by_epoch in (True, False):
        folders[by_epoch] = tmp_path_factory.mktemp('whole')
        train(config(by_epoch), folders[by_epoch])
    return folders


@pytest.mark.parametrize('step', [1, STEPS - 1, STEPS, STEPS + 2])
@pytest.mark.parametrize('by_epoch', [True, False], ids=['epochs', 'iterations'])
def test_a_stopped_training_goes_on_and_ends_the_same(whole, tmp_path, by_epoch, step):
    cfg = config(by_epoch, custom_hooks=[interrupt(step, 'raise_signal')])
    with pytest.raises(Stopped, match=f'stopped by SIGTERM after iteration {step}, .*--resume'
                       ) as stopped:
        train(cfg, tmp_path)
    assert stopped.value.status == 143
    saved = load(stopped.value.checkpoint)
    assert saved['meta']['iter'] == step
    assert (tmp_path / 'last_checkpoint').read_text() == stopped.value.checkpoint
    train(config(by_epoch), tmp_path, resume='auto', resume_anyway=True)  # without the hook
    assert_same_end(whole[by_epoch], tmp_path)


@pytest.mark.parametrize('by_epoch, step', [(True, 3), (False, 3)], ids=['epochs', 'iterations'])
def test_a_stop_without_a_seed_in_the_config_goes_on_with_the_same_order(tmp_path, by_epoch, step):
    """The seed that the Runner drew is the run's: no image is left out, none comes twice."""
    def cfg(**more):
        return config(by_epoch, randomness=dict(seed=None), **more)

    with pytest.raises(Stopped) as stopped:
        train(cfg(custom_hooks=[interrupt(step, 'raise_signal')]), tmp_path / 'run')
    seed = load(stopped.value.checkpoint)['meta']['seed']
    train(cfg(), tmp_path / 'run', resume='auto', resume_anyway=True)
    train(cfg(), tmp_path / 'whole', seed=seed)
    assert_same_end(tmp_path / 'whole', tmp_path / 'run')


@pytest.mark.parametrize('anyway', [False, True])
def test_another_seed_than_the_runs_is_refused(tmp_path, anyway):
    with pytest.raises(Stopped):
        train(config(custom_hooks=[interrupt(3, 'raise_signal')]), tmp_path)
    for kwargs in (dict(seed=1), dict(cfg=config(randomness=dict(seed=1)))):
        with pytest.raises(UserError, match='seed 1, but the run has seed 0'):
            train(kwargs.pop('cfg', config()), tmp_path, resume='auto', resume_anyway=anyway,
                  **kwargs)


def test_handlers_of_signals_are_put_back(tmp_path):
    before = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD)]
    with pytest.raises(Stopped):
        train(config(custom_hooks=[interrupt(1, 'raise_signal')]), tmp_path)
    after = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD)]
    assert before == after


def test_without_checkpoints_a_stopped_training_says_that_nothing_is_saved(tmp_path):
    cfg = config(custom_hooks=[interrupt(1, 'raise_signal')])
    cfg.default_hooks.checkpoint = None
    with pytest.raises(Stopped, match='nothing is saved'):
        train(cfg, tmp_path)


@METRICS.register_module()
class FailingOnce(METRICS.get('WeightSum')):
    """Fails where a run ends."""

    fail = True

    def compute_metrics(self, results):
        if type(self).fail:
            raise OSError('the output path is a folder')
        return super().compute_metrics(results)


def test_an_error_in_the_validation_loses_no_step(whole, tmp_path):
    cfg = config(val_evaluator=dict(type='mmdet.FailingOnce'))
    cfg.default_hooks.checkpoint.interval = EPOCHS  # the first epoch is not saved by itself
    with pytest.raises(OSError, match='output path'):
        train(cfg, tmp_path)
    assert (tmp_path / 'last_checkpoint').read_text() == str(tmp_path / 'epoch_1.pth')
    FailingOnce.fail = False
    train(cfg, tmp_path, resume='auto')
    assert_same_end(whole[True], tmp_path)


@pytest.mark.parametrize('kind, saves', [('EMAHook', True), ('mmdet.UsersEMA', False)])
def test_an_error_in_a_validation_of_an_average_saves_the_weights_that_are_trained(
        tmp_path, monkeypatch, kind, saves):
    cfg = config(custom_hooks=[dict(type=kind, momentum=0.1)],
                 val_evaluator=dict(type='mmdet.FailingOnce'))
    cfg.default_hooks.checkpoint.interval = EPOCHS
    train_whole = config(custom_hooks=cfg.custom_hooks, val_evaluator=cfg.val_evaluator)
    monkeypatch.setattr(FailingOnce, 'fail', False)
    train(train_whole, tmp_path / 'whole')
    monkeypatch.setattr(FailingOnce, 'fail', True)
    with pytest.raises(OSError, match='output path'):
        train(cfg, tmp_path / 'run')
    assert (tmp_path / 'run/last_checkpoint').exists() == saves
    said = ''.join(p.read_text() for p in tmp_path.glob('run/*/*.log'))
    assert ('a hook of your own has exchanged' in said) != saves
    if saves:
        monkeypatch.setattr(FailingOnce, 'fail', False)
        train(cfg, tmp_path / 'run', resume='auto')
        assert_same_end(tmp_path / 'whole', tmp_path / 'run')


@HOOKS.register_module()
class UsersEMA(EMAHook):
    pass


def test_an_error_within_a_step_saves_nothing_of_it(tmp_path):
    cfg = config(custom_hooks=[interrupt(STEPS + 1, 'fail')])
    with pytest.raises(RuntimeError, match='a step fails'):
        train(cfg, tmp_path)
    assert sorted(p.name for p in tmp_path.glob('*.pth')) == ['best_score_epoch_1.pth',
                                                              'epoch_1.pth']


@HOOKS.register_module()
class BrokenLoss(Hook):
    """The loss is NaN from a step on, for some steps; the weights stay as they are."""

    priority = 'VERY_HIGH'

    def __init__(self, first, count=10 ** 9):
        self.steps = range(first, first + count)

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if runner.iter + 1 in self.steps:
            outputs['loss'] = torch.tensor(math.nan)


def test_a_loss_that_stays_not_finite_ends_the_training(tmp_path):
    cfg = config(custom_hooks=[dict(type='mmdet.BrokenLoss', first=2)])
    with pytest.raises(UserError, match=r'the loss is not finite \(nan\) since 3 steps in a row, '
                                        r'at iteration 4.*last checkpoint is none'):
        train(cfg, tmp_path, non_finite_steps=3)


def test_a_loss_that_is_finite_again_does_not(tmp_path):
    cfg = config(custom_hooks=[dict(type='mmdet.BrokenLoss', first=2, count=2)])
    assert train(cfg, tmp_path, non_finite_steps=3).is_file()


class Scaler:
    """A loss scale that halves at every step that it skips; ``start`` 0: a constant one."""

    def __init__(self, start):
        self.scale, self.constant = start or 512.0, not start

    def is_enabled(self):
        return True

    def get_scale(self):
        self.scale /= 1 if self.constant else 2
        return self.scale


@pytest.mark.parametrize('start, steps', [
    (None, 3),  # no mixed precision
    (2.0 ** 16, 15 + 3),  # 32768 ... 2 are tried, then nothing is left
    (0, 1 + 3)])  # the first of a constant scale may have been lowered
def test_steps_that_mixed_precision_skips_do_not_count(start, steps):
    guard = GuardHook(Signals(), 3)
    optim = SimpleNamespace() if start is None else SimpleNamespace(loss_scaler=Scaler(start))
    runner = SimpleNamespace(optim_wrapper=optim, iter=0, hooks=[], train_dataloader=[0] * 99,
                             train_loop=None, epoch=0)
    for _ in range(steps - 1):
        guard.after_train_iter(runner, 0, outputs=dict(loss=torch.tensor(math.inf)))
    with pytest.raises(UserError, match='3 steps in a row'):
        guard.after_train_iter(runner, 0, outputs=dict(loss=torch.tensor(math.inf)))


def test_a_step_that_one_of_several_optimizers_skips_does_not_count():
    scalers = [Scaler(0), Scaler(2.0 ** 16)]
    wrappers = {}
    for name, scaler in zip('ab', scalers, strict=True):
        wrappers[name] = OptimWrapper(torch.optim.SGD([torch.zeros(1)], 0.1))
        wrappers[name].loss_scaler = scaler
    guard = GuardHook(Signals(), 3)
    runner = SimpleNamespace(optim_wrapper=OptimWrapperDict(**wrappers), iter=0, hooks=[],
                             train_dataloader=[0] * 99, train_loop=None, epoch=0)
    for _ in range(10):
        guard.after_train_iter(runner, 0, outputs=dict(loss=torch.tensor(math.inf)))


def test_the_loss_of_a_step_is_the_total_where_there_is_one():
    assert loss_of(dict(loss=torch.tensor(2.0), loss_cls=1.0, acc=5.0)) == 2.0
    assert loss_of(dict(loss_g=torch.tensor(2.0), loss_d=1.0, acc=5.0)) == 3.0
    assert loss_of(None) == 0.0
