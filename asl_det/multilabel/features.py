"""Features of a frozen backbone, computed once and trained on many times."""

import copy
import json
from pathlib import Path
from typing import Any, Dict, List, Sequence, Union

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.device import get_device
from rich.progress import Progress
from torch import nn
from torch.utils.data import DataLoader, Subset

from asl_det.compat.weights import hash_weights
from asl_det.errors import UserError
from asl_det.files.identity import differences, hold
from asl_det.files.reading import expect_shape, read_json
from asl_det.files.records import FEATURES
from asl_det.files.whole import require_output, whole_file, write_whole
from asl_det.multilabel.backbones import replace_by_identity
from asl_det.multilabel.datasets import MultiLabelDataset
from asl_det.multilabel.datasets.dataset import shorten
from asl_det.multilabel.transforms import feature_path
from asl_det.registry import DATASETS, MODELS


@torch.no_grad()
def cache_features(cfg: Config, folder: Union[str, Path], batch_size: int = 50) -> int:
    """Write what the frozen part of a backbone gives for every image of a config.

    Every image passes through the pipeline of the validation set, as it is
    and mirrored. Its file is float16 ``(2, C, h, w)``, named by a hash of the
    image file. What is there already is kept, so an interrupted run
    continues, and data sets can share a folder.

    Args:
        cfg: a config whose ``model.backbone.freeze`` names the modules that
            come first.
        folder: where the files go, with ``features.json``, which says what
            they were made with: backbone, a hash of the frozen weights,
            preprocessor and pipeline.
        batch_size: images at a time.

    Returns:
        The number of images that were new.

    Raises:
        UserError: if nothing is frozen, the frozen modules are not those
            that come first, or ``folder`` holds features made with something
            else or is in use.
    """
    folder = Path(folder)
    require_output(folder, folder=True)
    model = MODELS.build(cfg.model)
    if not getattr(model.backbone, 'freeze', ()):
        raise UserError('model.backbone.freeze names no module, so there is nothing that could be '
                        'computed once: list the modules that come first')
    pipeline = cfg.val_dataloader.dataset.pipeline
    rest = copy.deepcopy(model.backbone)
    replace_by_identity(rest.model, model.backbone.freeze)
    first = copy.deepcopy(model.backbone)
    replace_by_identity(first.model, _others(model.backbone.model, model.backbone.freeze))
    whole = model.backbone
    for module in (model, first, rest):
        module.to(get_device()).eval()

    record = json.loads(json.dumps(dict(
        files='float16 (2, C, h, w): as it is and mirrored; named by the sha256 of the image file',
        backbone=cfg.model.backbone.to_dict(), weights=hash_weights(first.state_dict()),
        preprocessor=cfg.model.data_preprocessor.to_dict(),
        pipeline=[dict(step) for step in pipeline]), default=str))
    datasets = [DATASETS.build(dict(cfg[f'{split}_dataloader'].dataset, pipeline=pipeline,
                                    test_mode=True)) for split in ('train', 'val')]
    with hold(folder), Progress() as progress:
        _check_record(folder, record)
        todo = [_missing(dataset, folder) for dataset in datasets]
        for split, dataset, missing in zip(('train', 'val'), datasets, todo, strict=True):
            loader = DataLoader(Subset(dataset, missing), batch_size, num_workers=1,
                                collate_fn=pseudo_collate)
            task = progress.add_task(split, total=len(missing))
            for number, batch in enumerate(loader):
                data = model.data_preprocessor(batch)
                inputs = data['inputs'].contiguous(memory_format=torch.channels_last)
                if number == 0 and not _same(rest(first.features(inputs))[0], whole(inputs)[0]):
                    raise UserError(f'model.backbone.freeze={list(whole.freeze)} is not where the '
                                    f'network begins: name every module that comes before the '
                                    f'rest, those without weights too; it has '
                                    f'{", ".join(n for n, _ in whole.model.named_children())}')
                if number == 0:
                    write_whole(folder / FEATURES, json.dumps(record, indent=2) + '\n')
                both = [first.features(x).half().cpu().numpy()
                        for x in (inputs, inputs.flip(-1))]
                for sample, *features in zip(data['data_samples'], *both, strict=True):
                    _write(feature_path(folder, sample.img_path), np.stack(features))
                progress.advance(task, len(inputs))
    return sum(map(len, todo))


def _missing(dataset: MultiLabelDataset, folder: Path) -> List[int]:
    """The positions of the images without a file."""
    return [i for i in range(len(dataset))
            if not feature_path(folder, dataset.get_data_info(i)['img_path']).exists()]


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


def _same(a: torch.Tensor, b: torch.Tensor) -> bool:
    return a.shape == b.shape and torch.allclose(a, b, rtol=1e-3, atol=1e-4)


def _check_record(folder: Path, record: Dict[str, Any]) -> None:
    """Refuse a folder with features made with something else."""
    path = folder / FEATURES
    if path.exists():
        found = read_json(path)
        expect_shape(found, {}, path)
        changes = differences(found, record)
    else:
        changes = ['it has no features.json'] * any(folder.glob('*/*.npy'))
    if changes:
        raise UserError(f'{folder} holds features made with something else '
                        f'({shorten(changes, 4)}): give another folder, or delete it')


def _write(path: Path, features: np.ndarray) -> None:
    with whole_file(path, sync=False) as file:
        np.save(file, features)
