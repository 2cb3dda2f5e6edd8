"""Training and testing of any config through mmengine's Runner."""

import copy
import json
import os
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Dict, Iterator, Optional, Sequence, Tuple, Union

import mmengine
import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.dist import barrier, is_main_process
from mmengine.hooks import CheckpointHook, LoggerHook
from mmengine.model import is_model_wrapper
from mmengine.registry import MODEL_WRAPPERS, RUNNERS
from mmengine.runner import EpochBasedTrainLoop, Runner
from mmengine.utils import import_modules_from_strings
from torch.nn.parallel import DistributedDataParallel

import asl_det
from asl_det.detection import print_swaps, swap_losses, take_swap
from asl_det.errors import Stopped, UserError
from asl_det.files import write_whole
from asl_det.identity import hold, versions
from asl_det.overrides import (
    apply_options,
    check_one_cycle,
    drop_empty_schedules,
    enable_auto_scale_lr,
    scale_one_cycle,
    without_amp,
)
from asl_det.processes import decided_by_main, join_processes
from asl_det.runs import FINISHED, Start, choose_start
from asl_det.stopping import STOP, Signals, killed_worker, noted
from asl_det.thresholds import Thresholds

COCO_HINT = ('download COCO 2017 from https://cocodataset.org and unpack it to data/coco with the '
             'folders annotations, train2017 and val2017, or give the folder with --data-root')

MMENGINE_HOOKS = ('runtime_info', 'timer', 'sampler_seed', 'logger', 'param_scheduler',
                  'checkpoint')


def load_config(path: str, options: Optional[Dict[str, Any]] = None, *,
                quiet: bool = False) -> Config:
    """Read a config file, or one that mmdet ships, named ``mmdet::folder/name.py``.

    Args:
        path: file or ``package::`` name.
        options: dotted keys and values that override the config's;
            ``data_root``, ``max_epochs`` and ``lr`` reach every place that
            depends on them, see :func:`asl_det.overrides.apply_options`;
            ``loss``, ``loss_options`` and ``loss_where`` replace losses, see
            :func:`asl_det.detection.swap_losses`.
        quiet: do not print what was replaced.

    Raises:
        UserError: if there is no such config, or an option would be ignored.
    """
    try:
        if '::' in path:
            from mmengine.hub import get_config
            cfg = get_config(path)
        elif not os.path.isfile(path):
            raise UserError(f'config {path} does not exist: give a file, or a config that mmdet '
                            'ships as mmdet::retinanet/retinanet_r50_fpn_1x_coco.py')
        else:
            cfg = Config.fromfile(path, import_custom_modules=False)
    except ModuleNotFoundError as error:
        if error.name != 'pkg_resources':
            raise
        raise UserError(f'config {path} can not be read: mmengine {mmengine.__version__} needs '
                        'pkg_resources, which setuptools 81 removed: pip install "setuptools<81"'
                        ) from error
    except FileNotFoundError as error:
        raise UserError(f'config {path} can not be read: {error}') from error
    _set_custom_imports(cfg)
    options = dict(options or {})
    swap = take_swap(options)
    if swap:  # before the other options, which may change the new loss
        import_modules_from_strings(**cfg.custom_imports)
        swaps = swap_losses(cfg, **swap)
        if not quiet:
            print_swaps(swaps)
    if options:
        apply_options(cfg, options)
        _set_custom_imports(cfg)
    import_modules_from_strings(**cfg.custom_imports)
    return cfg


def _set_custom_imports(cfg: Config) -> None:
    """Make ``custom_imports``, a dict, a list or a string, a dict with a list, and add asl_det."""
    custom = cfg.get('custom_imports') or {}
    if not isinstance(custom, dict):
        custom = dict(imports=custom)
    imports = custom.get('imports') or []
    imports = [imports] if isinstance(imports, str) else list(imports)
    # Set here, so that the text of a mmdet:: config needs no change to find our loss.
    if 'asl_det' not in imports:
        imports.append('asl_det')
    cfg.custom_imports = dict(custom, imports=imports)


