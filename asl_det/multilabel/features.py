"""Features of a frozen backbone, computed once and trained on many times."""

import json
from pathlib import Path
from typing import Any, List, Sequence, Union

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.device import get_device
from rich.progress import Progress
from torch import nn
from torch.utils.data import DataLoader, Subset

from asl_det.errors import UserError
from asl_det.multilabel.transforms import feature_path
from asl_det.registry import DATASETS, MODELS


@torch.no_grad()
def cache_features(cfg: Config, folder: Union[str, Path], batch_size: int = 50) -> int:
    """Write what the frozen part of a backbone gives for every image of a config.

    Every image passes through the pipeline of the validation set, as it is
    and mirrored. Its file is float16 ``(2, C, h, w)``. What is there already
    is kept, so an interrupted run continues.

    Args:
        cfg: a config whose ``model.backbone.freeze`` names the modules that
            come first.
        folder: where the files go, with ``features.json``, which says what
            they were made with.
        batch_size: images at a time.

    Returns:
        The number of images that were new.

    Raises:
        UserError: if nothing is frozen, ``folder`` holds features made with
            other settings, or two images would share a file.
    """
    folder = Path(folder)
    model = MODELS.build(cfg.model)
    if not getattr(model.backbone, 'freeze', ()):
        raise UserError('model.backbone.freeze names no module, so there is nothing that could be '
                        'computed once: list the modules that come first')
    pipeline = cfg.val_dataloader.dataset.pipeline
    _check_settings(folder, dict(backbone=cfg.model.backbone.to_dict(), pipeline=[
        dict(step) for step in pipeline], preprocessor=cfg.model.data_preprocessor.to_dict()))
    for name in _others(model.backbone.model, model.backbone.freeze):
        owner, _, attribute = name.rpartition('.')
        setattr(model.backbone.model.get_submodule(owner), attribute, nn.Identity())
    model = model.to(get_device()).eval()

    new = 0
    seen = {}
    with Progress() as progress:
        for split in ('train', 'val'):
            dataset = DATASETS.build(dict(cfg[f'{split}_dataloader'].dataset, pipeline=pipeline,
                                          test_mode=True))
            paths = [dataset.get_data_info(i)['img_path'] for i in range(len(dataset))]
            for path in paths:
                other = seen.setdefault(feature_path(folder, path), path)
                if other != path:
                    raise UserError(f'{path} and {other} would share {feature_path(folder, path)}:'
                                    ' give their folders different names')
            todo = [i for i, path in enumerate(paths) if not feature_path(folder, path).exists()]
            loader = DataLoader(Subset(dataset, todo), batch_size, num_workers=1,
                                collate_fn=pseudo_collate)
            task = progress.add_task(split, total=len(todo))
            for batch in loader:
                data = model.data_preprocessor(batch)
                inputs = data['inputs'].contiguous(memory_format=torch.channels_last)
                both = [model.backbone(x)[0].half().cpu().numpy()
                        for x in (inputs, inputs.flip(-1))]
                for sample, *features in zip(data['data_samples'], *both, strict=True):
                    _write(feature_path(folder, sample.img_path), np.stack(features))
                progress.advance(task, len(inputs))
            new += len(todo)
    return new


def _others(model: nn.Module, frozen: Sequence[str], prefix: str = '') -> List[str]:
    """The modules that are not frozen, as few names as possible."""
    names = []
    for name, child in model.named_children():
        name = prefix + name
        if name in frozen:
            continue
        if any(f.startswith(f'{name}.') for f in frozen):
            names += _others(child, frozen, f'{name}.')
        else:
            names.append(name)
    return names


def _check_settings(folder: Path, settings: Any) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / 'features.json'
    text = json.dumps(settings, indent=2, default=str)
    if path.exists() and path.read_text() != text:
        raise UserError(f'{path}: the features there were made with another backbone or pipeline; '
                        f'choose another folder, or delete {folder}')
    path.write_text(text)


def _write(path: Path, features: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix('.partial')
    with open(partial, 'wb') as file:
        np.save(file, features)
    partial.replace(path)
