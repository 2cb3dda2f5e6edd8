"""Python in processes of its own, without the seconds that importing torch takes each.

A server (``multiprocessing``'s) imports the large libraries once and forks a process for each
call. It imports neither ``asl_det`` nor ``mmdet.models``: those a process imports as a new one
does. Where a test is about the start of Python itself, it uses ``subprocess``.
"""

import datetime
import gc
import multiprocessing
import os
import random
import runpy
import signal
import subprocess
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.connection import wait
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
import torch.distributed as dist
from mmengine.dataset import base_dataset

TESTS = Path(__file__).parent
SERVER = multiprocessing.get_context('forkserver')
SERVER.set_forkserver_preload(['torch', 'torchvision', 'timm', 'mmengine.runner',
                               'mmdet.registry', 'matplotlib.pyplot', 'sklearn.datasets'])


class Started:
    """``python *command``, running in a session (a process group) of its own."""

    def __init__(self, *command, env=None, cwd='.'):
        self.args = list(map(str, command))
        env = dict(os.environ if env is None else env)
        self._folder = tempfile.TemporaryDirectory()
        self._files = [Path(self._folder.name, name) for name in ('stdout', 'stderr')]
        self.process = SERVER.Process(target=_run, args=(
            self.args, {k: str(v) for k, v in env.items()}, str(cwd), self._files))
        self.process.start()

    def kill(self):
        os.killpg(self.process.pid, signal.SIGKILL)

    def result(self):
        """Wait for the end; as ``subprocess.run(capture_output=True, text=True)`` returns it."""
        self.process.join()
        out = [f.read_text() if f.exists() else '' for f in self._files]
        self._folder.cleanup()
        return subprocess.CompletedProcess(self.args, self.process.exitcode, *out)


def python(*command, **kwargs):
    """The result of ``python *command``: a script and its arguments, or ``-c`` and code."""
    return Started(*command, **kwargs).result()


def python_twice(*command, env=None, **kwargs):
    """As ``torchrun --nproc_per_node=2``: the results of both processes.

    The end of one with an error is the end of the other.
    """
    # Held by this process from the start: no port to be found free and then lost to others.
    store = dist.TCPStore('127.0.0.1', 0, is_master=True, wait_for_workers=False)
    shared = dict(os.environ if env is None else env, MASTER_ADDR='127.0.0.1',
                  MASTER_PORT=store.port, WORLD_SIZE=2, LOCAL_WORLD_SIZE=2, OMP_NUM_THREADS=1,
                  TORCHELASTIC_USE_AGENT_STORE='True', TORCHELASTIC_RESTART_COUNT=0)
    started = [Started(*command, env=dict(shared, RANK=rank, LOCAL_RANK=rank), **kwargs)
               for rank in (0, 1)]
    running = {s.process.sentinel: s for s in started}
    while running:
        for sentinel in wait(running):
            ended = running.pop(sentinel)
            ended.process.join()
            if ended.process.exitcode:
                for other in running.values():
                    other.kill()
    return [s.result() for s in started]


def in_two_processes(function, folder, *args):
    """What ``function(rank, *args)`` returns in each of two processes of one gloo group."""
    store = Path(folder, 'store')
    with ProcessPoolExecutor(2, SERVER) as pool:
        return [f.result() for f in [pool.submit(_join, function, rank, store, args)
                                     for rank in (0, 1)]]


def without_collections():
    """mmengine collects garbage for every data set: half a second each, beside mmdet's models."""
    base_dataset.gc = SimpleNamespace(collect=lambda: None)


def _join(function, rank, store, args):
    dist.init_process_group('gloo', init_method=f'file://{store}', rank=rank, world_size=2,
                            timeout=datetime.timedelta(seconds=60))
    result = function(rank, *args)
    dist.destroy_process_group()
    return result


def _run(command, env, cwd, files):
    """Be the process of this command."""
    os.setsid()
    gc.freeze()  # as conftest.py
    without_collections()
    for number, file in enumerate(files, 1):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT), number)
    os.environ.clear()
    os.environ.update(env)
    os.chdir(cwd)
    multiprocessing.set_start_method(None, force=True)  # the platform's, as in a new process
    random.seed()
    np.random.seed()
    if 'OMP_NUM_THREADS' in env:
        torch.set_num_threads(int(env['OMP_NUM_THREADS']))
    script, *rest = command
    first = '' if script == '-c' else os.path.dirname(os.path.abspath(script))
    sys.path[:] = [first, *filter(None, env.get('PYTHONPATH', '').split(os.pathsep)),
                   *(p for p in sys.path if not Path(p).is_relative_to(TESTS))]
    if script == '-c':
        sys.argv = ['-c', *rest[1:]]
        exec(compile(rest[0], '<string>', 'exec'), {'__name__': '__main__'})
    else:
        sys.argv = command
        runpy.run_path(script, run_name='__main__')
