"""Options of the command line that reach every place where a config states the same value."""

import inspect
import os
from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple

from mmengine.config import Config
from mmengine.optim import AmpOptimWrapper, OptimWrapper
from mmengine.runner import Runner

from asl_det.config.everyday import OWN, set_image_size, set_own_data, set_workers
from asl_det.config.schedule import _check_learning_rate, _length, set_length, set_lr
from asl_det.config.walk import SPLITS
from asl_det.errors import UserError
from asl_det.files.nested import INTO, dicts, nodes, rebuilt, value_at
from asl_det.registry import OPTIM_WRAPPERS, class_of

# Names at the top of a config that are read after it was parsed; all others were only variables
# of the file.
READ = {
    *inspect.signature(Runner.__init__).parameters, 'runner_type', 'strategy', 'custom_imports',
    'find_unused_parameters', 'model_wrapper_cfg', 'sync_bn', 'compile',
    'activation_checkpointing', 'efficient_conv_bn_eval', 'how_to_get_data'
} - {'self', 'cfg', 'launcher'}
TTA = ('tta_model', 'tta_pipeline')  # read by a test with --tta
# Dicts of which mmengine reads single keys and passes over others.
READ_IN = {
    'auto_scale_lr': {'enable', 'base_batch_size'},
    'env_cfg': {'cudnn_benchmark', 'mp_cfg', 'dist_cfg', 'resource_limit'},
}
# Texts that stand in the place of a number.
CHOICES = ('auto', 'dynamic')


def apply_options(cfg: Config, options: Dict[str, Any]) -> None:
    """Merge dotted keys and values into a config, in place, so that none of them is ignored.

    Some are single values that a config repeats, and go to all of these places:

    ===============================  ==================================================
    ``data_root``                    folder of the data, in data sets and evaluators
    ``classes``                      names of data sets' classes, ``num_classes`` of the model
    ``workers``                      ``num_workers`` of every data loader
    ``image_size``                   sizes in pixels of all pipelines, in proportion
    ``train_json``, ``train_images``, annotations and images of data sets and evaluators, classes
    ``val_json``, ``val_images``     of the file where ``classes`` does not say; test is val
    ``max_epochs``,                  length of the training; schedulers, and hooks that
    ``train_cfg.max_epochs``,        wait for an epoch, keep their place in it
    ``train_cfg.max_iters``          proportionally
    ``lr``                           ``optim_wrapper.optimizer.lr``, the ``eta_max`` of
                                     one-cycle; ``eta_min`` proportionally
    ===============================  ==================================================

    What ``options`` says about one of these places alone comes after that.

    Raises:
        UserError: for an option that the config has no place for, or that
            nothing would read.
    """
    options = dict(options)
    own = {name: options.pop(name) for name in OWN if name in options}
    if own:
        if 'data_root' in options:
            raise UserError(f'--data-root and --{next(iter(own)).replace("_", "-")} say both where '
                            'the data is: give one of them')
        set_own_data(cfg, own, set_classes, classes='classes' not in options)
    for name, change in (('data_root', set_data_root), ('classes', set_classes), ('lr', set_lr),
                         ('workers', set_workers), ('image_size', set_image_size)):
        if name in options:
            change(cfg, options.pop(name))
    length = _length(cfg, options)
    if length is not None:
        set_length(cfg, *length)
    for key in options:
        _check_read(cfg, key)
    texts = [f'{key}={value!r} is text, and was {value_at(cfg, key)!r}'
             for key, value in options.items()
             if isinstance(value, str) and value not in CHOICES
             and isinstance(value_at(cfg, key), (bool, int, float))]
    if texts:
        raise UserError(f'--cfg-options {"; ".join(texts)}: expected a number, True or False')
    try:
        cfg.merge_from_dict(options)
    except (KeyError, TypeError) as error:  # an index or a dict that is not there
        raise UserError(f'--cfg-options {" ".join(options)}: {error}') from error
    _check_learning_rate(cfg, options)


def set_data_root(cfg: Config, root: str) -> None:
    """Move the data sets of a config, and all paths in them and in evaluators, to ``root``."""
    parts = [f'{split}_{part}' for split in SPLITS for part in ('dataloader', 'evaluator')]
    found = {node['data_root'].rstrip('/') for part in parts for _, node in dicts(cfg.get(part))
             if node.get('data_root')}
    if len(found) != 1:
        raise UserError(f'--data-root {root}: the data sets of the config have '
                        + (f'several roots ({", ".join(sorted(found))})' if found else 'no root')
                        + ': give the paths of each with --cfg-options, e.g. '
                        'train_dataloader.dataset.data_root=')
    old, new = found.pop(), os.path.join(str(root), '')

    def move(text: str) -> str:
        if text in (old, f'{old}/'):
            return new
        return new + text[len(old) + 1:] if text.startswith(f'{old}/') else text

    for part in parts:
        if cfg.get(part):
            cfg[part] = rebuilt(cfg[part], lambda key, value: move(value)
                                if isinstance(value, str) else INTO)
    if 'data_root' in cfg:
        cfg.data_root = new