def train(cfg: Config,
          *,
          work_dir: str,
          resume: Optional[str] = None,
          overwrite: bool = False,
          amp: bool = False,
          auto_scale_lr: bool = False,
          launcher: str = 'none',
          seed: Optional[int] = None,
          stop_signals: Sequence[str] = STOP,
          non_finite_steps: int = 10) -> Optional[Path]:
    """Train, and leave checkpoints, logs and ``curves.png`` in ``work_dir``.

    Whatever ends the training, ``work_dir`` holds a checkpoint that loads, once
    the first was written; an error between two steps (of data, of a
    validation) saves the state before it. No process returns before all have
    finished, the writing of the last checkpoint included.

    Args:
        cfg: a config with a model, data, schedule and evaluator. It is not
            changed.
        work_dir: folder of the run.
        resume: a checkpoint, or 'auto' for the newest one of ``work_dir`` that
            loads; if there is none, the training starts as it would without.
        overwrite: begin anew where ``work_dir`` holds a run; its checkpoints
            and curves are removed when the first step begins.
        amp: mixed precision. It needs a GPU; without one, a config that asks
            for it trains in float32, and the log says so.
        auto_scale_lr: scale the learning rate by the batch size of all
            processes over ``cfg.auto_scale_lr.base_batch_size``.
        launcher: 'none', 'pytorch', 'slurm' or 'mpi'.
        seed: seed of every random generator; None keeps the config's.
        stop_signals: names of signals that save a checkpoint after the step
            that is under way, and stop; the second ends the process at once.
        non_finite_steps: so many steps in a row with a loss that is NaN or
            infinite end the training.

    Returns:
        The last checkpoint, or None if the config writes none.

    Raises:
        UserError: if data or a checkpoint is missing, ``work_dir`` holds a run
            that is neither resumed nor overwritten or another process trains
            there, the schedule does not fit, to itself or to the
            resumed checkpoint, a checkpoint is not one of this network
            (``load_from``: if nothing of it fits) or can not be written, loss
            or weights are not finite, or a DataLoader worker was killed.
        Stopped: after a stop signal.
    """
    cfg = copy.deepcopy(cfg)
    cfg.work_dir = work_dir
    cfg.launcher = launcher
    check_data(cfg, ('train', 'val'))
    check_one_cycle(cfg)
    join_processes(cfg)
    with ExitStack() as stack:

        def settle() -> Start:
            stack.enter_context(hold(work_dir))
            return choose_start(cfg, resume, overwrite)

        start = decided_by_main(settle)
        cfg.load_from, cfg.resume = start.checkpoint, start.resume
        if cfg.load_from:
            check_checkpoint(cfg.load_from)
        if amp:
            cfg.optim_wrapper.type = 'AmpOptimWrapper'
            cfg.optim_wrapper.setdefault('loss_scale', 'dynamic')
        without_gpu = get_device() in ('cpu', 'mps') and without_amp(cfg)
        if auto_scale_lr:
            enable_auto_scale_lr(cfg)
        if seed is not None:
            cfg.randomness = dict(cfg.get('randomness', {}), seed=seed)
        make_resumable(cfg)
        runner = build_runner(cfg)
        if without_gpu:
            runner.logger.warning('mixed precision needs a GPU, and torch finds none: training in '
                                  'float32 (OptimWrapper in the place of AmpOptimWrapper)')
        for newer in start.passed_over:
            runner.logger.warning(f'--resume passes over a newer checkpoint, {newer}')
        scale_one_cycle(runner, cfg)
        drop_empty_schedules(runner)
        runner.register_hook(asl_det.hooks.CurvesHook())
        if cfg.load_from:
            purpose = 'resume' if cfg.resume else 'load_from'
            runner.register_hook(asl_det.hooks.LoadWeightsHook(purpose, cfg.load_from))
        if cfg.resume:
            runner.register_hook(asl_det.hooks.SameScheduleHook())
        signals = stack.enter_context(noted(stop_signals))
        guard = asl_det.hooks.GuardHook(signals, non_finite_steps, start.overwritten)
        runner.register_hook(guard)
        _train(runner, guard, signals)
        barrier()  # a launcher ends all processes when one fails, so none may run ahead
        written = [h.last_ckpt for h in runner.hooks
                   if isinstance(h, CheckpointHook) and h.last_ckpt]
        if not written and cfg.resume:  # there was nothing left to train
            written = [cfg.load_from]
        if written and is_main_process():
            write_whole(Path(work_dir, FINISHED), os.path.basename(written[-1]))
    return Path(written[-1]) if written else None


