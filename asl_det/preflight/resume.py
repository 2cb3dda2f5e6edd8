"""A resumed training goes on as it began, or says what is different."""

import json
import re
from typing import Any, Dict, Iterator, Optional

from mmengine.runner import CheckpointLoader

from asl_det.config.literals import read_literals
from asl_det.config.new_style import plain_types
from asl_det.config.schedule import schedulers
from asl_det.errors import UserError
from asl_det.files.identity import NOTHING, differences
from asl_det.files.nested import INTO, OUT, rebuilt, value_at
from asl_det.preflight.checkpoints import read
from asl_det.preflight.finding import Finding
from asl_det.preflight.run import Run
from asl_det.registry import type_name

# What decides about a training.
COMPARED = ('model', 'train_dataloader', 'optim_wrapper', 'param_scheduler', 'custom_hooks')
# Keys in it that do not: where things lie, how fast they go, what was before the first step.
PASSED = {'data_root', 'data_prefix', 'backend_args', 'num_workers', 'persistent_workers',
          'pin_memory', 'prefetch_factor', 'init_cfg', 'checkpoint', 'pretrained', 'test_cfg',
          'impl', 'check_targets', '_scope_', 'loss_scale', 'dtype', 'priority'}
# What the engine puts in, or what depends on the machine: the same training.
SAME = {'AmpOptimWrapper': 'OptimWrapper', 'SafeCheckpointHook': 'CheckpointHook',
        'SafeLoggerHook': 'LoggerHook', 'SafeEMAHook': 'EMAHook'}
# The state of an optimizer brings all of its settings, those of each group of parameters too.
OPTIMIZER = re.compile(r'optim_wrapper\.(.+\.)?(optimizer|paramwise_cfg|constructor)\b')
RATES = re.compile(r'^optim_wrapper\..*\b(optimizer\.lr|lr_mult)$')
AT_THE_START = ('ClassifierPriorHook',)  # hooks that do nothing after the first step
DECAYS = ('CosineAnnealingLR', 'PolyLR', 'OneCycleLR')
SMALL = 1e-3  # of its highest: a learning rate at which nothing is learnt


def check_resume(run: Run) -> Iterator[Finding]:
    """What the config says now against what the checkpoint was trained with."""
    if run.purpose != 'resume' or not run.checkpoint:
        return
    try:
        content = read(run, run.checkpoint)
    except (UserError, OSError, RuntimeError):
        return  # said by the check of checkpoints
    meta = content.get('meta') if isinstance(content, dict) else None
    yield from _same_seed(run)
    yield from _differences(run, meta or {})
    yield from _schedule(run, meta or {})


def run_seed(run: Run) -> Optional[int]:
    """The seed of the training that the resumed checkpoint is of, drawn or given; None without."""
    content = read(run, run.checkpoint)
    if content is None:  # a URL
        content = CheckpointLoader.load_checkpoint(run.checkpoint, map_location='cpu')
    meta = content.get('meta') if isinstance(content, dict) else None
    seed = meta.get('seed') if isinstance(meta, dict) else None
    return seed if isinstance(seed, int) else None


def _same_seed(run: Run) -> Iterator[Finding]:
    """Samplers have drawn their order with the seed: another would mix two orders in an epoch."""
    asked, seed = (run.cfg.get('randomness') or {}).get('seed'), run_seed(run)
    if None not in (asked, seed) and asked != seed:
        yield Finding('another seed', f'{run.config}: --resume {run.checkpoint}', f'seed {asked}, '
                      f'but the run has seed {seed}, which has ordered its images: leave --seed '
                      f'(randomness.seed) out or give {seed}; a new training from its weights can '
                      f'have another (--cfg-options load_from={run.checkpoint})')


def _differences(run: Run, meta: Dict[str, Any]) -> Iterator[Finding]:
    where = f'{run.config}: --resume {run.checkpoint}'
    if not meta.get('cfg'):
        return  # of a training without a config
    try:
        before = read_literals(str(meta['cfg']), 'the config that the checkpoint holds')
    except UserError as error:
        yield Finding('not compared', where, f'{error}. Whether the settings are still those of '
                      'the run is not compared', error=False)
        return
    lines = differences(_plain(_deciding(before)), _plain(_deciding(run.cfg.to_dict())))
    kept = [line for line in lines if not _is_followed(run, before, line)]
    for line in kept:
        yield Finding('can not be followed', where, f'the run was made with another {line}: '
                      'mmengine takes schedule and state of the optimizer from the checkpoint, and '
                      'some parts act only before the first step, so this can not be followed; '
                      'resume with that of the run, or start a new one from its weights with '
                      f'--cfg-options load_from={run.checkpoint}')
    for line in [] if run.anyway else lines:
        if line not in kept:
            yield Finding('changed', where, f'the run was made with another {line}: go on with its '
                          'own config, or accept this with --resume-anyway')


