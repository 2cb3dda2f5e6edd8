"""A few images of every loader go through their pipelines before a run starts."""

import contextlib
import copy
import io
import time
from collections import Counter
from dataclasses import dataclass, replace
from typing import Any, Dict, Iterator, List, Optional, Tuple

from mmcv.transforms import LoadImageFromFile
from mmengine.dataset import Compose
from mmengine.registry import init_default_scope

from asl_det.config.walk import open_wrappers, wrapped
from asl_det.multilabel.transforms import LoadFeatures
from asl_det.preflight.annotations import is_local
from asl_det.preflight.few import Unreadable, with_few_images
from asl_det.preflight.finding import Finding
from asl_det.preflight.images import spread
from asl_det.preflight.packed import check_packed
from asl_det.preflight.parts import TOP
from asl_det.preflight.run import Run
from asl_det.preflight.steps import StepError, build_steps, describe
from asl_det.registry import DATASETS, lookup, type_name
from asl_det.training.random_state import random_state, set_random_state

PATIENCE = 5.0  # seconds after which a loader has been tried enough
MOST = 12  # samples of a loader


@dataclass
class Source:
    """A data set of few images, and what is known of it.

    Attributes:
        place: its dotted key.
        node: its config.
        data: the data set.
        dropped: how often which step returned None.
    """
    place: str
    node: Dict[str, Any]
    data: Any
    dropped: 'Counter[str]'


def check_samples(run: Run) -> Iterator[Finding]:
    """Images of every loader go through its pipeline and those that a hook puts in its place.

    A few images of each data set are loaded, and go through the collate
    function and the network's data preprocessor. The random numbers of the
    run stay as they were.
    """
    state = random_state()
    try:
        init_default_scope(run.cfg.get('default_scope') or 'mmdet')
        with contextlib.redirect_stdout(io.StringIO()):  # pycocotools tells what it does
            findings = [f for place, loader in run.loaders()
                        if 'type' in (loader.get('dataset') or ())
                        for f in _check_loader(run, place, loader)]
    finally:
        set_random_state(state)
    yield from findings


def _check_loader(run: Run, place: str, loader: Dict[str, Any]) -> Iterator[Finding]:
    source, findings = _build(run, f'{place}.dataset', loader['dataset'])
    yield from findings
    if source is None:
        return
    findings = list(_check_source(run, place, loader, source))
    yield from findings
    if place.startswith('train') and not findings:
        for hook_place, hook in _hooks(run):
            yield from _check_hook(run, place, loader, source, hook_place, hook)


def _build(run: Run, place: str, node: Dict[str, Any]) -> Tuple[Optional[Source], List[Finding]]:
    dropped: 'Counter[str]' = Counter()
    try:
        return Source(place, node, with_few_images(run, place, node, dropped), dropped), []
    except Unreadable:
        return None, []
    except StepError as error:
        said = any(where.startswith(f'{run.config}: {error.place}')
                   for where in run.memo.get('refused', ()))
        return None, [] if said else [_step_finding(run, error)]
    except Exception as error:
        try:  # a class that wants all of its images
            data = DATASETS.build(copy.deepcopy(node))
        except Exception:
            return None, [Finding('data set', f'{run.config}: {place}',
                                  f'{type_name(node)} can not be built '
                                  f'({describe(error)})', not isinstance(error, ConnectionError))]
        return Source(place, node, data, dropped), []


def _check_source(run: Run, place: str, loader: Dict[str, Any], source: Source
                  ) -> Iterator[Finding]:
    samples, findings = _draw(run, source)
    yield from findings
    if samples and not findings:
        yield from check_packed(run, place, loader, samples)


def _draw(run: Run, source: Source) -> Tuple[List[Any], List[Finding]]:
    """Samples of a few images, spread over the parts of the data set."""
    data, samples, start = source.data, [], time.monotonic()
    if not hasattr(data, '__getitem__') or not hasattr(data, '__len__'):
        return [], []  # one that is iterated over
    parts = sum(1 for _ in open_wrappers(source.place, source.node))
    for i in spread(len(data), min(2 * parts + 1, MOST)):
        try:
            samples.append(data[i])
        except StepError as error:
            if not _said_elsewhere(source, error):
                return [], [_step_finding(run, error)]
        except Exception as error:
            return [], [_other_finding(run, source, error)]
        if time.monotonic() - start > PATIENCE:
            break
    return samples, []