def _train(runner: Runner, guard: 'asl_det.hooks.GuardHook', signals: Signals) -> None:
    """Run the training; what ends it between two steps costs nothing of it."""
    try:
        runner.train()
    except Exception as error:
        # First, because torch's handler of a worker's death may still raise, in the saving too.
        known = killed_worker(
            error, 'val_dataloader' if guard.validating else 'train_dataloader')
        saved = guard.rescue(runner)
        if signals.number and (saved or not is_main_process()):  # it has ended a worker too
            raise Stopped(signals.number, runner.iter, saved) from error
        if saved is not None:
            runner.logger.error(f'an error ends the training after iteration {runner.iter}, which '
                                f'{saved} holds: --resume goes on from there')
        if known is None:
            raise
        raise known from error


def make_resumable(cfg: Config) -> None:
    """Put our checkpoints, logger and loop in the place of mmengine's, in the config."""
    hooks = dict(cfg.get('default_hooks') or {})
    hooks.setdefault('checkpoint', dict(type='CheckpointHook', interval=1))  # mmengine's defaults
    hooks.setdefault('logger', dict(type='LoggerHook'))
    cfg.default_hooks = hooks
    for hook in [*cfg.default_hooks.values(), *(cfg.get('custom_hooks') or [])]:
        for kind in (CheckpointHook, LoggerHook):
            if isinstance(hook, dict) and _is(hook, kind):
                hook['type'] = f'mmdet.Safe{kind.__name__}'
    loop = cfg.get('train_cfg') or {}
    if loop.get('by_epoch') and 'type' not in loop:
        loop['type'] = loop.pop('by_epoch') and 'EpochBasedTrainLoop'
    if _is(loop, EpochBasedTrainLoop):
        loop['type'] = 'mmdet.ResumableEpochLoop'


def _is(node: Dict[str, Any], kind: type) -> bool:
    """Whether a config asks for mmengine's own class."""
    return node.get('type') in (kind, *(f'{scope}{kind.__name__}'
                                        for scope in ('', 'mmengine.', 'mmdet.')))


def test(cfg: Config,
         checkpoint: str,
         *,
         work_dir: str,
         out: Union[str, Path, None] = None,
         show_dir: Union[str, Path, None] = None,
         launcher: str = 'none',
         partial: bool = False,
         thresholds: Optional[Thresholds] = None) -> Dict[str, float]:
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
        thresholds: from which score a class is predicted, of a multi-label
            classifier; None for those of the config. Scores that are written
            or drawn stay as the network gives them.

    Returns:
        The metrics by name.

    Raises:
        UserError: if data or the checkpoint is missing, the checkpoint is
            not one of this network, or thresholds are of other classes.
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
    if thresholds is not None:
        _use_thresholds(runner, thresholds)
    try:
        metrics = runner.test()
    except Exception as error:
        known = killed_worker(error, 'test_dataloader')
        if known is None:
            raise
        raise known from error
    if out is not None and is_main_process():
        record = dict(config=cfg.filename, checkpoint=str(checkpoint), metrics=metrics,
                      thresholds=thresholds and thresholds.to_dict(), versions=versions())
        write_whole(out, json.dumps(record, indent=2, default=_plain) + '\n')
    barrier()
    return metrics


def _use_thresholds(runner: Runner, thresholds: Thresholds) -> None:
    model = runner.model.module if is_model_wrapper(runner.model) else runner.model
    if not isinstance(model, asl_det.multilabel.MultiLabelClassifier):
        raise UserError(f'thresholds are for multi-label classifiers, but the config has a '
                        f'{type(model).__name__}: box AP has no threshold')
    classes = runner.test_loop.dataloader.dataset.metainfo['classes']
    model.threshold = thresholds.on_raw_scores(classes)


def _plain(value: Any) -> Any:
    """Numbers, lists or text in the place of what json does not know (numpy, tensors)."""
    return value.tolist() if hasattr(value, 'tolist') else str(value)


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
    return RUNNERS.build(cfg) if 'runner_type' in cfg else Runner.from_cfg(cfg)


def default_work_dir(config: str, loss: Optional[str] = None) -> str:
    """``work_dirs/<name of the config>``, as in mmdet; with ``-<loss>`` if one was put in."""
    name = Path(config.split('::')[-1]).stem
    return os.path.join('work_dirs', f'{name}-{loss}' if loss else name)


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
