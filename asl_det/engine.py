"""Training and testing of any config through mmengine's Runner."""

import copy
import json
import logging
import os
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Dict, List, Optional, Union

import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.dist import barrier, is_main_process
from mmengine.hooks import CheckpointHook
from mmengine.registry import MODEL_WRAPPERS, RUNNERS
from mmengine.runner import Runner, find_latest_checkpoint
from torch.nn.parallel import DistributedDataParallel

import asl_det
from asl_det.identity import hold, versions
from asl_det.overrides import (
    check_one_cycle,
    drop_empty_schedules,
    enable_auto_scale_lr,
    scale_one_cycle,
    without_amp,
)
from asl_det.preflight.checks import require
from asl_det.preflight.classes import set_num_classes
from asl_det.preflight.read import load_config
from asl_det.preflight.run import Run

__all__ = ['build_runner', 'default_work_dir', 'load_config', 'test', 'train']

MMENGINE_HOOKS = ('runtime_info', 'timer', 'sampler_seed', 'logger', 'param_scheduler',
                  'checkpoint')


def train(cfg: Config,
          *,
          work_dir: str,
          resume: Optional[str] = None,
          amp: bool = False,
          auto_scale_lr: bool = False,
          launcher: str = 'none',
          seed: Optional[int] = None,
          partial: bool = False,
          resume_anyway: bool = False,
          num_classes: Optional[str] = None) -> Optional[Path]:
    """Train, and leave checkpoints, logs and ``curves.png`` in ``work_dir``.

    No process returns before all have finished, the writing of the last
    checkpoint included.

    Args:
        cfg: a config with a model, data, schedule and evaluator. It is not
            changed.
        work_dir: folder of the run.
        resume: a checkpoint, or 'auto' for the last one of ``work_dir``; if
            there is none, the training starts as it would without.
        amp: mixed precision. It needs a GPU; without one, a config that asks
            for it trains in float32, and the log says so.
        auto_scale_lr: scale the learning rate by the batch size of all
            processes over ``cfg.auto_scale_lr.base_batch_size``.
        launcher: 'none', 'pytorch', 'slurm' or 'mpi'.
        seed: seed of every random generator; None keeps the config's.
        partial: start from ``load_from`` with what fits of it; otherwise only
            the heads may differ.
        resume_anyway: resume although the config is not the one of the run.
        num_classes: 'auto' or a number for every head, see
            :func:`asl_det.preflight.classes.set_num_classes`.

    Returns:
        The last checkpoint, or None if the config writes none.

    Raises:
        UserError: if the preflight finds a mistake in config, data or
            checkpoint, another process trains in ``work_dir``, the schedule
            does not fit, to itself or to the resumed checkpoint, or a
            checkpoint is not one of this network.
    """
    cfg = copy.deepcopy(cfg)
    cfg.work_dir = work_dir
    cfg.launcher = launcher
    _set_resume(cfg, resume)
    resumed = cfg.load_from if cfg.get('resume') else None
    said = _preflight(Run(
        cfg, cfg.filename or 'config', 'resume' if resumed else 'train', resumed, work_dir,
        partial=partial, anyway=resume_anyway), num_classes)
    check_one_cycle(cfg)
    if amp:
        cfg.optim_wrapper.type = 'AmpOptimWrapper'
        cfg.optim_wrapper.setdefault('loss_scale', 'dynamic')
    without_gpu = get_device() in ('cpu', 'mps') and without_amp(cfg)
    if auto_scale_lr:
        enable_auto_scale_lr(cfg)
    if seed is not None:
        cfg.randomness = dict(cfg.get('randomness', {}), seed=seed)
    runner = build_runner(cfg)
    if without_gpu:
        runner.logger.warning('mixed precision needs a GPU, and torch finds none: training in '
                              'float32 (OptimWrapper in the place of AmpOptimWrapper)')
    _log(runner, said)
    scale_one_cycle(runner, cfg)
    drop_empty_schedules(runner)
    runner.register_hook(asl_det.hooks.CurvesHook())
    if cfg.get('load_from'):
        purpose = 'resume' if cfg.get('resume') else 'load_from'
        runner.register_hook(asl_det.hooks.LoadWeightsHook(purpose, cfg.load_from, partial))
    if cfg.get('resume'):
        runner.register_hook(asl_det.hooks.SameScheduleHook())
    with hold(work_dir) if is_main_process() else nullcontext():
        runner.train()
    barrier()  # a launcher ends all processes when one fails, so none may run ahead
    written = [h.last_ckpt for h in runner.hooks if isinstance(h, CheckpointHook) and h.last_ckpt]
    if not written and cfg.get('resume'):  # there was nothing left to train
        written = [cfg.load_from]
    return Path(written[-1]) if written else None


