"""Trainings that are killed at every moment of their writing."""

import errno
import os

import pytest
import torch
from interrupted import (
    EPOCHS,
    STEPS,
    Killed,
    WeightSum,
    assert_same_end,
    config,
    interrupt,
    load,
    train,
)
from mmengine.config import Config
from mmengine.logging import MessageHub
from mmengine.runner import Runner

import asl_det.files.whole
from asl_det.errors import Stopped, UserError
from asl_det.registry import METRICS


@pytest.fixture(scope='module', params=[True, False], ids=['epochs', 'iterations'])
def whole(request, tmp_path_factory):
    """An uninterrupted training: by epochs or not, its folder, the calls that wrote."""
    folder = tmp_path_factory.mktemp('whole')
    with pytest.MonkeyPatch.context() as patch:
        calls = count_writes(patch, at=-1)
        train(config(request.param), folder)
    return request.param, folder, len(calls)


def count_writes(patch, at, error=Killed):
    """Every call that changes checkpoints, as a list; the one numbered ``at`` fails instead."""
    calls = []

    def counted(original):
        def call(path, *args, **kwargs):
            if '.pth' in str(path) or 'last_checkpoint' in str(path):
                calls.append(path)
                if len(calls) == at + 1:
                    raise error
            return original(path, *args, **kwargs)
        return call

    patch.setattr(asl_det.files.whole, 'open', counted(open), raising=False)
    patch.setattr(os, 'replace', counted(os.replace))
    patch.setattr(os, 'remove', counted(os.remove))
    return calls


