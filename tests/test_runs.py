"""What the folder of a run allows: going on, beginning anew, one process."""

import multiprocessing
import os
import signal
import time

import pytest
from interrupted import EPOCHS, config, interrupt, load, train
from mmengine.config import Config

from asl_det.errors import Stopped, UserError
from asl_det.identity import hold
from asl_det.runs import choose_start, own_checkpoints


def run_folder(tmp_path, *names, last=None, **hook):
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).touch()
    if last:
        (tmp_path / 'last_checkpoint').write_text(str(last))
    return Config(dict(work_dir=str(tmp_path), default_hooks=dict(checkpoint=hook)))


def names(cfg):
    return [os.path.basename(path) for path in own_checkpoints(cfg)]


def test_checkpoints_are_ordered_by_their_place_in_the_training(tmp_path):
    cfg = run_folder(tmp_path, 'epoch_2.pth', 'epoch_10.pth', 'epoch_9.pth', 'best_mAP_epoch_9.pth',
                     'epoch_9_iter_950.pth', 'iter_9999.pth', 'epoch_11.pth.partial')
    assert names(cfg) == ['epoch_10.pth', 'epoch_9_iter_950.pth', 'epoch_9.pth', 'epoch_2.pth']
    cfg.default_hooks.checkpoint.by_epoch = False
    assert names(cfg) == ['iter_9999.pth']


def test_names_and_folder_are_those_of_the_hook(tmp_path):
    cfg = run_folder(tmp_path / 'run', '../out/run/net-3.ckpt', 'epoch_1.pth',
                     filename_tmpl='net-{}.ckpt', out_dir=str(tmp_path / 'out'))
    assert own_checkpoints(cfg) == [str(tmp_path / 'out/run/net-3.ckpt')]


def test_a_checkpoint_that_only_last_checkpoint_names_comes_first(tmp_path):
    cfg = run_folder(tmp_path, 'epoch_1.pth', 'mine.pth', last=tmp_path / 'mine.pth')
    assert names(cfg) == ['mine.pth', 'epoch_1.pth']
    (tmp_path / 'mine.pth').unlink()
    assert names(cfg) == ['epoch_1.pth']
    cfg.work_dir = str(tmp_path / 'other')
    assert names(cfg) == []


def test_a_run_is_not_overwritten_unasked(tmp_path):
    cfg = run_folder(tmp_path, 'epoch_1.pth')
    with pytest.raises(UserError, match=r'holds a run already \(epoch_1.pth\): --resume goes on'):
        choose_start(cfg, None, False)
    with pytest.raises(UserError, match='give one of them'):
        choose_start(cfg, 'auto', True)
    cfg.load_from = str(tmp_path / 'epoch_1.pth')
    with pytest.raises(UserError, match='belongs to the run that --overwrite would remove'):
        choose_start(cfg, None, True)


def test_overwriting_removes_the_run_when_the_new_one_begins(tmp_path):
    cfg = config()
    cfg.default_hooks.checkpoint.max_keep_ckpts = -1
    train(cfg, tmp_path)
    mine = tmp_path / 'notes.txt'
    mine.touch()
    # Nothing is removed where the new training does not begin, ...
    broken = config(model=dict(type='mmdet.NoSuchModel'))
    with pytest.raises(UserError, match='NoSuchModel'):
        train(broken, tmp_path, overwrite=True)
    assert (tmp_path / f'epoch_{EPOCHS}.pth').exists()
    # ... and all where it does: what is resumed then is the new run.
    cfg.custom_hooks = [interrupt(1, 'raise_signal')]
    with pytest.raises(Stopped):
        train(cfg, tmp_path, overwrite=True, seed=5)
    assert [p.name for p in tmp_path.glob('*.pth')] == ['epoch_0_iter_1.pth']
    assert mine.exists() and not (tmp_path / '.finished').exists()
    assert load(train(config(), tmp_path, resume='auto', resume_anyway=True))['meta']['seed'] == 5


def test_a_finished_run_is_resumed_without_validating_again(tmp_path):
    cfg = config(val_evaluator=dict(type='mmdet.WeightSum'))
    cfg.default_hooks.checkpoint.save_best = None
    last = train(cfg, tmp_path)
    before = last.stat().st_mtime_ns
    assert train(cfg, tmp_path, resume='auto') == last and last.stat().st_mtime_ns == before
    log = ''.join(p.read_text() for p in tmp_path.glob('*/*.log'))
    assert log.count('Epoch(val)') == EPOCHS * 5  # 4 batches and a summary


def _hold_and_fork(folder, ready):
    with hold(folder):
        child = os.fork()  # as a DataLoader forks its workers
        if child == 0:
            time.sleep(30)
            os._exit(0)
        ready.put(child)
        time.sleep(30)


def test_a_lock_ends_with_its_process_though_workers_live_on(tmp_path):
    context = multiprocessing.get_context('fork')
    ready = context.Queue()
    process = context.Process(target=_hold_and_fork, args=(tmp_path, ready))
    process.start()
    worker = ready.get(timeout=30)
    with pytest.raises(UserError, match='in use by another process'), hold(tmp_path):
        pass
    process.kill()
    process.join()
    try:
        with hold(tmp_path):
            pass
    finally:
        os.kill(worker, signal.SIGKILL)
