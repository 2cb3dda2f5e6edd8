"""MMDetection's registries, the one place where asl_det is coupled to mmdet."""

import copy
import os
from contextlib import suppress
from typing import Any, Callable, Dict, Optional, Set

from mmdet import registry as mmdet_registries
from mmdet.registry import (
    DATASETS,
    HOOKS,
    LOOPS,
    METRICS,
    MODELS,
    OPTIM_WRAPPERS,
    PARAM_SCHEDULERS,
    TASK_UTILS,
    TRANSFORMS,
    VISUALIZERS,
)
from mmengine.registry import WEIGHT_INITIALIZERS, Registry

__all__ = ['DATASETS', 'HOOKS', 'LOOPS', 'METRICS', 'MODELS', 'OPTIM_WRAPPERS',
           'PARAM_SCHEDULERS', 'TRANSFORMS', 'VISUALIZERS', 'is_type', 'register', 'type_name',
           'without_pipeline']


# Names, separated by commas, that are left to another package, or taken from it.
LEAVE, REPLACE = 'ASL_DET_LEAVE', 'ASL_DET_REPLACE'


def register(registry: Any) -> Callable[[type], type]:
    """Register a class of asl_det by its name: a decorator.

    Of names that another package has registered too, people choose with the
    environment variables ``ASL_DET_LEAVE`` and ``ASL_DET_REPLACE``.

    Raises:
        ImportError: in one line, for a name that another package holds.
    """

    def decorate(cls: type) -> type:
        name = cls.__name__
        if name in _names(LEAVE):
            return cls
        holder = registry.module_dict.get(name)
        if holder is not None and name not in _names(REPLACE):
            raise ImportError(
                f'asl_det can not register {name}, a name that {holder.__module__} has '
                f'registered for a {registry.name} of its own: set {LEAVE}={name} to leave it the '
                f'name, where ours is type={f"{cls.__module__}.{name}"!r}, or {REPLACE}={name} to '
                'give it to ours')
        registry.register_module(module=cls, force=True)
        return cls

    return decorate


def _names(variable: str) -> Set[str]:
    return set(filter(None, os.environ.get(variable, '').split(',')))


def type_name(node: Any) -> str:
    """The bare name of a type, however a config writes it.

    Args:
        node: a dict with a ``type``, or a type itself: ``'CocoMetric'``,
            ``'mmdet.CocoMetric'``, ``'mmdet.evaluation.metrics.CocoMetric'``,
            or the class (function), as new-style configs import it.

    Returns:
        ``'CocoMetric'``; '' for what has no type.
    """
    kind = node.get('type') if isinstance(node, dict) else node
    if kind is None:
        return ''
    name = getattr(kind, '__name__', None)
    # An import that mmengine puts off has any attribute, and its name as text.
    return (name if isinstance(name, str) else str(kind)).split('.')[-1]


def class_of(registry: Registry, kind: Any) -> Any:
    """The class of a ``type``, as text or as itself; None for a name that is not registered."""
    return registry.get(kind) if isinstance(kind, str) else kind


def is_type(node: Any, *names: str) -> bool:
    """Whether a part of a config is of one of these types, by their bare names."""
    return type_name(node) in names


def without_pipeline(dataset: Dict[str, Any], **changes: Any) -> Dict[str, Any]:
    """A config of a data set that is read when it is built, and leaves its images alone.

    Only what the config gives is changed: a class of users need not take
    every option of mmengine's ``BaseDataset``.

    Args:
        dataset: its config.
        changes: other values.
    """
    config = {k: v for k, v in dataset.items() if k != 'lazy_init'}
    return copy.deepcopy({**config, **{k: [] for k in config if k == 'pipeline'}, **changes})


def lookup(registry: Registry, node: Dict[str, Any]) -> Optional[Callable]:
    """The class that a dict names, in its registry or in another one of mmdet's."""
    kind = node['type']
    if not isinstance(kind, str):
        return kind
    for other in (registry, *(r for r in REGISTRIES if r is not registry)):
        with suppress(ImportError, KeyError, AttributeError), \
                other.switch_scope_and_registry(node.get('_scope_')) as scoped:
            found = scoped.get(kind)
            if found is not None:
                return found
    return None


def _registry(name: str) -> Registry:
    return getattr(mmdet_registries, name)


REGISTRIES = (MODELS, TASK_UTILS, TRANSFORMS, WEIGHT_INITIALIZERS, _registry('EVALUATOR'))
