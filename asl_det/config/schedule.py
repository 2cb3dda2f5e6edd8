"""Length and learning rate of a training, wherever a config states them."""

import math
from typing import Any, Dict, Iterator, Optional, Tuple

from mmengine.config import Config
from mmengine.runner import Runner

from asl_det.errors import UserError
from asl_det.files.nested import dicts
from asl_det.registry import is_type, type_name

# The lengths of a training that mmengine's loops know.
LENGTHS = ('max_epochs', 'max_iters')


# What of a scheduler and of a hook counts epochs (or iterations, in a loop of iterations).
SCHEDULER_ENDS = ('begin', 'end', 'T_max')


SCHEDULER_COUNTS = ('total_steps', 'step_size', 'milestones', 'periods')


HOOK_COUNTS = {'max_epochs': ('switch_epoch', 'num_last_epochs', 'begin_epoch'),
               'max_iters': ('switch_iter', 'begin_iter')}


INF = int(1e9)  # mmengine's end of a scheduler that has none


def set_length(cfg: Config, key: str, value: int) -> None:
    """Set ``train_cfg.max_epochs`` or ``max_iters``; what counts in it keeps its place."""
    loop = cfg.train_cfg
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise UserError(f'{key}={value!r}: expected a whole number of at least 1')
    factor = value / loop[key]
    for _, scheduler in schedulers(cfg):
        if scheduler.get('by_epoch', True) == (key == 'max_epochs'):
            _scale_scheduler(scheduler, factor)
    for hook in [*(cfg.get('custom_hooks') or []), *(cfg.get('default_hooks') or {}).values()]:
        for name in HOOK_COUNTS[key]:
            if isinstance(hook, dict) and hook.get(name):
                hook[name] = max(1, round(hook[name] * factor))
    if loop.get('dynamic_intervals'):
        loop.dynamic_intervals = [(round(start * factor), interval)
                                  for start, interval in loop.dynamic_intervals]
    if loop.get('val_begin', 1) > 1:
        loop.val_begin = max(1, round(loop.val_begin * factor))
    loop[key] = value
    if key in cfg:
        cfg[key] = value


def set_lr(cfg: Config, lr: float) -> None:
    """Set the learning rate, of the optimizer and where schedulers state one."""
    if isinstance(lr, bool) or not isinstance(lr, (int, float)) or not 0 < lr < math.inf:
        raise UserError(f'lr={lr!r}: expected a number above 0')
    optimizer = (cfg.get('optim_wrapper') or {}).get('optimizer')
    if not isinstance(optimizer, dict) or not optimizer.get('lr'):
        raise UserError(f'lr={lr}: the config has no optim_wrapper.optimizer.lr: give the keys '
                        'that it has with --cfg-options')
    rates = [s for _, s in schedulers(cfg) if type_name(s).endswith('LR')]
    peaks = [s.get('eta_max') for s in rates if is_type(s, 'OneCycleLR')]
    if any(p != peaks[0] or not isinstance(p, (int, float)) for p in peaks):
        raise UserError(f'lr={lr}: the config has several values of eta_max for OneCycleLR '
                        f'({", ".join(map(str, peaks))}): give each with --cfg-options')
    factor = lr / (peaks[0] if peaks else optimizer.lr)
    for scheduler in rates:
        if scheduler.get('eta_min'):
            scheduler.eta_min *= factor
        if is_type(scheduler, 'OneCycleLR'):
            scheduler.eta_max = lr
    optimizer.lr = lr
    if 'lr' in cfg:
        cfg.lr = lr


def enable_auto_scale_lr(cfg: Config) -> None:
    """Let the learning rate follow the batch size of all processes, as ``auto_scale_lr`` says."""
    if not (cfg.get('auto_scale_lr') or {}).get('base_batch_size'):
        raise UserError('--auto-scale-lr: the config does not say for which batch size (of all '
                        'GPUs together) its learning rate is: add --cfg-options '
                        'auto_scale_lr.base_batch_size=N')
    cfg.auto_scale_lr.enable = True


def scale_one_cycle(runner: Runner, cfg: Config) -> None:
    """Scale the peaks of one-cycle schedules, which mmengine's ``scale_lr`` does not reach.

    Args:
        runner: before its training.
        cfg: with ``auto_scale_lr``, as mmengine reads it.
    """
    scale = cfg.get('auto_scale_lr') or {}
    if not scale.get('enable'):
        return
    factor = runner.world_size * cfg.train_dataloader.batch_size / scale['base_batch_size']
    for where, scheduler in schedulers(dict(param_scheduler=runner.param_schedulers)):
        if is_type(scheduler, 'OneCycleLR'):
            peak = scheduler['eta_max']
            scheduler['eta_max'] = ([p * factor for p in peak] if isinstance(peak, (list, tuple))
                                    else peak * factor)
            runner.logger.info(f'{where}.eta_max is scaled by {factor:g}, as the learning rate')


