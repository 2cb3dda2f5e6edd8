"""The Runner of a config: one that can be resumed, and whose tests leave their detections."""

import inspect
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional

import torch
from mmengine.config import Config
from mmengine.evaluator import DumpResults
from mmengine.hooks import CheckpointHook, EMAHook, LoggerHook
from mmengine.registry import MODEL_WRAPPERS, RUNNERS
from mmengine.runner import EpochBasedTrainLoop, Runner
from torch.nn.parallel import DistributedDataParallel

from asl_det.config.signatures import arguments
from asl_det.registry import METRICS, lookup
from asl_det.training.hooks.drawing import DrawnSafely
from asl_det.training.processes import join_processes

ARGUMENT = 'outfile_prefix'
MMENGINE_HOOKS = ('runtime_info', 'timer', 'sampler_seed', 'logger', 'param_scheduler',
                  'checkpoint')


def build_runner(cfg: Config) -> Runner:
    """The Runner of a config, or the runner type that it names."""
    join_processes(cfg)
    if cfg.launcher == 'pytorch' and not torch.cuda.is_available():
        # mmengine asks for GPUs where it wraps the model.
        if cfg.get('model_wrapper_cfg') is None:
            cfg.model_wrapper_cfg = dict(
                type='MMDistributedDataParallel', broadcast_buffers=False,
                find_unused_parameters=cfg.get('find_unused_parameters', False))
        wrapper = MODEL_WRAPPERS.get(cfg.model_wrapper_cfg.get('type', 'MMDistributedDataParallel'))
        if isinstance(wrapper, type) and issubclass(wrapper, DistributedDataParallel):
            cfg.model_wrapper_cfg.setdefault('device_ids', None)
    # None switches a hook off; mmengine knows that of its own ones alone.
    for name, hook in list((cfg.get('default_hooks') or {}).items()):
        if hook is None and name not in MMENGINE_HOOKS:
            del cfg.default_hooks[name]
    runner = RUNNERS.build(cfg) if 'runner_type' in cfg else Runner.from_cfg(cfg)
    for i, hook in enumerate(runner.hooks):
        if any(c.__name__.endswith('VisualizationHook') for c in type(hook).__mro__):
            runner.hooks[i] = DrawnSafely(hook)
    return runner


def make_resumable(cfg: Config) -> None:
    """Put our checkpoints, logger and loop in the place of mmengine's, in the config.

    A hook that adaptive losses need comes with them.
    """
    hooks = dict(cfg.get('default_hooks') or {})
    hooks.setdefault('checkpoint', dict(type='CheckpointHook', interval=1))  # mmengine's defaults
    hooks.setdefault('logger', dict(type='LoggerHook'))
    hooks.setdefault('adaptive_gamma', dict(type='mmdet.AdaptiveGammaHook'))
    cfg.default_hooks = hooks
    for hook in [*cfg.default_hooks.values(), *(cfg.get('custom_hooks') or [])]:
        for kind in (CheckpointHook, EMAHook, LoggerHook):
            if isinstance(hook, dict) and _is(hook, kind):
                hook['type'] = f'mmdet.Safe{kind.__name__}'
    loop = cfg.get('train_cfg') or {}
    if 'type' not in loop and loop.get('by_epoch'):
        del loop['by_epoch']
        loop['type'] = 'EpochBasedTrainLoop'
    if _is(loop, EpochBasedTrainLoop):
        loop['type'] = 'mmdet.ResumableEpochLoop'


def ask_for_files(cfg: Config, out: Path) -> List[Optional[str]]:
    """Have every metric of a test that can write files do so beside ``out``.

    Args:
        cfg: its ``test_evaluator`` is changed.
        out: json file of the metrics; ``results.json`` gives the files of a
            single metric names that begin with ``results``, those of several
            ``results.1``, ``results.2``, ...

    Returns:
        The beginning of the names for each metric; None where it writes none.
    """
    nodes = list(_metrics(cfg.get('test_evaluator')))
    able = [any(ARGUMENT in arguments(parent)[0] for parent in inspect.getmro(_class(node)))
            for node in nodes]
    prefix, several = str(out.with_suffix('')), sum(able) > 1
    prefixes: List[Optional[str]] = []
    for number, node in enumerate(nodes):
        place = f'{prefix}.{sum(able[:number + 1])}' if several else prefix
        prefixes.append(place if able[number] else None)
        # A child may hand it on, or fix the arguments of its parent.
        if able[number] and ARGUMENT in arguments(_class(node))[0]:
            node[ARGUMENT] = place
    return prefixes


def set_files(runner: Runner, prefixes: List[Optional[str]], out: Path) -> None:
    """Do the same for what could not be said in the config, and log what writes nothing."""
    for metric, prefix in zip(runner.test_evaluator.metrics, prefixes, strict=True):
        name = type(metric).__name__
        if prefix is not None and getattr(metric, ARGUMENT, '') is None:
            setattr(metric, ARGUMENT, prefix)
        if prefix is None and not isinstance(metric, DumpResults):
            runner.logger.warning(f'{name} can write no detections or scores (it has no '
                                  f'{ARGUMENT}): {out} gets its metrics alone')
        elif len(set(prefixes) - {None}) > 1 and prefix is not None:
            runner.logger.info(f'{name} writes {prefix}.*')


def _metrics(node: Any) -> Iterator[Dict[str, Any]]:
    """The configs of metrics, in the order in which they are built."""
    if isinstance(node, dict):
        yield from _metrics(node['metrics']) if 'metrics' in node else [node]
    elif isinstance(node, (list, tuple)):
        for item in node:
            yield from _metrics(item)
    elif node is not None:  # built already
        yield from (dict(type=type(metric)) for metric in getattr(node, 'metrics', [node]))


def _class(node: Dict[str, Any]) -> type:
    kind = lookup(METRICS, node) if node.get('type') else None
    return kind if inspect.isclass(kind) else object


def _is(node: Dict[str, Any], kind: type) -> bool:
    """Whether a config asks for mmengine's own class."""
    return node.get('type') in (kind, *(f'{scope}{kind.__name__}'
                                        for scope in ('', 'mmengine.', 'mmdet.')))
