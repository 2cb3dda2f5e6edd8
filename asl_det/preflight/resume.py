"""A resumed training goes on as it began, or says what is different."""

import ast
import json
from typing import Any, Dict, Iterator, Optional

from asl_det.errors import UserError
from asl_det.identity import differences
from asl_det.new_style import plain_types
from asl_det.overrides import schedulers
from asl_det.preflight.checkpoints import read
from asl_det.preflight.finding import Finding
from asl_det.preflight.run import Run

# What decides about a training.
COMPARED = ('model', 'train_dataloader', 'optim_wrapper', 'param_scheduler', 'custom_hooks')
# Keys in it that do not: where things lie, how fast they go, what was before the first step.
PASSED = {'data_root', 'data_prefix', 'backend_args', 'num_workers', 'persistent_workers',
          'pin_memory', 'prefetch_factor', 'init_cfg', 'checkpoint', 'pretrained', 'test_cfg',
          'impl', 'check_targets', '_scope_', 'loss_scale', 'dtype', 'priority'}
# What the engine puts in, or what depends on the machine: the same training.
SAME = {'AmpOptimWrapper': 'OptimWrapper', 'mmdet.SafeCheckpointHook': 'CheckpointHook',
        'mmdet.SafeLoggerHook': 'LoggerHook'}
MOST = 12
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
    before = config_of((meta or {}).get('cfg'))
    if before is not None:
        yield from _differences(run, before)
    yield from _schedule(run, meta or {})


def _differences(run: Run, before: Dict[str, Any]) -> Iterator[Finding]:
    now = run.cfg.to_dict()
    found = [f'{place}.{line}' for place in COMPARED
             for line in differences(_plain({'': before.get(place)}), _plain({'': now.get(place)}))]
    lines = [line.replace('..', '.', 1) for line in found]
    followed = [line for line in lines if not _comes_from_checkpoint(run, line)]
    where = f'{run.config}: --resume {run.checkpoint}'
    for line in lines[:MOST]:
        if line in followed:
            if not run.anyway:
                yield Finding('changed', where, f'the run was made with another {line}: go on with '
                              'its own config, or accept this with --resume-anyway')
        else:
            yield Finding('changed', where, f'the run was made with another {line}: mmengine takes '
                          'schedule and learning rate from the checkpoint, so this can not be '
                          'followed; resume with those of the run, or start a new one from its '
                          f'weights with --cfg-options load_from={run.checkpoint}')
    if len(lines) > MOST:
        yield Finding('changed', where, f'{len(lines) - MOST} more settings are different',
                      error=not run.anyway)


def _comes_from_checkpoint(run: Run, line: str) -> bool:
    """Whether mmengine would ignore the new value; our OneCycle takes it from the config."""
    rate = line.startswith('optim_wrapper.optimizer.lr:')
    one_cycle = [s.get('type') == 'OneCycle' for _, s in schedulers(run.cfg)]
    return (rate or line.startswith('param_scheduler')) and not (one_cycle and all(one_cycle))


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


def config_of(text: Any) -> Optional[Dict[str, Any]]:
    """The values in the text of a config that mmengine notes in a checkpoint.

    It is read, not run: only literals and ``dict(...)``. None if there is
    more in it.
    """
    if not isinstance(text, str):
        return None
    try:
        return {target.id: _value(node.value) for node in ast.parse(text).body
                for target in node.targets}
    except (SyntaxError, ValueError, AttributeError, TypeError):
        return None


def _value(node: ast.AST) -> Any:
    if isinstance(node, ast.Call):
        if getattr(node.func, 'id', '') != 'dict' or node.args:
            raise ValueError('not a literal')
        found: Dict[str, Any] = {}
        for keyword in node.keywords:
            value = _value(keyword.value)
            found.update({keyword.arg: value} if keyword.arg else value)
        return found
    if isinstance(node, ast.Dict):
        return {ast.literal_eval(k): _value(v) for k, v in zip(node.keys, node.values, strict=True)}
    if isinstance(node, (ast.List, ast.Tuple, ast.Set)):
        return [_value(v) for v in node.elts]
    if isinstance(node, ast.Name) and node.id in ('inf', 'nan'):
        return float(node.id)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return -_value(node.operand)
    return ast.literal_eval(node)


def _plain(node: Any) -> Any:
    """Plain values, as json knows them, without what does not count."""
    return json.loads(json.dumps(_counted(plain_types(node)), default=str))


def _counted(node: Any) -> Any:
    if isinstance(node, dict):
        return {k: _counted(v) for k, v in node.items() if k not in PASSED}
    if isinstance(node, (list, tuple)):
        return [_counted(v) for v in node]
    return SAME.get(node, node) if isinstance(node, str) else node
