"""Values that fit their arguments, but not the run: sizes, lengths, losses, what is saved."""

import re
import traceback
from dataclasses import replace
from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple

import torch
from torch import nn

from asl_det.config.signatures import arguments, mentions
from asl_det.detection.places import is_sigmoid_place, is_softmax_head
from asl_det.errors import UserError, check_seed
from asl_det.preflight.finding import Finding
from asl_det.preflight.keys import kind_of, missing_package
from asl_det.preflight.parts import Part, parts
from asl_det.preflight.run import Run
from asl_det.registry import MODELS, type_name

COCO = re.compile(r'(bbox|segm)_mAP(_50|_75|_s|_m|_l)?|AR@\d+|AR_[sml]@\d+|\w+_precision')
VOC = re.compile(r'mAP|AP\d\d')
MULTILABEL = re.compile(r'(mAP(_weighted|_pooled)?|classes_without_\w+|(top\d+_)?'
                        r'(CP|CR|CF1|OP|OR|OF1|mean_class_F1))(_raw|_ema)?')
# What a metric reports, by its name.
REPORTED = {'CocoMetric': COCO, 'VOCMetric': VOC, 'MultiLabelMetric': MULTILABEL}


def check_sizes(run: Run) -> Iterator[Finding]:
    """Batch sizes, numbers of workers and lengths that make no step."""
    for place, loader in run.loaders():
        where = f'{run.config}: {place}'
        if 'batch_sampler' not in loader or 'batch_size' in loader:
            yield from _whole(f'{where}.batch_size', loader.get('batch_size', 1), 1)
        yield from _whole(f'{where}.num_workers', loader.get('num_workers', 0), 0)
        if loader.get('persistent_workers') and not loader.get('num_workers'):
            yield Finding('no workers', f'{where}.persistent_workers', 'True needs num_workers of '
                          'at least 1: set it to False, or start workers')
        if 'num_batch_per_epoch' in loader:
            yield from _whole(f'{where}.num_batch_per_epoch', loader['num_batch_per_epoch'], 1)
        yield from _few_images(run, place, loader)
    loop = run.cfg.get('train_cfg') or {}
    if run.purpose != 'test':
        for key, least in (('max_epochs', 1), ('max_iters', 1), ('val_interval', 1),
                           ('val_begin', 0)):
            length = loop.get(key)
            if isinstance(length, float) and length.is_integer():  # 1e5
                length = int(length)
            if key in loop:
                yield from _whole(f'{run.config}: train_cfg.{key}', length, least)


def check_seeds(run: Run) -> Iterator[Finding]:
    """The seed of a config is one that every generator takes."""
    randomness = run.cfg.get('randomness')
    if randomness is not None and not isinstance(randomness, dict):
        yield Finding('wrong kind of value', f'{run.config}: randomness',
                      f'{randomness!r} is {kind_of(randomness)}: expected dict(seed=0)')
    elif randomness and randomness.get('seed') is not None:
        try:
            check_seed(randomness['seed'])
        except UserError as error:
            yield Finding('out of range', f'{run.config}: randomness.seed', str(error))


def _whole(where: str, value: Any, least: int) -> Iterator[Finding]:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        yield Finding('out of range', where, f'{value!r} ({kind_of(value)}): expected a whole '
                      f'number of at least {least}')


def _few_images(run: Run, place: str, loader: Dict[str, Any]) -> Iterator[Finding]:
    """A data set smaller than a batch of which the last, incomplete one is dropped."""
    size = loader.get('batch_size')
    sampler = (loader.get('sampler') or {}).get('type', '')
    endless = 'Infinite' in str(sampler)
    if not loader.get('drop_last') or endless or not isinstance(size, int) \
            or 'dataset' not in loader:
        return
    data = run.load(f'{place}.dataset', loader['dataset'])
    images = size if data is None else len(data)
    if images < size:
        yield Finding('fewer images than a batch', f'{run.config}: {place}',
                      f'{images} images make no batch of {size}, and drop_last=True drops the '
                      f'rest: set batch_size to at most {images}, or drop_last=False')


