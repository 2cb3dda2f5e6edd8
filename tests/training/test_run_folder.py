"""What the folder of a run allows: going on, beginning anew, one process."""

import multiprocessing
import os
import shutil
import signal
import time

import pytest
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

from asl_det.errors import Stopped, UserError
from asl_det.files.identity import hold
from asl_det.registry import METRICS
from asl_det.training.run_folder import FileNames, choose_start, own_checkpoints, remove


def run_folder(tmp_path, *names, last=None, **hook):
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).touch()
    if last:
        (tmp_path / 'last_checkpoint').write_text(str(last))
    return Config(dict(work_dir=str(tmp_path), default_hooks=dict(checkpoint=hook)))


def names(cfg):
    return [os.path.basename(path) for path in own_checkpoints(cfg)[0]]


def test_checkpoints_are_ordered_by_their_place_in_the_training(tmp_path):
    cfg = run_folder(tmp_path, 'epoch_2.pth', 'epoch_10.pth', 'epoch_9.pth', 'best_mAP_epoch_9.pth',
                     'epoch_9_iter_950.pth', 'iter_9999.pth', 'epoch_11.pth.partial')
    assert names(cfg) == ['epoch_10.pth', 'epoch_9_iter_950.pth', 'epoch_9.pth', 'epoch_2.pth']
    cfg.default_hooks.checkpoint.by_epoch = False
    assert names(cfg) == ['iter_9999.pth']


def test_names_and_folder_are_those_of_the_hook(tmp_path):
    cfg = run_folder(tmp_path / 'run', '../out/run/net-3.ckpt', 'epoch_1.pth',
                     filename_tmpl='net-{}.ckpt', out_dir=str(tmp_path / 'out'))
    assert own_checkpoints(cfg) == ([str(tmp_path / 'out/run/net-3.ckpt')], [])


def test_a_checkpoint_that_only_last_checkpoint_names_comes_first(tmp_path):
    cfg = run_folder(tmp_path, 'epoch_1.pth', 'mine.pth', last=tmp_path / 'mine.pth')
    assert names(cfg) == ['mine.pth', 'epoch_1.pth']
    (tmp_path / 'mine.pth').unlink()
    assert names(cfg) == ['epoch_1.pth']
    cfg.work_dir = str(tmp_path / 'other')
    assert names(cfg) == []


def test_what_is_newer_than_last_checkpoint_is_named_and_not_taken(tmp_path):
    run = ['epoch_1.pth', 'epoch_2.pth', 'epoch_4.pth', 'epoch_2_iter_9.pth']
    cfg = run_folder(tmp_path, *run, last=tmp_path / 'epoch_2_iter_7.pth')  # which is gone
    older, newer = own_checkpoints(cfg)
    assert [os.path.basename(p) for p in older] == ['epoch_2.pth', 'epoch_1.pth']
    assert [os.path.basename(p) for p in newer] == ['epoch_4.pth', 'epoch_2_iter_9.pth']
    for name in run[:2]:
        (tmp_path / name).unlink()
    with pytest.raises(UserError, match=r'epoch_4.pth: last_checkpoint names one before it.*'
                                        r'--resume .*epoch_4.pth goes on from it'):
        choose_start(cfg, 'auto', False)
    with pytest.raises(UserError, match=r'holds a run already \(epoch_4.pth\)'):
        choose_start(cfg, None, False)


@pytest.mark.parametrize('template, names', [
    ('epoch_{:03d}.pth', ['epoch_012.pth', 'epoch_011_iter_95.pth', 'epoch_001.pth']),
    ('{:>3}-{{x}}.ckpt', [' 12-{x}.ckpt', ' 11_iter_95-{x}.ckpt', '  1-{x}.ckpt'])])
def test_numbers_of_any_format_are_found(tmp_path, template, names):
    cfg = run_folder(tmp_path, *names, filename_tmpl=template)
    assert [os.path.basename(path) for path in own_checkpoints(cfg)[0]] == names
    assert [FileNames(template).format(step) for step in (12, '11_iter_95', 1)] == names