def drop_empty_schedules(runner: Runner) -> None:
    """Leave out what a short training shortened to less than an iteration, with a warning."""
    schedulers = runner.param_schedulers
    if not isinstance(schedulers, list) or not any(
            isinstance(s.get(name), float) for s in schedulers for name in ('begin', 'end')):
        return
    length = len(runner.train_dataloader)
    for s in list(schedulers):
        if s.get('convert_to_iter_based') and int(s.get('end', INF) * length) <= int(
                s.get('begin', 0) * length):
            runner.logger.warning(f'{type_name(s)} from epoch {s.get("begin", 0):g} to '
                                  f'{s["end"]:g} is less than an iteration ({length} an epoch) '
                                  'and left out')
            schedulers.remove(s)


def check_one_cycle(cfg: Config) -> None:
    """Raise UserError for a one-cycle schedule that mmengine would fail on during training."""
    loop = cfg.get('train_cfg') or {}
    for where, s in schedulers(cfg):
        by_epoch = s.get('by_epoch', True)
        length = loop.get('max_epochs' if by_epoch else 'max_iters')
        total = s.get('total_steps')
        if not is_type(s, 'OneCycleLR') or not total or not length:
            continue
        unit = 'epochs' if by_epoch else 'iterations'
        if min(length, s.get('end', length)) - s.get('begin', 0) > total:
            raise UserError(f'{where}.total_steps={total} is shorter than the training ({length} '
                            f'{unit}), and OneCycleLR can not go on after that: make it longer')
        if not s.get('convert_to_iter_based') and s.get('pct_start', 0.3) * total == 1:
            raise UserError(f'{where}: OneCycleLR can not rise within a single step (total_steps='
                            f'{total} x pct_start={s.get("pct_start", 0.3)}): change one of them, '
                            f'e.g. --cfg-options {where}.total_steps={total + 1}')


def _length(cfg: Config, options: Dict[str, Any]) -> Optional[Tuple[str, int]]:
    """Take the length of the training out of the options: its key in train_cfg, and the value."""
    loop = cfg.get('train_cfg') or {}
    names = ['max_epochs', *(f'train_cfg.{key}' for key in LENGTHS if key in loop)]
    given = {name: options.pop(name) for name in names if name in options}
    if not given:
        return None
    (name, value), *others = given.items()
    key = name.split('.')[-1]
    if any(other.split('.')[-1] != key or v != value for other, v in others):
        raise UserError('the length of the training is given twice: '
                        + ', '.join(f'{name}={value}' for name, value in given.items()))
    if key not in loop:
        iterations = loop.get('max_iters')
        raise UserError(f'{key}={value}: ' + (
            f'this training goes by iterations ({iterations}): use --cfg-options '
            'train_cfg.max_iters=' if iterations else 'the config has no train_cfg.max_epochs'))
    return key, value


def _scale_scheduler(scheduler: Dict[str, Any], factor: float) -> None:
    def scale(value: Any, whole: bool) -> Any:
        if isinstance(value, (list, tuple)):
            return [scale(v, whole) for v in value]
        value = value * factor
        if whole or abs(value - round(value)) < 1e-9:
            return round(value)
        return value

    # Parts of an epoch are possible where mmengine converts to iterations.
    whole = not scheduler.get('convert_to_iter_based')
    for name in SCHEDULER_ENDS:
        if scheduler.get(name) and scheduler[name] < INF:
            scheduler[name] = scale(scheduler[name], whole)
    for name in SCHEDULER_COUNTS:
        if scheduler.get(name):
            counts = scale(scheduler[name], True)
            scheduler[name] = ([max(1, c) for c in counts] if isinstance(counts, list)
                               else max(1, counts))
    if whole and 'end' in scheduler:  # at least one step
        scheduler['end'] = max(scheduler['end'], scheduler.get('begin', 0) + 1)


def _check_learning_rate(cfg: Config, options: Dict[str, Any]) -> None:
    """Under one-cycle, mmengine takes every learning rate from ``eta_max``."""
    cycles = [where for where, s in schedulers(cfg) if is_type(s, 'OneCycleLR')]
    if not cycles:
        return
    for key in options:
        if key.startswith('optim_wrapper.') and key.endswith('.lr_mult'):
            raise UserError(f'--cfg-options {key}= would be ignored: OneCycleLR gives all '
                            f'parameters its eta_max; give {cycles[0]}.eta_max a list, one for '
                            'each parameter')
        if key == 'optim_wrapper.optimizer.lr' and not any(
                option.startswith('param_scheduler') for option in options):
            raise UserError(f'--cfg-options {key}= would be ignored: with OneCycleLR the learning '
                            f'rate is {cycles[0]}.eta_max; use --lr {options[key]} (lr=), which '
                            'sets both')


def schedulers(cfg: Dict[str, Any]) -> Iterator[Tuple[str, Dict[str, Any]]]:
    """Every scheduler's dotted key and dict, of all optimizers."""
    return ((where, part) for where, part in dicts(cfg.get('param_scheduler'), 'param_scheduler',
                                                   lambda node: 'type' not in node)
            if 'type' in part)