def _said_elsewhere(source: Source, error: StepError) -> bool:
    """Whether the checks of image files and of features look at what a step has failed at."""
    return isinstance(error.transform, (LoadImageFromFile, LoadFeatures)) and any(
        error.place.startswith(f'{place}.') and is_local(node)
        for place, node in open_wrappers(source.place, source.node))


def _step_finding(run: Run, error: StepError) -> Finding:
    return Finding('pipeline', f'{run.config}: {error.place}', str(error),
                   not isinstance(error.error, ConnectionError))


def _other_finding(run: Run, source: Source, error: Exception) -> Finding:
    """A failure outside of all steps: of the data set itself, or since no image is left."""
    name = type_name(type(source.data))
    if source.dropped and type(error) in (Exception, RuntimeError):
        place, times = source.dropped.most_common(1)[0]
        test = getattr(source.data, 'test_mode', False)
        return Finding('no sample', f'{run.config}: {place}', f'returns None for {times} of the '
                       'images that were tried' + (
                           ': while testing no image may be left out' if test else
                           ', so that no sample was made: most images are left out there (too '
                           'small, without objects?)'), error=bool(test))
    return Finding('data set', f'{run.config}: {source.place}', f'{name} fails at a sample '
                   f'({describe(error)})', not isinstance(error, ConnectionError))


def _hooks(run: Run) -> Iterator[Tuple[str, Dict[str, Any]]]:
    hooks = run.cfg.get('custom_hooks')
    for i, hook in enumerate(hooks if isinstance(hooks, (list, tuple)) else ()):
        if isinstance(hook, dict) and 'type' in hook:
            yield f'custom_hooks.{i}', hook


def _check_hook(run: Run, place: str, loader: Dict[str, Any], source: Source, hook_place: str,
                hook: Dict[str, Any]) -> Iterator[Finding]:
    """What a hook will make of the data set, later in the training."""
    kind = lookup(TOP['custom_hooks'], hook)
    name = type_name(hook)
    if any(c.__name__ == 'YOLOXModeSwitchHook' for c in getattr(kind, '__mro__', ())):
        if not hasattr(source.data, 'update_skip_type_keys'):
            yield Finding('switch', f'{run.config}: {hook_place}', f'{name} needs a '
                          f'MultiImageMixDataset at {place}.dataset, which is a '
                          f'{type_name(type(source.data))}: remove the hook, or wrap the data set')
            return
        source.data.update_skip_type_keys(hook.get('skip_type_keys') or (
            'Mosaic', 'RandomAffine', 'MixUp'))
        yield from _later(f'after {hook_place} ({name}) has switched: ',
                          _check_source(run, place, loader, source))
    for key, pipeline in hook.items():
        if key.endswith('pipeline') and isinstance(pipeline, (list, tuple)):
            yield from _check_switch(run, place, loader, source, f'{hook_place}.{key}', pipeline)


def _check_switch(run: Run, place: str, loader: Dict[str, Any], source: Source, key: str,
                  pipeline: Any) -> Iterator[Finding]:
    """A pipeline that a hook puts in the place of the data set's."""
    try:
        steps = build_steps(key, pipeline, source.dropped)
    except StepError as error:
        yield _step_finding(run, error)
        return
    kind = type_name(type(source.data))
    if wrapped(source.node):
        mixes = isinstance(getattr(source.data, 'pipeline', None), list)
        yield Finding('switch', f'{run.config}: {key}', f'{place}.dataset is a {kind}, '
                      + ('whose pipeline can not be switched: use YOLOXModeSwitchHook, which '
                         'leaves steps out, or no wrapper' if mixes else
                         'so that the switch has no effect on the data set in it: give the hook '
                         'a data set without a wrapper'), error=mixes)
        return
    source.data.pipeline = Compose(steps)
    yield from _check_source(run, place, loader, source)


def _later(when: str, findings: Iterator[Finding]) -> Iterator[Finding]:
    for finding in findings:
        yield replace(finding, message=f'{when}{finding.message}')
