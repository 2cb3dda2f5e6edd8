"""Kill a training with SIGKILL at random moments, resume it each time, and compare its end.

    python tools/kill_campaign.py CONFIG --data-root FOLDER --kills 30

The config is trained twice with a checkpoint after every step: once with
interruptions, once without. Every checkpoint at the end (weights, averages,
state of the optimizer, the best one) must be equal bit for bit. Take a config
whose random numbers depend on the seed alone (EpochSeedHook) and enough epochs.

--no-seed trains without a seed in the config: the uninterrupted training gets
the one that was drawn. --go-back resumes an older checkpoint after every second
kill; after the next one the training must go on from there, not from what it
had left.
"""

import argparse
import multiprocessing
import os
import random
import re
import sys
import time
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Iterator, Union

import torch
from mmengine.config import Config
from mmengine.runner import CheckpointLoader

from asl_det.commands.command_line import add_config, config_options, one_line_errors
from asl_det.engine import load_config, train
from asl_det.errors import UserError
from asl_det.training.run_folder import LAST

EVERY_STEP = {'default_hooks.checkpoint.by_epoch': False, 'default_hooks.checkpoint.interval': 1}
TOLD = 'resumed.txt'  # from which iterations the trainings of a folder should go on
COMPARED = ('state_dict', 'ema_state_dict', 'optimizer', 'param_schedulers')


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    add_config(parser)
    parser.add_argument('--epochs', type=int, metavar='N', help='length of the training')
    parser.add_argument('--work-dir', default='work_dirs/kill_campaign')
    parser.add_argument('--kills', type=int, default=30)
    parser.add_argument('--seed', type=int, default=0, help='of the moments')
    parser.add_argument('--no-seed', action='store_true', help='take the seed out of the config')
    parser.add_argument('--go-back', action='store_true', help='after every second kill, resume '
                        'the oldest of the last checkpoints')
    return parser.parse_args()


@one_line_errors
def main() -> None:
    import mmdet.models  # noqa: F401  once, before the trainings are forked
    torch.set_num_threads(1)
    args = parse_args()
    cfg = load_config(args.config, {**EVERY_STEP, **config_options(args)})
    if args.no_seed:
        cfg.randomness = dict(cfg.get('randomness') or {}, seed=None)
    if args.go_back:
        cfg.default_hooks.checkpoint.max_keep_ckpts = 3
    whole, killed = Path(args.work_dir, 'whole'), Path(args.work_dir, 'killed')
    moments = random.Random(args.seed)
    process = start(cfg, killed, overwrite=True)
    for number in range(1, args.kills + 1):
        kill(process, killed, moments)
        check_branch(killed)
        last = newest = Path(killed, LAST).read_text('utf-8')
        if args.go_back and number % 2:
            last = str(min(killed.glob('iter_*.pth'), key=_iteration))
        partial = [p.name for p in killed.glob('*.partial')]
        print(f'kill {number} of {args.kills}: iteration {_iteration(newest)} is whole'
              + (f', {partial[0]} was being written' if partial else '')
              + (f'; back to iteration {_iteration(last)}' if last != newest else ''), flush=True)
        process = start(cfg, killed, resume='auto' if last == newest else last)
    finish(process, killed)
    check_branch(killed)
    last = Path(killed, LAST).read_text('utf-8')
    seed = CheckpointLoader.load_checkpoint(last, 'cpu')['meta']['seed']
    print(f'uninterrupted training, with seed {seed}', flush=True)
    finish(start(cfg, whole, overwrite=True, seed=seed), whole)
    compare(whole, killed)
    print(f'{args.kills} of {args.kills} kills: the training went on after each, and all of '
          f'{", ".join(sorted(p.name for p in whole.glob("*.pth")))} is equal bit for bit to the '
          'uninterrupted one')


def _iteration(path: Union[str, Path]) -> int:
    return CheckpointLoader.load_checkpoint(str(path), 'cpu')['meta']['iter']