@pytest.mark.parametrize('template', ['latest.pth', '{}_{}.pth', '{epoch}.pth', 'epoch_{.pth'])
def test_a_name_without_one_number_is_refused(tmp_path, template):
    with pytest.raises(UserError, match='filename_tmpl='):
        FileNames(template)


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp('whole')
    train(kept(), folder)
    return folder


def kept(**more):
    cfg = config(**more)
    cfg.default_hooks.checkpoint.max_keep_ckpts = -1
    return cfg


def log_of(folder):
    return ''.join(p.read_text() for p in sorted(folder.glob('*/*.log')))


def test_a_run_that_went_back_goes_on_from_there_and_not_from_what_it_left(whole, tmp_path):
    """Train 2 epochs, resume the first, stop, resume: it is the second training that goes on."""
    train(kept(), tmp_path)
    back = kept(custom_hooks=[interrupt(STEPS + 1, 'raise_signal')])
    with pytest.raises(Stopped):
        train(back, tmp_path, resume=str(tmp_path / 'epoch_1.pth'), resume_anyway=True)
    aside, = tmp_path.glob('abandoned_*')
    left = sorted(p.name for p in aside.iterdir())
    assert left[-1] == f'epoch_{EPOCHS}.pth'
    assert f'epoch_{EPOCHS}.pth of another branch of the run were put aside, in {aside}' in log_of(
        tmp_path)
    assert not (tmp_path / '.finished').exists()
    assert train(kept(), tmp_path, resume='auto', resume_anyway=True).name == f'epoch_{EPOCHS}.pth'
    stop = f'epoch_1_iter_{STEPS + 1}.pth'
    assert f'Load checkpoint from {tmp_path / stop}' in log_of(tmp_path)
    (tmp_path / stop).unlink()
    assert_same_end(whole, tmp_path)
    train(kept(), tmp_path, overwrite=True)
    assert not list(tmp_path.glob('abandoned_*'))


@pytest.mark.parametrize('elsewhere', [False, True])
def test_a_run_that_went_back_and_failed_before_it_saved_goes_on_from_there_too(tmp_path,
                                                                                elsewhere):
    train(kept(), tmp_path / 'run')
    start = tmp_path / 'run/epoch_1.pth'
    if elsewhere:
        start = shutil.copytree(tmp_path / 'run', tmp_path / 'other') / 'epoch_1.pth'
    with pytest.raises(RuntimeError, match='a step fails'):
        train(kept(custom_hooks=[interrupt(STEPS + 1, 'fail')]), tmp_path / 'run',
              resume=str(start), resume_anyway=True)
    cfg = kept()
    cfg.work_dir = str(tmp_path / 'run')
    assert own_checkpoints(cfg) == ([str(start)], [])
    train(kept(), tmp_path / 'run', resume='auto', resume_anyway=True)
    assert (tmp_path / f'run/epoch_{EPOCHS}.pth').exists() and start.exists()


def test_a_validation_is_owed_though_another_branch_had_finished(tmp_path):
    last = train(kept(), tmp_path)
    with pytest.raises(Stopped):
        train(kept(custom_hooks=[interrupt(STEPS + 1, 'raise_signal')]), tmp_path,
              resume=str(tmp_path / 'epoch_1.pth'), resume_anyway=True)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        patch.setattr(WeightSum, 'compute_metrics', killed)
        train(kept(), tmp_path, resume='auto', resume_anyway=True)
    assert (tmp_path / 'last_checkpoint').read_text() == str(last)
    count = log_of(tmp_path).count('Epoch(val)')
    train(kept(), tmp_path, resume='auto')
    assert log_of(tmp_path).count('Epoch(val)') > count


def killed(*args):
    raise Killed