def check_losses(run: Run) -> Iterator[Finding]:
    """Losses that read another activation than their head was built for."""
    found = parts(run)
    by_place = {part.place: part for part in found}
    for part in found:
        owner_place, _, key = part.place.rpartition('.')
        owner = by_place.get(owner_place)
        if part.registry is not MODELS or owner is None or part.kind is None \
                or 'loss' not in key or 'use_sigmoid' not in arguments(part.kind)[0]:
            continue
        yield from _activation(run, part, owner, key)


def _activation(run: Run, part: Part, owner: Part, key: str) -> Iterator[Finding]:
    where = f'{run.config}: {part.place}'
    default = arguments(part.kind)[0]['use_sigmoid'].default
    sigmoid = part.node.get('use_sigmoid', default)
    if not isinstance(sigmoid, bool):
        if 'use_sigmoid' in part.node and not isinstance(sigmoid, str):  # text is said elsewhere
            yield Finding('wrong kind of value', f'{where}.use_sigmoid',
                          f'{sigmoid!r}: expected True or False')
        return
    reads = key == 'loss_cls' and mentions(owner.kind, r"\.get\('use_sigmoid'")
    if reads and 'use_sigmoid' not in part.node and sigmoid:
        yield Finding('use_sigmoid is missing', where, f'{owner.name} reads use_sigmoid from the '
                      'config and takes a missing one for False: softmax over one channel more; '
                      f'add use_sigmoid=True to {part.name}')
    if sigmoid:
        answers = getattr(part.kind, 'custom_activation', False)  # as the head asks
        if key == 'loss_cls' and not answers and is_softmax_head(owner.kind):
            yield Finding('sigmoid loss in a softmax place', where, f'{owner.name} predicts with '
                          f'softmax and a background channel, and {part.name} has '
                          'use_sigmoid=True: give RoIAsymmetricLoss, or a softmax loss '
                          '(use_sigmoid=False, AsymmetricLossSingleLabel)')
        return
    if is_sigmoid_place(owner.kind, key):
        yield Finding('softmax loss in a sigmoid place', where, f'{part.name} has use_sigmoid='
                      f'False, but {owner.name} takes the sigmoid of every output: set '
                      'use_sigmoid=True, or use AsymmetricLoss')


def check_values(run: Run) -> Iterator[Finding]:
    """Builds what is cheap to build, and passes on what it says: losses, transforms, optimizer."""
    for part in parts(run):
        key = part.place.rpartition('.')[2]
        if part.kind is None:
            continue
        if part.registry is MODELS and 'loss' in key:
            yield from _built(run, part)
        elif part.registry.name == 'hook' and part.kind.__module__.startswith('mmengine.hooks'):
            node = {k: v for k, v in part.node.items() if k != 'priority'}
            yield from _built(run, replace(part, node=node))
        elif part.registry.name == 'optimizer':
            yield from _built(run, part, params=[nn.Parameter(torch.zeros(1, 1))])
    said, unknown = [], []
    for part in reversed(parts(run)):  # inner ones first: RandomChoice builds its own
        if part.registry.name == 'transform' and part.kind is not None and not any(
                finding.where.startswith(f'{run.config}: {part.place}.') for finding in said):
            said += _built(run, part)
            known, closed = arguments(part.kind)
            if closed and set(part.node) - set(known) - {'type', '_scope_'}:
                unknown.append(f'{run.config}: {part.place}')
    run.memo['refused'] = unknown + [finding.where for finding in said]
    yield from reversed(said)
    wrapper = run.cfg.get('optim_wrapper') or {}
    clip = wrapper.get('clip_grad')
    if run.purpose != 'test' and isinstance(clip, dict):
        norm = clip.get('max_norm', clip.get('clip_value'))
        if not isinstance(norm, (int, float)) or isinstance(norm, bool) or not norm > 0:
            yield Finding('out of range', f'{run.config}: optim_wrapper.clip_grad',
                          f'{dict(clip)}: expected max_norm or clip_value above 0, or None')


