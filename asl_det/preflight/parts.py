"""The parts of a config that are built: where they stand, and which class each of them names."""

from dataclasses import dataclass
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple

from mmengine.registry import WEIGHT_INITIALIZERS, Registry, init_default_scope

from asl_det.preflight.run import SPLITS, Run
from asl_det.registry import MODELS, TASK_UTILS, TRANSFORMS, _registry, is_type, lookup, type_name

# Keys whose dicts with a type are no registered class: operators, layers of torch, options.
NOT_BUILT = ('nms', 'roi_layer', 'mp_cfg', 'dist_cfg', 'override')
OWN_PARTS = ('Albu', 'Albumentations')  # their dicts name classes of another library


@dataclass
class Part:
    """A dict of the config that becomes an object.

    Attributes:
        place: dotted key.
        node: the dict.
        registry: where its type is looked up first.
        kind: the class or function, or None if there is none of this name.
    """
    place: str
    node: Dict[str, Any]
    registry: Registry
    kind: Optional[Callable]

    @property
    def name(self) -> str:
        kind = self.node['type']
        return kind if isinstance(kind, str) else type_name(kind)


def parts(run: Run) -> List[Part]:
    """Everything that a run builds, by the registries of mmdet."""
    init_default_scope(run.cfg.get('default_scope') or 'mmdet')
    return [Part(place, node, registry, lookup(registry, node))
            for place, node, registry in _roots(run)]


# Where a part of a config is looked up: by its key at the top, and by the keys inside.
TOP = {'model': MODELS, 'visualizer': _registry('VISUALIZERS'),
       'log_processor': _registry('LOG_PROCESSORS'), 'param_scheduler':
       _registry('PARAM_SCHEDULERS'), 'custom_hooks': _registry('HOOKS'),
       'default_hooks': _registry('HOOKS'), 'optim_wrapper': _registry('OPTIM_WRAPPERS')}
INSIDE = {'dataset': _registry('DATASETS'), 'datasets': _registry('DATASETS'),
          'pipeline': TRANSFORMS, 'transforms': TRANSFORMS,
          'sampler': _registry('DATA_SAMPLERS'), 'batch_sampler': _registry('DATA_SAMPLERS'),
          'optimizer': _registry('OPTIMIZERS'), 'vis_backends': _registry('VISBACKENDS'),
          'init_cfg': WEIGHT_INITIALIZERS}
LOOPS, METRICS = _registry('LOOPS'), _registry('METRICS')


def _roots(run: Run) -> Iterator[Tuple[str, Dict[str, Any], Registry]]:
    splits = SPLITS[run.purpose]
    tops = dict(TOP)
    for split in splits:
        tops[f'{split}_dataloader'] = INSIDE['dataset']
        tops[f'{split}_evaluator'] = METRICS
        tops[f'{split}_cfg'] = LOOPS
    for key, registry in tops.items():
        if key in run.cfg and not (run.purpose == 'test' and key in (
                'param_scheduler', 'optim_wrapper')):
            yield from _walk(run.cfg[key], key, registry)


def _walk(node: Any, place: str,
          registry: Registry) -> Iterator[Tuple[str, Dict[str, Any], Registry]]:
    if isinstance(node, dict):
        if isinstance(node.get('type'), str) or callable(node.get('type')):
            yield place, node, registry
        for key, value in () if is_type(node, *OWN_PARTS) else node.items():
            if key not in NOT_BUILT and not _is_option(key, value):
                yield from _walk(value, f'{place}.{key}', INSIDE.get(key, _inner(key, registry)))
    elif isinstance(node, (list, tuple)):
        for i, value in enumerate(node):
            yield from _walk(value, f'{place}.{i}', registry)


def _is_option(key: str, value: Any) -> bool:
    """Whether a dict has a ``type`` that its owner reads, as FPG's ``dict(type='conv')``."""
    kind = value.get('type') if isinstance(value, dict) else None
    return isinstance(kind, str) and kind.islower() and not key.endswith(
        ('head', 'backbone', 'neck', 'optimizer', 'dataset')) and 'loss' not in key


def _inner(key: str, registry: Registry) -> Registry:
    """What stands in a model's train_cfg or test_cfg are helpers, not networks."""
    return TASK_UTILS if registry is MODELS and key in ('train_cfg', 'test_cfg') else registry