def test_a_copy_of_a_folder_is_a_run_of_its_own(tmp_path):
    train(kept(param_scheduler=[]), tmp_path / 'run')
    shutil.copytree(tmp_path / 'run', tmp_path / 'copy')
    before = sorted(p.name for p in (tmp_path / 'run').glob('*.pth'))
    cfg = kept(param_scheduler=[])
    cfg.work_dir = str(tmp_path / 'copy')
    assert own_checkpoints(cfg)[0][0] == str(tmp_path / 'copy' / f'epoch_{EPOCHS}.pth')
    cfg.train_cfg.max_epochs = EPOCHS + 1
    cfg.val_evaluator = dict(type='mmdet.AlwaysBetter')
    train(cfg, tmp_path / 'copy', resume=str(tmp_path / 'copy/epoch_1.pth'), resume_anyway=True)
    train(cfg, tmp_path / 'third', resume=str(tmp_path / 'run/epoch_1.pth'), resume_anyway=True)
    assert sorted(p.name for p in (tmp_path / 'run').glob('*.pth')) == before
    best = f'best_score_epoch_{EPOCHS + 1}.pth'
    assert [p.name for p in (tmp_path / 'copy').glob('best_*')] == [best]
    # Nor is the original overwritten with a copy that has nothing of its own.
    for path in (tmp_path / 'copy').glob('*.pth'):
        path.unlink()
    (tmp_path / 'copy/last_checkpoint').write_text(str(tmp_path / f'run/epoch_{EPOCHS}.pth'))
    train(kept(), tmp_path / 'copy', overwrite=True)
    assert sorted(p.name for p in (tmp_path / 'run').glob('*.pth')) == before


@METRICS.register_module()
class AlwaysBetter(WeightSum):
    last = 100.0

    def compute_metrics(self, results):
        AlwaysBetter.last += 1
        return dict(score=AlwaysBetter.last)


def test_numbers_of_another_format_are_stopped_and_resumed(tmp_path):
    def named(**more):
        cfg = config(**more)
        cfg.default_hooks.checkpoint.update(filename_tmpl='epoch_{:03d}.pth', max_keep_ckpts=2)
        return cfg

    with pytest.raises(Stopped) as stopped:
        train(named(custom_hooks=[interrupt(STEPS + 1, 'raise_signal')]), tmp_path)
    assert os.path.basename(stopped.value.checkpoint) == f'epoch_001_iter_{STEPS + 1}.pth'
    assert train(named(), tmp_path, resume='auto', resume_anyway=True).name == 'epoch_002.pth'
    assert load(tmp_path / 'epoch_002.pth')['meta']['iter'] == EPOCHS * STEPS
    assert f'epoch_001_iter_{STEPS + 1}.pth' in log_of(tmp_path).rpartition('Load checkpoint')[2]


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
    last = train(config(), tmp_path, resume='auto', resume_anyway=True, seed=5)
    assert load(last)['meta']['seed'] == 5


def test_overwriting_removes_nothing_that_a_run_did_not_write(tmp_path):
    """Names that look alike are of people."""
    time = '20240102_030405'
    mine = ['abandoned_ideas/epoch_1.pth', 'best_of_2019.pth', 'best_epoch_3.txt',
            'mine/vis_data/a.json', f'abandoned_{time}/notes.txt', f'{time}/{time}.log',
            'abandoned_20230102_030405/epoch_9.txt', 'epoch_1.pth.bak']
    runs = ['epoch_1.pth', 'best_coco_bbox_mAP_epoch_1.pth', f'abandoned_{time}/epoch_2.pth',
            f'abandoned_{time}/best_coco_bbox_mAP_epoch_2.pth', f'{time}/vis_data/scalars.json',
            'abandoned_20220102_030405/epoch_2_iter_7.pth']
    cfg = run_folder(tmp_path, *mine, *runs)
    remove(choose_start(cfg, None, True).overwritten)
    assert sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob('*') if p.is_file()
                  ) == sorted(mine)
    assert not (tmp_path / 'abandoned_20220102_030405').exists()


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
