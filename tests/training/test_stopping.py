"""Signals and killed workers, in processes of their own."""

import multiprocessing
import os
import signal
import sys
import time
from pathlib import Path

import pytest
from interrupted import config, load, train
from processes import SERVER

from asl_det.commands.command_line import one_line_errors
from asl_det.errors import UserError
from asl_det.training.stopping import Signals, killed_worker, noted

FORK = multiprocessing.get_context('fork')  # for a function that is in a test
LONG = 10_000  # epochs


def command(cfg, folder, kwargs, environment):
    """What tools/train.py does, its output in a file."""
    os.setpgid(0, 0)
    os.environ.update(environment)
    log = os.open(folder / f'out{environment.get("RANK", "")}.txt',
                  os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    sys.stdout = sys.stderr = open(log, 'w', buffering=1)  # noqa: SIM115
    one_line_errors(lambda: train(cfg, folder / 'run', **kwargs))()


@pytest.fixture
def start(tmp_path):
    """Starts a training in a process group of its own; all end with the test."""
    started = []

    def start(cfg, environment=None, **kwargs):
        # Not a fork of this process, whose threads other tests have left.
        process = SERVER.Process(target=command, args=(cfg, tmp_path, kwargs, environment or {}))
        process.start()
        started.append(process)
        return process

    yield start
    for process in started:
        if process.is_alive():
            process.kill()
        process.join()


def wait_for(condition, seconds=120):
    end = time.time() + seconds
    while time.time() < end:
        found = condition()
        if found:
            return found
        time.sleep(0.02)
    raise AssertionError('it did not happen')


def long_training(workers=0):
    cfg = config()
    cfg.val_dataloader = cfg.val_cfg = cfg.val_evaluator = None
    cfg.default_hooks.checkpoint.save_best = None
    cfg.train_cfg.max_epochs = LONG
    cfg.train_dataloader.num_workers = workers
    cfg.train_dataloader.persistent_workers = workers > 0
    return cfg


def workers_of(pid):
    return [int(p) for p in Path(f'/proc/{pid}/task/{pid}/children').read_text().split()]


def ended(process):
    process.join(60)
    return process.exitcode


@pytest.mark.parametrize('name, more', [('SIGINT', ()), ('SIGTERM', ()), ('SIGUSR1', ('SIGUSR1',))])
def test_a_signal_to_all_processes_of_a_run_saves_and_ends_with_its_status(start, tmp_path, name,
                                                                           more):
    number = getattr(signal, name)
    process = start(long_training(workers=1), stop_signals=('SIGINT', 'SIGTERM', *more))
    wait_for((tmp_path / 'run/last_checkpoint').exists)
    os.killpg(process.pid, number)  # its workers too, as a terminal, torchrun and Slurm do
    assert ended(process) == 128 + number
    said = (tmp_path / 'out.txt').read_text()
    last = Path((tmp_path / 'run/last_checkpoint').read_text())
    step = load(last)['meta']['iter']
    assert (f'{name}: saving a checkpoint after this step' in said and said.endswith(
        f'stopped by {name} after iteration {step}, which {last} holds: the same command with '
        '--resume goes on from there\n'))


def test_a_killed_worker_is_explained_and_the_lock_is_free(start, tmp_path):
    process = start(long_training(workers=1))
    wait_for((tmp_path / 'run/last_checkpoint').exists)
    worker = wait_for(lambda: workers_of(process.pid))[0]
    os.kill(worker, signal.SIGKILL)
    assert ended(process) == 1
    last = (tmp_path / 'out.txt').read_text().rstrip().splitlines()[-1]
    assert last.startswith('error: a worker of train_dataloader was killed') and (
        'lower train_dataloader.num_workers' in last)


def test_all_processes_stop_at_the_same_step_and_resume_from_the_same_checkpoint(
        start, tmp_path, free_port):
    def launch(**kwargs):
        return [start(long_training(), launcher='pytorch', environment=dict(
            RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE='2', MASTER_ADDR='127.0.0.1',
            MASTER_PORT=str(free_port)), **kwargs) for rank in range(2)]

    processes = launch()
    wait_for((tmp_path / 'run/last_checkpoint').exists)
    os.kill(processes[1].pid, signal.SIGTERM)  # one of them alone
    assert [ended(p) for p in processes] == [143, 143]
    last = Path((tmp_path / 'run/last_checkpoint').read_text())
    saved = load(last)
    assert len(saved['random']) == 2
    assert f'after iteration {saved["meta"]["iter"]}' in (tmp_path / 'out0.txt').read_text()

    last.with_name('epoch_9999.pth').write_bytes(b'cut')  # a newer one that does not load
    processes = launch(resume='auto')
    wait_for(lambda: Path((tmp_path / 'run/last_checkpoint').read_text()) != last)
    os.kill(processes[0].pid, signal.SIGTERM)
    assert [ended(p) for p in processes] == [143, 143]
    assert all(f'Loads checkpoint by local backend from path: {last}' in
               (tmp_path / f'out{rank}.txt').read_text() for rank in range(2))

    processes = launch()
    assert [ended(p) for p in processes] == [1, 1]
    assert all('holds a run already' in (tmp_path / f'out{rank}.txt').read_text()
               for rank in range(2))


def status_of(what):
    """How a process ends that calls ``what``: its exit code, or minus the signal."""
    process = FORK.Process(target=what)
    process.start()
    return ended(process)


def test_a_second_signal_ends_the_process_at_once_and_an_echo_does_not():
    def twice(pause):
        with noted(['SIGTERM']) as signals:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(pause)
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.1)
            os._exit(signals.number)

    assert status_of(lambda: twice(0.2)) == signal.SIGTERM
    assert status_of(lambda: twice(1.2)) == -signal.SIGTERM


def test_a_worker_does_not_note_the_signals_of_the_training():
    signals = Signals()
    assert status_of(lambda: (signals.note(signal.SIGINT), os._exit(signals.number))) == 0


@pytest.mark.parametrize('name', ['SIGKILL', 'SIGNAL', 'term', 'SIG_DFL'])
def test_names_that_are_no_signal_to_handle_are_refused(name):
    with pytest.raises(UserError, match=f'stop signal {name}: expected'), noted([name]):
        pass


@pytest.mark.parametrize('text, expected', [
    ('DataLoader worker (pid 12) is killed by signal: Killed. ', r'was killed \(Killed\), most '
     'likely because the machine ran out of memory: lower val_dataloader.num_workers'),
    ('DataLoader worker (pid(s) 1, 22) exited unexpectedly', 'by an unknown signal'),
    ('DataLoader worker (pid 3) is killed by signal: Bus error. It is possible that', 'shm-size')])
def test_what_torch_says_of_killed_workers_becomes_an_advice(text, expected):
    with pytest.raises(UserError, match=expected):
        raise killed_worker(RuntimeError(text), 'val_dataloader')


def test_other_errors_are_not_explained():
    assert killed_worker(RuntimeError('CUDA out of memory'), 'x') is None
    assert killed_worker(UserError('DataLoader worker (pid 1) is killed'), 'x') is None
