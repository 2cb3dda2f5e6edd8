"""Training and testing of any config through mmengine's Runner."""

import copy
import json
import os
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Dict, Iterator, Optional, Tuple, Union

import mmengine
import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.dist import barrier, is_main_process
from mmengine.hooks import CheckpointHook
from mmengine.registry import MODEL_WRAPPERS, RUNNERS
from mmengine.runner import Runner, find_latest_checkpoint
from mmengine.utils import import_modules_from_strings
from torch.nn.parallel import DistributedDataParallel

import asl_det
from asl_det.errors import UserError
from asl_det.identity import hold, versions
from asl_det.overrides import (
    apply_options,
    check_one_cycle,
    drop_empty_schedules,
    enable_auto_scale_lr,
    scale_one_cycle,
    without_amp,
)

COCO_HINT = ('download COCO 2017 from https://cocodataset.org and unpack it to data/coco with the '
             'folders annotations, train2017 and val2017, or give the folder with --data-root')

MMENGINE_HOOKS = ('runtime_info', 'timer', 'sampler_seed', 'logger', 'param_scheduler',
                  'checkpoint')


def train(cfg: Config,
          *,
          work_dir: str,
          resume: Optional[str] = None,
          amp: bool = False,
          auto_scale_lr: bool = False,
          launcher: str = 'none',
          seed: Optional[int] = None) -> Optional[Path]:
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

    Returns:
        The last checkpoint, or None if the config writes none.

    Raises:
        UserError: if data or a checkpoint is missing, another process trains
            in ``work_dir``, the schedule does not fit, to itself or to the
            resumed checkpoint, or a checkpoint is not one of this network
            (``load_from``: if nothing of it fits).
    """
    cfg = copy.deepcopy(cfg)
    cfg.work_dir = work_dir
    cfg.launcher = launcher
    check_data(cfg, ('train', 'val'))
    check_one_cycle(cfg)
    _set_resume(cfg, resume)
    if cfg.get('load_from'):
        check_checkpoint(cfg.load_from)
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
    scale_one_cycle(runner, cfg)
    drop_empty_schedules(runner)
    runner.register_hook(asl_det.hooks.CurvesHook())
    if cfg.get('load_from'):
        purpose = 'resume' if cfg.get('resume') else 'load_from'
        runner.register_hook(asl_det.hooks.LoadWeightsHook(purpose, cfg.load_from))
    if cfg.get('resume'):
        runner.register_hook(asl_det.hooks.SameScheduleHook())
    with hold(work_dir) if is_main_process() else nullcontext():
        runner.train()
    barrier()  # a launcher ends all processes when one fails, so none may run ahead
    written = [h.last_ckpt for h in runner.hooks if isinstance(h, CheckpointHook) and h.last_ckpt]
    if not written and cfg.get('resume'):  # there was nothing left to train
        written = [cfg.load_from]
    return Path(written[-1]) if written else None


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
         partial: bool = False) -> Dict[str, float]:
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

    Returns:
        The metrics by name.

    Raises:
        UserError: if data or the checkpoint is missing, or the checkpoint is
            not one of this network.
    """
    cfg = copy.deepcopy(cfg)
    cfg.work_dir = work_dir
    cfg.launcher = launcher
    check_data(cfg, ('test',))
    check_checkpoint(checkpoint)
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


def check_data(cfg: Config, splits: Tuple[str, ...]) -> None:
    """Raise UserError for the first annotation file or image folder that is not there."""
    for split in splits:
        for dataset in _datasets(cfg.get(f'{split}_dataloader')):
            _check_dataset(dataset, f'{split}_dataloader', cfg.get('how_to_get_data'))
        for evaluator in _as_list(cfg.get(f'{split}_evaluator')):
            _check_path(evaluator.get('ann_file'), f'{split}_evaluator.ann_file',
                        cfg.get('how_to_get_data'))


def check_checkpoint(path: str) -> None:
    """Raise UserError if a local checkpoint is not there; URLs are left to mmengine."""
    if '://' not in path and not os.path.isfile(os.path.expanduser(path)):
        raise UserError(f'checkpoint {path} does not exist: train one with '
                        'python tools/train.py CONFIG, which writes to work_dirs/')


def _datasets(node: Any) -> Iterator[Dict[str, Any]]:
    """Every dataset with an annotation file, inside any wrapper."""
    if isinstance(node, dict):
        if 'ann_file' in node:
            yield node
        for value in node.values():
            yield from _datasets(value)
    elif isinstance(node, (list, tuple)):
        for value in node:
            yield from _datasets(value)


def _check_dataset(dataset: Dict[str, Any], where: str, hint: Optional[str]) -> None:
    if dataset.get('backend_args'):
        return  # remote storage
    root = dataset.get('data_root') or ''
    _check_path(_join(root, dataset['ann_file']), f'{where}: ann_file', hint)
    for prefix in (dataset.get('data_prefix') or {}).values():
        _check_path(_join(root, prefix), f'{where}: image folder', hint)


def _check_path(path: Optional[str], where: str, hint: Optional[str]) -> None:
    if not path or '://' in path or os.path.exists(path):
        return
    if hint is None:
        hint = COCO_HINT if 'coco' in path else 'edit data_root, ann_file and data_prefix'
    raise UserError(f'{where} {path} does not exist (looked for {os.path.abspath(path)}): {hint}')


def _join(root: str, path: str) -> str:
    return path if '://' in path else os.path.join(root, path)


def _as_list(value: Any) -> list:
    if value is None:
        return []
    return list(value) if isinstance(value, (list, tuple)) else [value]