def check_branch(folder: Path) -> None:
    """See that every training began where it was told to, or where ``last_checkpoint`` was."""
    begun = [int(n) for n in re.findall(r'resumed epoch: \d+, iter: (\d+)',
                                        (folder / 'train.log').read_text('utf-8', 'replace'))]
    told = folder / TOLD
    told = [int(n) for n in told.read_text('utf-8').split()] if told.exists() else []
    if begun != told[:len(begun)]:
        raise UserError(f'trainings in {folder} went on from iterations {begun}, and should from '
                        f'{told}')


def start(cfg: Config, folder: Path, **how: Any) -> BaseProcess:
    folder.mkdir(parents=True, exist_ok=True)
    for name in ('train.log', TOLD) if 'overwrite' in how else ():
        (folder / name).unlink(missing_ok=True)
    if 'resume' in how:
        last = how['resume'] if how['resume'] != 'auto' else (folder / LAST).read_text('utf-8')
        with open(folder / TOLD, 'a', encoding='utf-8') as file:
            file.write(f'{_iteration(last)}\n')
    # A fork, because importing takes longer than the training.
    process = multiprocessing.get_context('fork').Process(target=_train, args=(cfg, folder, how))
    process.start()
    return process


def _train(cfg: Config, folder: Path, how: Any) -> None:
    log = open(folder / 'train.log', 'a', 1, 'utf-8')  # noqa: SIM115  as long as the process
    os.dup2(log.fileno(), 1)
    os.dup2(log.fileno(), 2)
    sys.stdout = sys.stderr = log
    train(cfg, work_dir=str(folder), **how)


def finish(process: BaseProcess, folder: Path) -> None:
    process.join()
    if process.exitcode:
        lines = (folder / 'train.log').read_text('utf-8', 'replace').strip().splitlines()
        raise UserError(f'the training ended with {process.exitcode}: {lines[-1]} '
                        f'({folder}/train.log)')


def kill(process: BaseProcess, folder: Path, moments: random.Random) -> None:
    """Wait for some new checkpoints, and a share of the time between two; then SIGKILL."""
    seen = [(_now(folder), time.monotonic())]
    for _ in range(moments.randint(2, 4)):
        while _now(folder) == seen[-1][0]:
            if not process.is_alive():
                finish(process, folder)
                raise UserError('the training ended before all kills: give it more --epochs')
            time.sleep(0.001)
        seen.append((_now(folder), time.monotonic()))
    time.sleep(moments.random() * (seen[-1][1] - seen[-2][1]))
    process.kill()
    process.join()


def _now(folder: Path) -> str:
    last = folder / LAST
    return last.read_text('utf-8') if last.exists() else ''


def compare(one: Path, other: Path) -> None:
    names = [{p.name for p in folder.glob('*.pth')} for folder in (one, other)]
    if names[0] != names[1]:
        raise UserError(f'the checkpoints at the end are {sorted(names[1])}, not '
                        f'{sorted(names[0])}')
    for name in sorted(names[0]):
        a, b = (CheckpointLoader.load_checkpoint(str(f / name), 'cpu') for f in (one, other))
        different = [where for part in COMPARED
                     for where in differences(a.get(part), b.get(part), part)]
        if different:
            raise UserError(f'{other / name} is not equal to {one / name}: {len(different)} '
                            f'values, the first is {different[0]}')


def differences(a: Any, b: Any, where: str) -> Iterator[str]:
    if isinstance(a, dict) and isinstance(b, dict) and a.keys() == b.keys():
        for key in a:
            yield from differences(a[key], b[key], f'{where}.{key}')
    elif isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)) and len(a) == len(b):
        for i, (x, y) in enumerate(zip(a, b, strict=True)):
            yield from differences(x, y, f'{where}.{i}')
    elif isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        if not torch.equal(a, b):
            yield where
    elif a != b:
        yield where


if __name__ == '__main__':
    main()
