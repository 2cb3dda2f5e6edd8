"""Files that are read and folders that are written."""

import os
import shutil
from typing import Any, Dict, Iterator, Optional

from asl_det.config.walk import path_of
from asl_det.files.whole import nearest_that_exists, why_not_writable
from asl_det.preflight.finding import Finding
from asl_det.preflight.model import build_model
from asl_det.preflight.run import Run
from asl_det.registry import type_name

COCO_HINT = ('download COCO 2017 from https://cocodataset.org and unpack it to data/coco with the '
             'folders annotations, train2017 and val2017, or give the folder with --data-root')
PLENTY = 20 << 30  # bytes free that need no estimate


def check_data_files(run: Run) -> Iterator[Finding]:
    """Annotation files and image folders are there."""
    for place, dataset in run.splits():
        if dataset.get('backend_args'):
            continue  # remote storage
        if isinstance(dataset.get('ann_file'), str):
            yield from _there(run, path_of(dataset, dataset['ann_file']), f'{place}.ann_file')
        for key, prefix in (dataset.get('data_prefix') or {}).items():
            if isinstance(prefix, str) and 'ann_file' in dataset:
                yield from _there(run, path_of(dataset, prefix), f'{place}.data_prefix.{key}')
    for place, evaluator in run.evaluators():
        if isinstance(evaluator.get('ann_file'), str):
            yield from _there(run, evaluator['ann_file'], f'{place}.ann_file')


def _there(run: Run, path: str, place: str) -> Iterator[Finding]:
    if not path or '://' in path or os.path.exists(path):
        return
    hint = run.cfg.get('how_to_get_data') or (
        COCO_HINT if 'coco' in path else 'edit data_root, ann_file and data_prefix')
    yield Finding('missing', f'{run.config}: {place}', f'{path} does not exist (looked for '
                  f'{os.path.abspath(path)}): {hint}')


def check_outputs(run: Run) -> Iterator[Finding]:
    """What will be written can be: no file in the place of a folder, permission, space."""
    outputs = dict(run.outputs, **({} if run.work_dir is None else {'--work-dir': run.work_dir}))
    for flag, path in outputs.items():
        wrong = why_not_writable(path, folder=flag != '--out')
        if wrong:
            yield Finding('not writable', f'{flag} {path}', wrong)
    if run.work_dir is not None and run.purpose in ('train', 'resume'):
        yield from _space(run, run.work_dir)


def _space(run: Run, path: str) -> Iterator[Finding]:
    found = nearest_that_exists(path)
    free = shutil.disk_usage(found).free if found.is_dir() else PLENTY
    if free >= PLENTY:
        return
    needed = checkpoint_bytes(run)
    if needed is not None and free < needed:
        yield Finding('no space', f'--work-dir {path}', f'{free / 1e9:.2f} GB are free, but the '
                      f'checkpoints to come take about {needed / 1e9:.2f} GB: free some space, '
                      'give another --work-dir, or lower default_hooks.checkpoint.max_keep_ckpts')


def checkpoint_bytes(run: Run) -> Optional[int]:
    """About what the checkpoints of a training take at once; None without any."""
    hooks = run.cfg.get('default_hooks') or {}
    hook: Dict[str, Any] = hooks.get('checkpoint', {})
    model = build_model(run) if hook is not None else None
    if model is None:
        return None
    sizes = {name: p.numel() * p.element_size() for name, p in model.state_dict().items()}
    trained = sum(p.numel() * p.element_size() for p in model.parameters() if p.requires_grad)
    optimizer = (run.cfg.get('optim_wrapper') or {}).get('optimizer') or {}
    moments = 1 if 'SGD' in type_name(optimizer) else 2
    moments = moments if optimizer.get('momentum', moments - 1) else 0
    averages = sum('EMA' in type_name(h) for h in [
        *hooks.values(), *(run.cfg.get('custom_hooks') or [])] if isinstance(h, dict))
    one = sum(sizes.values()) * (1 + averages) + trained * moments
    kept = hook.get('max_keep_ckpts', -1)
    loop = run.cfg.get('train_cfg') or {}
    length = loop.get('max_epochs' if hook.get('by_epoch', True) else 'max_iters') or 1
    every = max(1, int(hook.get('interval') or 1))
    written = max(1, length // every) if isinstance(length, int) else 1
    number = min(written, kept) if isinstance(kept, int) and kept > 0 else written
    return one * (number + 1 + bool(hook.get('save_best')))  # one more while the next is written
