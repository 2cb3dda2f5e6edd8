"""The config that travels in a checkpoint, read as data.

mmengine saves it as Python source, and its own reader executes that. A config
also names what is called (``type``, ``custom_imports``), and mmengine imports
any dotted name. Here the source is evaluated as literals, and a ``type`` has
to be a class that OpenMMLab's packages or asl_det registered.
"""

from typing import Any, Iterator

from mmengine.config import Config
from mmengine.registry import MODELS, TASK_UTILS, TRANSFORMS, WEIGHT_INITIALIZERS, Registry
from mmengine.utils import import_modules_from_strings

from asl_det.config.literals import read_literals
from asl_det.config.new_style import OPERATORS, PACKAGES, TYPES, plain_types
from asl_det.errors import UserError
from asl_det.files.nested import dicts

ADVICE = 'if you trust it, give its config file: asl-det infer CONFIG CHECKPOINT ...'
# Not registered: operators, and parts of FPG, which mmdet looks up itself.
UNREGISTERED = (*OPERATORS, 'conv', 'interpolation_conv', 'last_conv')
# What mmcv pads with looks its name up too; these are torch's and OpenCV's.
PADDING = ('zeros', 'constant', 'edge', 'symmetric', 'circular', 'border', 'reflection')
# They evaluate an argument, or load models of others by their own means.
REFUSED = ('CameraMotionCompensation', 'BertModel', 'ATSSVLFusionHead', 'RandomSamplingNegPos',
           'Detectron2Wrapper')
REFUSED_KEYS = ('teacher_config', '_delete_', '_base_')


def saved_config(checkpoint: Any, source: str) -> Config:
    """The config in a checkpoint's ``meta``: its model and test pipeline.

    Args:
        checkpoint: content of the file.
        source: its name, for errors.

    Raises:
        UserError: if there is none, or it is more than plain values, or
            names what is not registered.
    """
    meta = checkpoint.get('meta') if isinstance(checkpoint, dict) else None
    text = meta.get('cfg') if isinstance(meta, dict) else None
    if not isinstance(text, str):
        raise UserError(f'checkpoint {source} holds no config: give the config file before it, or '
                        'convert official files with asl-det convert')
    content = read_literals(text, f'the config in checkpoint {source}', ADVICE)
    for key in ('model', 'test_dataloader'):
        if not isinstance(content.get(key), dict):
            raise UserError(f'the config in checkpoint {source} has no {key}: give a config file '
                            'that has')
    _import(content.get('custom_imports'), source)
    used = plain_types(dict(model=content['model'], test_dataloader=content['test_dataloader'],
                            default_scope='mmdet'))
    for part in (used['model'], *_pipelines(used['test_dataloader'])):
        _check(part, source)
    return Config(used)


def _import(custom: Any, source: str) -> None:
    imports = custom.get('imports') if isinstance(custom, dict) else custom
    imports = [imports] if isinstance(imports, str) else imports or []
    for name in imports:
        if not isinstance(name, str) or name.split('.')[0] not in PACKAGES:
            raise UserError(f'the config in checkpoint {source} imports {str(name)[:80]!r}, which '
                            f'is not of OpenMMLab or asl_det, so it is not imported: {ADVICE}')
    import_modules_from_strings(imports, allow_failed_imports=True)


def _pipelines(node: Any) -> Iterator[Any]:
    """The pipelines of a data set, in any wrapper."""
    return (part['pipeline'] for _, part in dicts(node) if 'pipeline' in part)


def _check(node: Any, source: str) -> None:
    """Refuse a ``type`` that is not registered, and arguments that name code."""
    for _, part in dicts(node):
        for key in TYPES:
            if key in part:
                _require_registered(part[key], source)
        if part.get('padding_mode', 'zeros') not in PADDING:
            _require_registered(part['padding_mode'], source)
        scope = part.get('_scope_', 'mmdet')
        named = [key for key in REFUSED_KEYS if key in part]
        if scope not in PACKAGES or named:
            what = ', '.join(named) or f'_scope_={str(scope)[:80]!r}'
            raise UserError(f'the config in checkpoint {source} has {what}: {ADVICE}')


def _require_registered(name: Any, source: str) -> None:
    """Raise UserError unless it is a registered name, alone or with its scope."""
    if isinstance(name, str):
        scope, _, last = name.rpartition('.')
        if name in UNREGISTERED:
            return
        for registry in (MODELS, TRANSFORMS, TASK_UTILS, WEIGHT_INITIALIZERS):
            if last not in REFUSED and any(found in PACKAGES and scope in ('', found)
                                           for found in _scopes(registry, last)):
                return
    raise UserError(f'the config in checkpoint {source} asks for {str(name)[:80]!r}, which mmdet, '
                    f'mmcv, mmengine and asl_det do not register, or not for this: {ADVICE}')


def _scopes(registry: Registry, name: str) -> Iterator[str]:
    """The scopes that register a name below a registry."""
    registry.import_from_location()
    if name in registry.module_dict:
        yield registry.scope
    for child in registry.children.values():
        yield from _scopes(child, name)
