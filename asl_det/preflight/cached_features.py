"""The check of cached features: that they are of this network and of these images."""

import json
import os
from pathlib import Path
from typing import Any, Dict, Iterator, Set

from asl_det.errors import UserError
from asl_det.files.identity import differences
from asl_det.files.reading import read_json
from asl_det.files.records import FEATURES
from asl_det.multilabel.datasets.dataset import shorten
from asl_det.multilabel.transforms import feature_path
from asl_det.preflight.annotations import image_files, in_config, inspect, is_local
from asl_det.preflight.columns import as_findings
from asl_det.preflight.finding import Contents, Finding, guarded
from asl_det.preflight.images import SAMPLE, spread
from asl_det.preflight.run import Run
from asl_det.registry import is_type, type_name

IMAGES = ('LoadImageFromFile', 'LoadImageWithPillow')
MAKE = 'make them with asl-det data features CONFIG {folder}'


def check_features(run: Run) -> Iterator[Finding]:
    """Folders that ``LoadFeatures`` reads: their network, and a sample of the images."""
    seen: Set[str] = set()
    for place, dataset in run.splits():
        yield from in_config(run, guarded('check_features', place, _check_data_set(
            run, place, dataset, seen)))


def _check_data_set(run: Run, place: str, dataset: Dict[str, Any], seen: Set[str]
                    ) -> Iterator[Finding]:
    """The findings of one data set; ``seen`` are folders that were looked at."""
    backbone = (run.cfg.get('model') or {}).get('backbone') or {}
    steps = dataset.get('pipeline') or ()
    if backbone.get('skip') and steps and is_type(steps[0], *IMAGES):
        yield Finding('images in the place of features', f'{place}.pipeline',
                      f'begins with {type_name(steps[0])}, but model.backbone.skip leaves out '
                      f'{shorten(backbone["skip"], 4)}, whose features are expected: begin '
                      'with LoadFeatures, or set model.backbone.skip=()')
    for step in steps:
        if not is_type(step, 'LoadFeatures') or not step.get('folder'):
            continue
        folder = step['folder']
        if folder not in seen:
            seen.add(folder)
            yield from check_folder(folder, backbone)
        contents = inspect(place, dataset) if is_local(dataset) else Contents()
        images = [p for p in image_files(contents) if os.path.isfile(p)]
        chosen = images if run.thorough else [images[i] for i in spread(len(images), SAMPLE)]
        lacking = [p for p in chosen if not feature_path(folder, p).is_file()]
        if lacking and os.path.isdir(folder):
            yield Finding('no features', place, f'{len(lacking)} of {len(chosen)} images that '
                          f'were looked at have no features in {folder} ({shorten(lacking, 3)})'
                          f': {MAKE.format(folder=folder)}')


def check_folder(folder: str, backbone: Dict[str, Any]) -> Iterator[Finding]:
    """Whether features were made with the frozen part of a backbone that ``skip`` leaves out."""
    path = Path(folder, FEATURES)
    if not path.is_file():
        yield Finding('no features', str(path), f'does not exist: {MAKE.format(folder=folder)}')
        return
    try:
        made_with = dict(read_json(path)['backbone'])
    except UserError as error:
        yield from as_findings('features', path, [error])
        return
    except (KeyError, TypeError, ValueError):
        yield Finding('features', str(path), 'does not say which backbone the features are of: '
                      + MAKE.format(folder=folder))
        return
    asked = {k: v for k, v in backbone.items() if k not in ('freeze', 'skip')}
    asked['freeze'] = list(backbone.get('skip') or ())
    made_with.pop('skip', None)
    changes = differences(made_with, json.loads(json.dumps(asked, default=str)))  # lists
    if changes:
        yield Finding('features of another network', str(path), 'the features are not those of '
                      f'model.backbone ({shorten(changes, 4)}): '
                      + MAKE.format(folder='ANOTHER_FOLDER'))
