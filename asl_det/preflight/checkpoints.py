"""Checkpoints: what kind of file, whose weights, how much of the network they are."""

from typing import Any, Dict, Iterator, List, NamedTuple, Optional

from mmengine.model import BaseModule
from mmengine.runner import CheckpointLoader
from torch import Tensor

from asl_det.compat.package_weights import load_from_package
from asl_det.compat.weights import COUNTER, require_checkpoint, weights_of
from asl_det.config.walk import is_pretrained
from asl_det.errors import UserError
from asl_det.files.text import composed
from asl_det.multilabel.datasets.dataset import shorten
from asl_det.preflight.classes import class_names
from asl_det.preflight.finding import Finding
from asl_det.preflight.model import build_model, build_part
from asl_det.preflight.parts import parts
from asl_det.preflight.run import Run
from asl_det.registry import MODELS
from asl_det.training.hooks.load_weights import classes_of, in_another_order, take_weights


class Named(NamedTuple):
    """A checkpoint that a run reads: where it is named, its path, and what for."""
    where: str
    path: str
    purpose: str  # 'test', 'resume', 'load_from', 'part'
    part: Optional[Dict[str, Any]] = None  # whose init_cfg names it
    init: Optional[Dict[str, Any]] = None


def named_checkpoints(run: Run) -> List[Named]:
    found = []
    if run.checkpoint:
        purpose = 'resume' if run.purpose == 'resume' else 'test'
        found.append(Named(f'checkpoint {run.checkpoint}', run.checkpoint, purpose))
    if run.purpose in ('train', 'check') and run.cfg.get('load_from'):
        found.append(Named(f'load_from {run.cfg.load_from}', run.cfg.load_from, 'load_from'))
    if run.purpose in ('train', 'check'):  # others load the whole network afterwards
        for part in parts(run):
            if part.registry is not MODELS or part.kind is None:
                continue
            place = f'{run.config}: {part.place}'
            for key, value in part.node.items():
                values = value if key == 'init_cfg' and isinstance(value, list) else [value]
                for init in values:
                    path = init.get('checkpoint') if isinstance(init, dict) else init
                    if key != 'weights' and is_pretrained(key, init) and isinstance(path, str):
                        found.append(Named(f'{place}.{key}: checkpoint {path}', path, 'part',
                                           part.node, init if isinstance(init, dict) else None))
    return found


def check_checkpoints(run: Run) -> Iterator[Finding]:
    """Every checkpoint is there, holds weights, and they are numbers."""
    for named in named_checkpoints(run):
        try:
            content = read(run, named.path)
            if content is None:
                continue
            weights = dict(weights_of(content, named.path))
        except UserError as error:
            yield Finding('checkpoint', named.where, _without(str(error), named))
            continue
        except (OSError, RuntimeError, ImportError) as error:
            yield Finding('checkpoint', named.where, f'can not be read: {error}')
            continue
        yield from _fits(run, named, content, weights)


def read(run: Run, path: str) -> Any:
    """The content of a local checkpoint, read once; None for what a download would bring."""
    require_checkpoint(path)
    if path.startswith('package://'):
        load = load_from_package
    elif '://' in path:
        return None
    else:
        load = CheckpointLoader.load_checkpoint
    if path not in run.memo:
        run.memo[path] = load(path, map_location='cpu')
    return run.memo[path]


def _fits(run: Run, named: Named, content: Any, weights: Dict[str, Tensor]) -> Iterator[Finding]:
    if named.purpose == 'part':
        if named.init is not None:
            yield from _fits_part(named, weights)
        return
    if named.purpose in ('test', 'resume'):
        yield from _fits_classes(run, named, content)
    model = build_model(run)
    if model is None:
        return  # said by the check of the model, or where it is built
    try:
        copied = dict(content) if isinstance(content, dict) else content
        take_weights(model, copied, named.path, named.purpose, run.partial,
                     quiet=run.purpose != 'check')
    except UserError as error:
        yield Finding('checkpoint does not fit', named.where, _without(str(error), named))


def _fits_part(named: Named, weights: Dict[str, Tensor]) -> Iterator[Finding]:
    """``init_cfg`` keeps initial values where nothing fits; mmengine says so only in the log."""
    module = build_part(named.part)
    if not isinstance(module, BaseModule):
        return
    init_weights = type(module).init_weights
    if init_weights is not BaseModule.init_weights and 'init_cfg' in init_weights.__code__.co_names:
        return  # it converts the names by itself, as Swin does
    prefix = named.init.get('prefix') or ''
    prefix = prefix if not prefix or prefix.endswith('.') else f'{prefix}.'
    given = {k[len(prefix):]: v.shape for k, v in weights.items() if k.startswith(prefix)}
    wanted = {k: v.shape for k, v in module.state_dict().items() if not k.endswith(COUNTER)}
    fits = [k for k in wanted if given.get(k) == wanted[k]]
    others = [k for k in wanted if k in given and given[k] != wanted[k]]
    missing = [k for k in wanted if k not in given]
    share = f'{len(fits)} of {len(wanted)} weights of {type(module).__name__} are in it'
    if len(fits) == len(wanted):
        return
    if others:
        first = others[0]
        yield Finding('checkpoint does not fit', named.where, f'{share}; {len(others)} have '
                      f'another shape, such as {first} {tuple(given[first])} instead of '
                      f'{tuple(wanted[first])}: give weights of this network, or init_cfg=None')
    elif len(fits) * 2 < len(wanted):
        yield Finding('checkpoint does not fit', named.where, f'{share}; it has '
                      f'{shorten(sorted(given), 3) or "none of them"}, and {shorten(missing, 3)} '
                      'are expected: give weights of this network, or init_cfg=None')
    else:
        yield Finding('checkpoint is a part', named.where, f'{share}; keep their initial values: '
                      f'{shorten(missing, 5)}', error=False)


def _fits_classes(run: Run, named: Named, content: Any) -> Iterator[Finding]:
    """What the checkpoint was trained on, as mmengine notes it, is what it is used on."""
    trained = classes_of(content.get('meta') if isinstance(content, dict) else None)
    if not trained:
        return
    for place, dataset in run.splits():
        names = class_names(run, place, dataset)
        if not names or isinstance(names, str):
            continue
        names = [composed(name) for name in names]
        if len(names) != len(trained):
            yield Finding('number of classes', named.where, f'it was trained on {len(trained)} '
                          f'classes ({shorten(trained, 6)}), but the data set of {place} has '
                          f'{len(names)} ({shorten(names, 6)}): give the data or the config that '
                          'it was trained with, or start a new training from it with load_from',
                          error=not run.partial)
        elif names != trained and set(names) == set(trained):
            yield Finding('order of classes', named.where,
                          in_another_order(trained, names, place))
        elif names != trained:
            other = [n for n in names if n not in trained]
            yield Finding('other classes', named.where, f'it was trained on other classes than '
                          f'{place} has: {shorten(other, 6)} instead of '
                          f'{shorten([n for n in trained if n not in names], 6)}', error=False)


def _without(message: str, named: Named) -> str:
    """A message without the name of the checkpoint that stands before it."""
    return message.removeprefix(f'checkpoint {named.path} ').removeprefix(f'{named.path}: ')