def set_classes(cfg: Config, classes: Sequence[str]) -> None:
    """Name the classes of all data sets, and size the heads of the model for them.

    The number of classes that the config has stands in several places of a
    model: all that are the same number change.
    """
    names = [classes] if isinstance(classes, str) else [str(name) for name in classes]
    if len(set(names)) != len(names):
        raise UserError(f'classes={",".join(names)}: a name stands twice')
    numbers = [node['num_classes'] for _, node in dicts(_without_rpn(cfg.get('model')))
               if isinstance(node.get('num_classes'), int)
               and not isinstance(node['num_classes'], bool)]
    # Beside others, 1 is of a part that knows no classes.
    found = {n for n in numbers if n > 1} or set(numbers)
    if len(found) != 1:
        raise UserError('classes: the model of the config has '
                        + (f'several num_classes ({", ".join(map(str, sorted(found)))})' if found
                           else 'no num_classes') + ': give each with --cfg-options')
    old = found.pop()
    for _, node in dicts(_without_rpn(cfg.model)):
        if node.get('num_classes') == old and not isinstance(node['num_classes'], bool):
            node['num_classes'] = len(names)
    for split in SPLITS:
        for _, node in dicts(cfg.get(f'{split}_dataloader')):
            if 'ann_file' in node:
                node['metainfo'] = dict(classes=tuple(names))


def _without_rpn(model: Any) -> Any:
    """A model without its region proposals, whose one class is any object."""
    return {k: v for k, v in (model or {}).items() if k != 'rpn_head'}


def use_amp(cfg: Config) -> None:
    """Mixed precision, for every optimizer of a config.

    Raises:
        UserError: for a wrapper class that is neither mmengine's nor one for it.
    """
    for place, wrapper, kind in _optim_wrappers(cfg):
        if kind is OptimWrapper:
            wrapper['type'] = 'AmpOptimWrapper'
        elif kind is not None and not issubclass(kind, AmpOptimWrapper):
            raise UserError(f'--amp: {place}.type={kind.__name__} is a class of your own, which '
                            'AmpOptimWrapper would replace: derive it from AmpOptimWrapper, or '
                            'leave --amp out')
        wrapper.setdefault('loss_scale', 'dynamic')


def without_amp(cfg: Config) -> bool:
    """Replace AmpOptimWrapper by OptimWrapper; returns whether there was one.

    Raises:
        UserError: for a class derived from it, which fails where there is no GPU.
    """
    found = False
    for place, wrapper, kind in _optim_wrappers(cfg):
        if kind is AmpOptimWrapper:
            found = True
            wrapper['type'] = 'OptimWrapper'
            for name in ('loss_scale', 'dtype', 'use_fsdp'):
                wrapper.pop(name, None)
        elif kind is not None and kind.__init__ is AmpOptimWrapper.__init__:
            raise UserError(f'{place}.type={kind.__name__} is derived from AmpOptimWrapper, which '
                            'needs a GPU, and torch finds none: --cfg-options '
                            f'{place}.type=AmpOptimWrapper trains in float32 without it')
    return found


def _optim_wrappers(cfg: Config) -> Iterator[Tuple[str, Dict[str, Any], Optional[type]]]:
    """Dotted key, dict and class of the wrapper of every optimizer; None for an unknown class."""
    wrapper = cfg.get('optim_wrapper') or {}
    several = [name for name, part in wrapper.items()
               if isinstance(part, dict) and 'optimizer' in part]
    for name in several or ['']:
        part = wrapper[name] if name else wrapper
        kind = class_of(OPTIM_WRAPPERS, part.get('type', 'OptimWrapper'))
        yield f'optim_wrapper.{name}'.rstrip('.'), part, kind if isinstance(kind, type) else None


def _check_read(cfg: Config, key: str) -> None:
    """Raise UserError if nothing would read the option ``key``."""
    name, *inner = key.split('.')
    where = f'--cfg-options {key}='
    if name == 'launcher':
        raise UserError(f'{where} would be ignored: use --launcher')
    if name == 'data_preprocessor' and 'data_preprocessor' in (cfg.get('model') or {}):
        raise UserError(f'{where} would be ignored: the model has its own, use '
                        f'model.{key}=')
    if name not in (*READ, *TTA):
        places = _places(cfg, cfg[name]) if cfg.get(name) else []
        if places:
            instead = f': {name} was put into the config where it is read: change ' + ', '.join(
                f'{".".join([place, *inner])}=' for place in places[:4])
        elif name in cfg:
            instead = f': {name} was a variable of the file: change the key that was made from it'
        else:
            instead = ': the config has no such key, and nothing reads it'
        raise UserError(f'{where} would be ignored{instead}')
    keys = key.split('.')
    for i, index in enumerate(keys[1:], 1):
        place, there = '.'.join(keys[:i]), value_at(cfg, '.'.join(keys[:i]))
        if index.isdigit() and not isinstance(there, (list, tuple)) and not (
                isinstance(there, dict) and index in there):
            raise UserError(f'{where}: {index} is a place in a list, and the config has '
                            + (f'no list {place}' if there is None else f'{place}={there!r}'))
    if name in READ_IN and inner and inner[0] not in READ_IN[name]:
        raise UserError(f'{where} would be ignored: {name} has '
                        f'{", ".join(sorted(READ_IN[name]))}')


def _places(cfg: Config, value: Any) -> List[str]:
    """The keys that are read and hold ``value``; numbers are too common to tell."""
    if isinstance(value, dict):
        value = {key: inner for key, inner in value.items() if key != '_delete_'}
    if not isinstance(value, (str, dict, list, tuple)):
        return []
    return sorted(where for name in READ & set(cfg) for where, node in nodes(
        cfg[name], name, lambda node: node != value) if node == value)