@pytest.mark.parametrize('every', [4, pytest.param(1, marks=pytest.mark.exhaustive)])
def test_a_training_killed_at_any_write_goes_on_and_ends_the_same(whole, tmp_path, every):
    by_epoch, folder, calls = whole
    assert calls > 20
    for at in range(every // 2, calls, every):
        work_dir = tmp_path / str(at)
        with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
            count_writes(patch, at)
            train(config(by_epoch), work_dir)
        last = work_dir / 'last_checkpoint'
        assert at < 4 or 'state_dict' in load(last.read_text()), at
        train(config(by_epoch), work_dir, resume='auto')
        assert_same_end(folder, work_dir)
        assert not list(work_dir.glob('*.partial')), at


@pytest.mark.parametrize('at', [0, 1, 2, 6, 11, 13])
def test_a_full_disk_leaves_the_last_checkpoint_and_says_so(tmp_path, monkeypatch, at):
    full = OSError(errno.ENOSPC, 'No space left on device')
    with monkeypatch.context() as patch:
        calls = count_writes(patch, at, full)
        with pytest.raises(UserError, match=r'No space left on device.*go on with --resume'):
            train(config(), tmp_path)
        assert len(calls) > at
    assert not list(tmp_path.glob('*.partial'))
    newest = train(config(), tmp_path, resume='auto')
    assert newest.name == f'epoch_{EPOCHS}.pth' and 'state_dict' in load(newest)


def test_the_newest_checkpoint_that_loads_is_resumed_and_the_others_are_named(tmp_path, caplog):
    cfg = config()
    cfg.default_hooks.checkpoint.max_keep_ckpts = -1
    train(cfg, tmp_path)
    newest = tmp_path / f'epoch_{EPOCHS}.pth'
    newest.write_bytes(newest.read_bytes()[:1000])
    train(cfg, tmp_path, resume='auto')
    assert 'state_dict' in load(newest)
    log = ''.join(p.read_text() for p in tmp_path.glob('*/*.log'))
    assert f'passes over a newer checkpoint, {newest}: checkpoint {newest} can not be read' in log
    for path in tmp_path.glob('epoch_*.pth'):
        path.write_bytes(b'')
    with pytest.raises(UserError, match='no checkpoint of the run loads: .*epoch_2.*epoch_1'):
        train(cfg, tmp_path, resume='auto')


def test_weights_that_are_not_finite_replace_no_checkpoint(tmp_path):
    with pytest.raises(UserError, match=r'not finite after iteration .*layer.weight.*epoch_1.pth'):
        train(config(custom_hooks=[interrupt(2 * STEPS, 'break_weights')]), tmp_path)
    saved = load((tmp_path / 'last_checkpoint').read_text())['state_dict']
    assert all(t.isfinite().all() for t in saved.values())
    assert sorted(p.name for p in tmp_path.glob('*.pth')) == ['best_score_epoch_1.pth',
                                                              'epoch_1.pth']


def test_an_infinity_that_is_meant_does_not_count(tmp_path):
    cfg = config(model=dict(type='mmdet.MaskedModel'))
    assert train(cfg, tmp_path).is_file()


def test_checkpoints_of_mmengine_are_resumed(tmp_path):
    cfg = config(param_scheduler=[])
    old = train(cfg, tmp_path / 'a')
    saved = load(old)
    del saved['random'], saved['meta']['batches'], saved['meta']['validated']
    torch.save(saved, old)
    cfg.train_cfg.max_epochs += 1
    assert train(cfg, tmp_path / 'a', resume='auto').name == 'epoch_3.pth'


def early(patience=2, steps=6, **more):
    """Ends after some validations that are not better than the first."""
    cfg = config(param_scheduler=[], val_evaluator=dict(type='mmdet.Worse'), custom_hooks=[
        dict(type='EarlyStoppingHook', monitor='score', rule='greater', patience=patience),
        *more.pop('custom_hooks', [])], **more)
    cfg.train_cfg.max_epochs = steps
    cfg.default_hooks.checkpoint.interval = 2
    return cfg


@METRICS.register_module()
class Worse(WeightSum):

    def compute_metrics(self, results):
        return dict(score=-float(MessageHub.get_current_instance().get_info('epoch')))


def test_a_run_that_early_stopping_ended_has_ended(tmp_path):
    last = train(early(), tmp_path)
    assert last.name == 'epoch_3.pth'  # the end is saved, whatever the interval
    before = last.read_bytes()
    assert train(early(), tmp_path, resume='auto') == last and last.read_bytes() == before
    log = ''.join(p.read_text() for p in sorted(tmp_path.glob('*/*.log')))
    assert 'early stopping has ended this run, so nothing is left to train' in log
    assert train(early(), tmp_path, resume='auto', resume_anyway=True).name == 'epoch_4.pth'
    assert train(early(patience=9), tmp_path, resume='auto', resume_anyway=True
                 ).name == 'epoch_6.pth'


@pytest.mark.parametrize('step', [STEPS + 1, 2 * STEPS, 2 * STEPS + 1])
def test_what_early_stopping_has_counted_goes_on(tmp_path, step):
    """A stop does not give it its patience anew."""
    train(early(), tmp_path / 'whole')
    stop = dict(custom_hooks=[interrupt(step, 'raise_signal')])
    with pytest.raises(Stopped):
        train(early(**stop), tmp_path / 'run')
    train(early(), tmp_path / 'run', resume='auto', resume_anyway=True)
    assert_same_end(tmp_path / 'whole', tmp_path / 'run')


def test_early_stopping_has_seen_the_metrics_that_make_the_best_checkpoint(tmp_path):
    cfg = early(custom_hooks=[interrupt(STEPS + 1, 'fail')])
    cfg.default_hooks.checkpoint.interval = 1
    with pytest.raises(RuntimeError):
        train(cfg, tmp_path)
    meta = load((tmp_path / 'last_checkpoint').read_text())['meta']
    assert meta['validated'] and meta['early_stopping'][0]['best_score'] == 0.0


def test_several_optimizers_are_resumed(tmp_path):
    """With a schedule, and without one: the learning rates are compared."""
    optim = dict(constructor='TwoOptimizers', layer=dict(optimizer=dict(type='SGD', lr=0.1)),
                 norm=dict(optimizer=dict(type='SGD', lr=0.2)))
    for name, more in (('a', {}), ('b', dict(param_scheduler=[]))):
        more = dict(more, model=dict(type='mmdet.TwoOptimizersModel'), optim_wrapper=optim)
        train(config(**more), tmp_path / f'whole_{name}')
        with pytest.raises(Stopped):
            train(config(custom_hooks=[interrupt(2, 'raise_signal')], **more), tmp_path / name)
        train(config(**more), tmp_path / name, resume='auto', resume_anyway=True)
        assert_same_end(tmp_path / f'whole_{name}', tmp_path / name)


def test_a_config_that_a_run_has_left_is_resumed_by_mmengine_itself(tmp_path):
    """As mmdet's own tools/train.py --resume does."""
    train(config(), tmp_path)
    cfg = Config.fromfile(next(tmp_path.glob('*/vis_data/config.py')))
    cfg.train_cfg.max_epochs, cfg.resume = EPOCHS + 1, True
    cfg.experiment_name = 'another'
    Runner.from_cfg(cfg).train()
    assert (tmp_path / f'epoch_{EPOCHS + 1}.pth').exists()
