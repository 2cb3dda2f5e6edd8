"""MMDetection's registries, the one place where asl_det is coupled to mmdet."""

from typing import Any

try:
    from mmdet.registry import (
        DATASETS,
        HOOKS,
        LOOPS,
        METRICS,
        MODELS,
        OPTIM_WRAPPERS,
        PARAM_SCHEDULERS,
        TRANSFORMS,
    )
except ModuleNotFoundError as error:
    if error.name is None or error.name.split('.')[0] not in ('mmdet', 'mmengine', 'mmcv'):
        raise
    raise ImportError(
        f'asl_det needs MMDetection, but there is no module {error.name!r}: install a complete '
        'stack with: pip install "asl-det[openmmlab]"') from None

__all__ = ['DATASETS', 'HOOKS', 'LOOPS', 'METRICS', 'MODELS', 'OPTIM_WRAPPERS',
           'PARAM_SCHEDULERS', 'TRANSFORMS', 'is_type', 'type_name']


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


def is_type(node: Any, *names: str) -> bool:
    """Whether a part of a config is of one of these types, by their bare names."""
    return type_name(node) in names
