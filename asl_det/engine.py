"""Training and testing of any config through mmengine's Runner."""

import json
import os
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Dict, Iterator, Optional, Tuple, Union

import mmengine
import torch
from mmengine.config import Config
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

import asl_det
from asl_det.errors import UserError
from asl_det.identity import hold, versions

COCO_HINT = ('download COCO 2017 from https://cocodataset.org and unpack it to data/coco with the '
             'folders annotations, train2017 and val2017, or edit data_root in a config of yours')


def load_config(path: str, options: Optional[Dict[str, Any]] = None) -> Config:
    """Read a config file, or one that mmdet ships, named ``mmdet::folder/name.py``.

    Args:
        path: file or ``package::`` name.
        options: dotted keys and values that override the config's.

    Raises:
        UserError: if there is no such config.
    """
    try:
        if '::' in path:
            from mmengine.hub import get_config
            cfg = get_config(path)
        else:
            if not os.path.isfile(path):
                raise UserError(f'config {path} does not exist: give a file, or a config that '
                                'mmdet ships as mmdet::retinanet/retinanet_r50_fpn_1x_coco.py')
            cfg = Config.fromfile(path)
    except ModuleNotFoundError as error:
        if error.name != 'pkg_resources':
            raise
        raise UserError(f'config {path} can not be read: mmengine {mmengine.__version__} needs '
                        'pkg_resources, which setuptools 81 removed: pip install "setuptools<81"'
                        ) from error
    except FileNotFoundError as error:
        raise UserError(f'config {path} can not be read: {error}') from error
    if options:
        cfg.merge_from_dict(options)
    # Set here, so that the text of a mmdet:: config needs no change to find our loss.
    imports = list(cfg.get('custom_imports', {}).get('imports', []))
    if 'asl_det' not in imports:
        cfg.custom_imports = dict(cfg.get('custom_imports', {}), imports=[*imports, 'asl_det'])
    return cfg


def train(cfg: Config,
          *,
          work_dir: str,
          resume: Optional[str] = None,
          amp: bool = False,
          launcher: str = 'none',
          seed: Optional[int] = None) -> Path:
    """Train, and leave checkpoints, logs and ``curves.png`` in ``work_dir``.

    Args:
        cfg: a config with a model, data, schedule and evaluator.
        work_dir: folder of the run.
        resume: a checkpoint, or 'auto' for the last one of ``work_dir``,
            if there is any.
        amp: mixed precision; needs a GPU.
        launcher: 'none', 'pytorch', 'slurm' or 'mpi'.
        seed: seed of every random generator; None keeps the config's.

    Returns:
        The last checkpoint.

    Raises:
        UserError: if data or a checkpoint is missing, or another process
            trains in ``work_dir``.
    """
    cfg.work_dir = work_dir
    cfg.launcher = launcher
    check_data(cfg, ('train', 'val'))
    if resume == 'auto':
        cfg.resume, cfg.load_from = True, None
    elif resume is not None:
        cfg.resume, cfg.load_from = True, resume
    if cfg.get('load_from'):
        check_checkpoint(cfg.load_from)
    if amp:
        if not torch.cuda.is_available():
            raise UserError('--amp needs a GPU, and torch finds none: leave it out')
        cfg.optim_wrapper.type = 'AmpOptimWrapper'
        cfg.optim_wrapper.loss_scale = 'dynamic'
    if seed is not None:
        cfg.randomness = dict(cfg.get('randomness', {}), seed=seed)
    runner = build_runner(cfg)
    runner.register_hook(asl_det.hooks.CurvesHook(), priority='VERY_LOW')
    with hold(work_dir) if mmengine.dist.is_main_process() else nullcontext():
        runner.train()
    return Path((Path(work_dir) / 'last_checkpoint').read_text().strip())


def test(cfg: Config,
         checkpoint: str,
         *,
         work_dir: str,
         out: Union[str, Path, None] = None,
         show_dir: Union[str, Path, None] = None,
         launcher: str = 'none') -> Dict[str, float]:
    """Evaluate a checkpoint.

    Args:
        cfg: the config that it was trained with.
        checkpoint: file or URL.
        work_dir: folder of the log.
        out: json file for the metrics; the detections go beside it in COCO's
            result format.
        show_dir: folder for every image with truth (left) and predictions
            (right).
        launcher: 'none', 'pytorch', 'slurm' or 'mpi'.

    Returns:
        The metrics by name.

    Raises:
        UserError: if data or the checkpoint is missing.
    """
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
    metrics = build_runner(cfg).test()
    if out is not None and mmengine.dist.is_main_process():
        record = dict(config=cfg.filename, checkpoint=str(checkpoint), metrics=metrics,
                      versions=versions())
        out.write_text(json.dumps(record, indent=2) + '\n')
    return metrics


def build_runner(cfg: Config) -> Runner:
    """The Runner of a config, or the runner type that it names."""
    if cfg.launcher == 'pytorch' and not torch.cuda.is_available():
        # mmengine asks for GPUs where it starts processes and wraps the model.
        if not torch.distributed.is_initialized():
            torch.distributed.init_process_group('gloo')
        wrapper = dict(type='MMDistributedDataParallel', broadcast_buffers=False, device_ids=None)
        cfg.model_wrapper_cfg = dict(wrapper, **cfg.get('model_wrapper_cfg') or {})
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
