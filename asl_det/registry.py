"""MMDetection's registries, the one place where asl_det is coupled to mmdet."""

try:
    from mmdet.registry import (
        DATASETS,
        HOOKS,
        LOOPS,
        METRICS,
        MODELS,
        PARAM_SCHEDULERS,
        TRANSFORMS,
    )
except ModuleNotFoundError as error:
    if error.name is None or error.name.split('.')[0] not in ('mmdet', 'mmengine', 'mmcv'):
        raise
    raise ImportError(
        f'asl_det needs MMDetection, but there is no module {error.name!r}: install a complete '
        'stack with: pip install "asl-det[openmmlab]"') from None

__all__ = ['DATASETS', 'HOOKS', 'LOOPS', 'METRICS', 'MODELS', 'PARAM_SCHEDULERS', 'TRANSFORMS']
