"""Data sets of a config over a few of their images, with the pipelines of the config."""

import copy
import json
import os
import tempfile
from collections import Counter
from typing import Any, Dict

from mmengine.dataset import BaseDataset, Compose

from asl_det.config.walk import path_of, wrapped
from asl_det.preflight.annotations import inspect, is_local
from asl_det.preflight.finding import Contents
from asl_det.preflight.run import Run
from asl_det.preflight.steps import Step, build_steps
from asl_det.registry import DATASETS, without_pipeline

FEW_TRIES = 20  # images that a training data set tries until its pipeline leaves one


class Unreadable(Exception):
    """A data set whose labels can not be read, which other checks say."""


def with_few_images(run: Run, place: str, node: Dict[str, Any], dropped: 'Counter[str]') -> Any:
    """The data set of a loader, wrappers included, over a few of the images of each part.

    Args:
        run: whose data sets were read by the checks of annotations.
        place: dotted key of the data set.
        node: its config.
        dropped: counts which steps return None.

    Raises:
        Unreadable: see there.
        StepError: if a step of a pipeline can not be built.
        Exception: whatever the class of a data set raises.
    """
    data = DATASETS.build(_with_leaves(run, place, copy.deepcopy(node), dropped))
    _name_steps(place, node, data, dropped)
    return data


def _with_leaves(run: Run, place: str, node: Any, dropped: 'Counter[str]') -> Any:
    """A config whose innermost data sets are built already, of a few images."""
    if isinstance(node, (list, tuple)):
        return [_with_leaves(run, f'{place}.{i}', n, dropped) for i, n in enumerate(node)]
    keys = wrapped(node)
    if not keys:
        leaf = _leaf(run, place, node, dropped)
        return dict(type=lambda: leaf)
    for key in keys:
        node[key] = _with_leaves(run, f'{place}.{key}', node[key], dropped)
    return node


def _leaf(run: Run, place: str, node: Dict[str, Any], dropped: 'Counter[str]') -> Any:
    path = node.get('ann_file')
    if path and isinstance(path, str) and not node.get('backend_args') and not os.path.exists(
            path_of(node, path)):
        raise Unreadable
    steps = build_steps(f'{place}.pipeline', node.get('pipeline'), dropped)
    data = _few(run, place, node)
    own = getattr(data, 'pipeline', None)
    if not isinstance(data, BaseDataset) or getattr(own, 'transforms', None) != []:
        return DATASETS.build(copy.deepcopy(node))  # a class that knows no pipeline, or another
    data = copy.copy(data)
    data.pipeline, data.max_refetch = Compose(steps), FEW_TRIES
    return data


def _few(run: Run, place: str, node: Dict[str, Any]) -> Any:
    """A few images of a data set, without its pipeline."""
    try:
        contents = inspect(place, node) if is_local(node) else Contents()
    except Exception as error:
        raise Unreadable from error
    if any(f.error for f in contents.findings):
        raise Unreadable
    if contents.few is None or node.get('proposal_file'):
        return run.load(place, node)
    few = contents.few
    if not len(few['images'] if isinstance(few, dict) else few):
        raise Unreadable
    if isinstance(contents.few, BaseDataset):
        return contents.few
    suffix, text = ('.json', json.dumps(contents.few)) if isinstance(contents.few, dict) else (
        '.txt', '\n'.join(contents.few))
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, f'few{suffix}')
        with open(path, 'w', encoding='utf-8') as file:
            file.write(text)
        few = {k: v for k, v in node.items() if k != 'indices'}
        return DATASETS.build(without_pipeline(few, ann_file=path))


def _name_steps(place: str, node: Any, data: Any, dropped: 'Counter[str]') -> None:
    """The pipelines of wrappers (``MultiImageMixDataset``) say which step fails, too."""
    if isinstance(node, (list, tuple)):
        for i, (n, d) in enumerate(zip(node, data, strict=False)):
            _name_steps(f'{place}.{i}', n, d, dropped)
        return
    keys = wrapped(node)
    if keys and isinstance(getattr(data, 'pipeline', None), list):
        data.pipeline = [Step(f'{place}.pipeline.{i}', step, dropped)
                         for i, step in enumerate(data.pipeline)]
    for key in keys:
        if getattr(data, key, None) is not None:
            _name_steps(f'{place}.{key}', node[key], getattr(data, key), dropped)