def _deciding(cfg: Dict[str, Any]) -> Dict[str, Any]:
    """What of a config decides about a training."""
    hooks = {name: {k: v for k, v in hook.items() if k != 'weights'}  # what a test takes
             for name, hook in (cfg.get('default_hooks') or {}).items()
             if type_name(hook).endswith(('EMAHook', 'EpochSeedHook'))}
    randomness = dict(diff_rank_seed=bool((cfg.get('randomness') or {}).get('diff_rank_seed')))
    return dict({place: cfg.get(place) for place in COMPARED}, default_hooks=hooks,
                randomness=randomness)


def _is_followed(run: Run, before: Dict[str, Any], line: str) -> bool:
    """Whether a resumed training does what the config says now, not what the checkpoint says.

    Args:
        run: with the config of now.
        before: the config of the checkpoint.
        line: dotted key and both values, ``optim_wrapper.clip_grad.max_norm: 10 -> 35``.
    """
    key, _, values = line.partition(': ')
    schedule = key.startswith('param_scheduler')
    if schedule or RATES.search(key):
        # Ours takes place and height of the cycle from the config.
        cycles = [s.get('type') == 'OneCycle' for _, s in schedulers(run.cfg)]
        return bool(cycles) and all(cycles) and (schedule or NOTHING not in values.split(' -> '))
    if OPTIMIZER.match(key) or key.startswith('randomness'):
        return False
    place, _, name = key.rpartition('.')
    if place.startswith('custom_hooks.'):
        return type_name(value_at(run.cfg, '.'.join(key.split('.')[:2]))) not in AT_THE_START
    if name == 'gamma_neg':  # an adaptive one is part of the state
        return not all((value_at(cfg, place) or {}).get('adaptive') for cfg in (before, run.cfg))
    return True


def _schedule(run: Run, meta: Dict[str, Any]) -> Iterator[Finding]:
    """More epochs than the schedule has would all be trained at its last, lowest rate."""
    loop = run.cfg.get('train_cfg') or {}
    for place, s in schedulers(run.cfg):
        kind = str(s.get('type')).rpartition('.')[2]
        by_epoch = s.get('by_epoch', True)
        length = loop.get('max_epochs' if by_epoch else 'max_iters')
        end = s.get('end', s.get('T_max', s.get('total_steps')))
        if kind not in DECAYS or not isinstance(length, int) or not isinstance(end, (int, float)):
            continue
        lr = ((run.cfg.get('optim_wrapper') or {}).get('optimizer') or {}).get('lr') or 0
        last = s.get('eta_min', 0) or lr * s.get('eta_min_ratio', 0)
        done = meta.get('epoch' if by_epoch else 'iter', 0)
        later = [other for where, other in schedulers(run.cfg)
                 if where != place and (other.get('end') or length) > end
                 and other.get('by_epoch', True) == by_epoch]
        if length > end and lr and last < SMALL * lr and not later:
            unit = 'epochs' if by_epoch else 'iterations'
            yield Finding('end of the schedule', f'{run.config}: {place}',
                          f'{kind} ends after {end:g} {unit}, and the training goes on to {length} '
                          f'at a learning rate of {last:g}'
                          + (f' (the checkpoint has {done})' if done else '')
                          + ': give --epochs, with which the schedule keeps its shape, in a new '
                          'training from these weights (--cfg-options load_from=CHECKPOINT)')


def check_schedule(run: Run) -> Iterator[Finding]:
    """The same in a training from the start, where it may be meant."""
    if run.purpose in ('train', 'check'):
        for finding in _schedule(run, {}):
            yield Finding(finding.rule, finding.where, finding.message.replace(
                ', in a new training from these weights (--cfg-options load_from=CHECKPOINT)', ''),
                error=False)


def _plain(node: Any) -> Any:
    """Plain values, as json knows them, without what does not count."""
    text = json.dumps(rebuilt(plain_types(node), _counted), default=str)
    return json.loads(text, parse_constant=str)  # nan != nan


def _counted(key: Any, value: Any) -> Any:
    if key in PASSED:
        return OUT
    if key == 'type':
        return SAME.get(type_name(value), type_name(value))
    return sorted(value, key=repr) if isinstance(value, (set, frozenset)) else INTO