def check_visualizer(run: Run) -> Iterator[Finding]:
    """Backends of the visualizer under one name end a run when it is built."""
    node = run.cfg.get('visualizer') or {}
    backends = node.get('vis_backends') if isinstance(node, dict) else None
    seen: Dict[str, int] = {}
    for i, backend in enumerate(backends if isinstance(backends, (list, tuple)) else ()):
        if not isinstance(backend, dict):
            continue
        name = backend.get('name') or type_name(backend)
        if seen.setdefault(name, i) != i:
            yield Finding('visualizer', f'{run.config}: visualizer.vis_backends.{i}', f'has the '
                          f'name of number {seen[name]}, {name!r}: leave one out, or give it a '
                          'name of its own, name=...')


def _built(run: Run, part: Part, **more: Any) -> Iterator[Finding]:
    if missing_package(part):
        return  # said so
    known, closed = arguments(part.kind)
    if closed and set(part.node) - set(known) - {'type', '_scope_'}:
        return  # said as an unknown key
    try:
        part.registry.build(dict(part.node), default_args=more or None)
    except (ImportError, OSError):
        return
    except Exception as error:
        yield Finding('out of range', f'{run.config}: {part.place}',
                      f'{part.name} refuses its arguments: {_message(error)}')


def _message(error: Exception) -> str:
    """The last sentence of an error; mmengine puts class and file before it."""
    if isinstance(error, AssertionError) and not error.args:
        return traceback.extract_tb(error.__traceback__)[-1].line or 'AssertionError'
    text = ' '.join(str(error).split())
    return re.sub(r'^class `\w+` in \S+: ', '', text) or type(error).__name__


def check_saved(run: Run) -> Iterator[Finding]:
    """``save_best`` and the key of a validation loop name what a metric reports."""
    if run.purpose == 'test':
        return
    hook = (run.cfg.get('default_hooks') or {}).get('checkpoint') or {}
    best = hook.get('save_best') if isinstance(hook, dict) else None
    asked = [('default_hooks.checkpoint.save_best', name)
             for name in ([best] if isinstance(best, str) else best or ())]
    loop = run.cfg.get('val_cfg') or {}
    if 'key' in loop and run.cfg.get('val_dataloader'):
        asked.append(('val_cfg.key', loop['key']))
    metrics = [node for _, node in run.metrics('val')]
    if best and not (metrics and run.cfg.get('val_dataloader') and run.cfg.get('val_cfg')):
        yield Finding('nothing is validated', f'{run.config}: {asked[0][0]}', f'{best!r} needs '
                      'val_dataloader, val_cfg and val_evaluator, and nothing is validated: no '
                      'best checkpoint will be kept', error=False)
        return
    for place, name in asked:
        where, known = f'{run.config}: {place}', _known_metrics(run.cfg.val_evaluator, metrics)
        if name == 'auto' or not known or None in known:
            continue
        if not isinstance(name, str) or not any(
                name.startswith(f'{prefix}/') and names.fullmatch(name[len(prefix) + 1:])
                for prefix, names, _ in known):
            yield Finding('no such metric', where, f'no metric is called {name!r}: expected '
                          + ' or '.join(example for *_, example in known))


def _known_metrics(evaluator: Any, metrics: Sequence[Dict[str, Any]]) -> List[Any]:
    """Of each metric what it reports; MultiDatasetsEvaluator puts the data set before it."""
    known = [_reported(node) for node in metrics]
    data_sets = evaluator.get('dataset_prefixes') if isinstance(evaluator, dict) else None
    return known if not data_sets else [found and (
        f'{data_set}/{found[0]}', found[1], f'{data_set}/{found[2]}')
        for data_set, found in zip(data_sets, known, strict=False)]


def _reported(node: Dict[str, Any]) -> Optional[Tuple[str, 're.Pattern', str]]:
    """Prefix, names and an example of what a metric reports; None if that is not known."""
    kind = str(node.get('type', '')).rpartition('.')[2]
    if kind not in REPORTED:
        return None
    prefix = node.get('prefix') or {'CocoMetric': 'coco', 'VOCMetric': 'pascal_voc',
                                    'MultiLabelMetric': 'multilabel'}[kind]
    example = 'mAP'
    if kind == 'CocoMetric':
        metric = node.get('metric', 'bbox')
        metric = metric if isinstance(metric, str) else (list(metric) or ['bbox'])[0]
        example = 'AR@100' if metric == 'proposal' else f'{metric}_mAP'
    return prefix, REPORTED[kind], f'{prefix}/{example}'