def _preflight(run: Run, num_classes: Optional[str]) -> List[str]:
    """Settle the number of classes and check everything; what to say about it in the log."""
    said = set_num_classes(run.cfg, run.config, run.purpose, num_classes)
    return said + [str(f) for f in require(run).warnings]


def _log(runner: Runner, said: List[str]) -> None:
    for line in said:
        runner.logger.log(logging.WARNING if line.startswith('warning') else logging.INFO,
                          line.removeprefix('warning: '))


def _set_resume(cfg: Config, resume: Optional[str]) -> None:
    """Settle which checkpoint is resumed; without one, ``load_from`` stays as it is."""
    if resume not in (None, 'auto'):
        cfg.resume, cfg.load_from = True, resume
    elif resume == 'auto' or (cfg.get('resume') and not cfg.get('load_from')):
        last = find_latest_checkpoint(cfg.work_dir)
        cfg.resume = last is not None
        if last is not None:
            cfg.load_from = last


def test(cfg: Config,
         checkpoint: str,
         *,
         work_dir: str,
         out: Union[str, Path, None] = None,
         show_dir: Union[str, Path, None] = None,
         launcher: str = 'none',
         partial: bool = False,
         num_classes: Optional[str] = None) -> Dict[str, float]:
    """Evaluate a checkpoint.

    Args:
        cfg: the config that it was trained with. It is not changed.
        checkpoint: file or URL.
        work_dir: folder of the log.
        out: json file for the metrics; the detections go beside it in COCO's
            result format.
        show_dir: folder for every image with truth (left) and predictions
            (right).
        launcher: 'none', 'pytorch', 'slurm' or 'mpi'.
        partial: evaluate even if the checkpoint does not fit; the log says
            which weights keep their initial values and which are not used.
        num_classes: as in :func:`train`.

    Returns:
        The metrics by name.

    Raises:
        UserError: if the preflight finds a mistake in config, data or
            checkpoint, or the checkpoint is not one of this network.
    """
    cfg = copy.deepcopy(cfg)
    cfg.work_dir = work_dir
    cfg.launcher = launcher
    outputs = {flag: str(path) for flag, path in (('--out', out), ('--show-dir', show_dir)) if path}
    said = _preflight(Run(cfg, cfg.filename or 'config', 'test', str(checkpoint), work_dir,
                          outputs=outputs, partial=partial), num_classes)
    cfg.load_from = checkpoint
    if show_dir is not None:
        hooks = cfg.get('default_hooks', {})
        drawing = dict(hooks.get('visualization', dict(type='DetVisualizationHook')), draw=True,
                       test_out_dir=os.path.abspath(show_dir))
        cfg.default_hooks = dict(hooks, visualization=drawing)
    if out is not None:
        out = Path(out)
        out.parent.mkdir(parents=True, exist_ok=True)
        for evaluator in _as_list(cfg.test_evaluator):
            if evaluator['type'] in ('CocoMetric', 'MultiLabelMetric'):
                evaluator['outfile_prefix'] = str(out.with_suffix(''))
    runner = build_runner(cfg)
    _log(runner, said)
    runner.register_hook(asl_det.hooks.LoadWeightsHook('test', checkpoint, partial))
    metrics = runner.test()
    if out is not None and is_main_process():
        record = dict(config=cfg.filename, checkpoint=str(checkpoint), metrics=metrics,
                      versions=versions())
        out.write_text(json.dumps(record, indent=2, default=_plain) + '\n')
    barrier()
    return metrics


def _plain(value: Any) -> Any:
    """Numbers, lists or text in the place of what json does not know (numpy, tensors)."""
    return value.tolist() if hasattr(value, 'tolist') else str(value)


def build_runner(cfg: Config) -> Runner:
    """The Runner of a config, or the runner type that it names."""
    if cfg.launcher == 'pytorch' and not torch.cuda.is_available():
        # mmengine asks for GPUs where it starts processes and wraps the model.
        if not torch.distributed.is_initialized():
            torch.distributed.init_process_group('gloo')
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
    return RUNNERS.build(cfg) if 'runner_type' in cfg else Runner.from_cfg(cfg)


def default_work_dir(config: str) -> str:
    """``work_dirs/<name of the config>``, as in mmdet."""
    return os.path.join('work_dirs', Path(config.split('::')[-1]).stem)


def _as_list(value: Any) -> list:
    if value is None:
        return []
    return list(value) if isinstance(value, (list, tuple)) else [value]
