"""Names in a config that nothing reads, types that no registry has, values of a wrong kind."""

import importlib.util
import inspect
import re
from difflib import get_close_matches
from typing import Any, Dict, Iterable, Iterator, Optional, Tuple

from mmengine.config.utils import MODULE2PACKAGE
from mmengine.optim import DefaultOptimWrapperConstructor
from torch.utils.data import DataLoader

from asl_det.config.options import READ, READ_IN
from asl_det.config.signatures import arguments, mentions, misfit
from asl_det.preflight.finding import Finding
from asl_det.preflight.parts import Part, parts
from asl_det.preflight.run import Run
from asl_det.registry import REGISTRIES

ALWAYS = {'type', '_scope_', '_delete_'}
# Keys that whoever builds a part takes out of its dict before.
TAKEN = {'hook': {'priority'}, 'parameter scheduler': {'convert_to_iter_based'},
         'loop': {'by_epoch'}, 'weight initializer': {'override'},
         'optim_wrapper': {'optimizer', 'constructor', 'paramwise_cfg'}}
LAYERS = ('norm_cfg', 'conv_cfg', 'act_cfg', 'dcn')  # their builders take keys out
LOADER = {'dataset', 'sampler', 'batch_sampler', 'collate_fn', 'worker_init_fn',
          'num_batch_per_epoch', *inspect.signature(DataLoader.__init__).parameters} - {'self'}
PARAMWISE = {'custom_keys', 'bias_lr_mult', 'bias_decay_mult', 'norm_decay_mult',
             'flat_decay_mult', 'dwconv_decay_mult', 'dcn_offset_lr_mult', 'bypass_duplicate'}
# The hooks that a run has by their names.
HOOKS = {'runtime_info': 'RuntimeInfoHook', 'timer': 'IterTimerHook',
         'sampler_seed': 'DistSamplerSeedHook', 'logger': 'LoggerHook',
         'param_scheduler': 'ParamSchedulerHook', 'checkpoint': 'CheckpointHook',
         'visualization': 'DetVisualizationHook'}
CONTAINERS = {'default_hooks', 'custom_hooks', 'param_scheduler', 'optim_wrapper', 'log_processor',
              'env_cfg', 'train_cfg', 'val_cfg', 'test_cfg'}
# Packages that a type needs and that no installation has by itself.
NEEDS = {'TimmBackbone': 'timm', 'Albu': 'albumentations', 'Corrupt': 'imagecorruptions',
         'RandomSamplingNegPos': 'transformers',
         'InstaBoost': 'instaboostfast', 'LVISMetric': 'lvis', 'LVISFixedAPMetric': 'lvis',
         'LVISV05Dataset': 'lvis', 'LVISV1Dataset': 'lvis', 'LVISDataset': 'lvis',
         'CityScapesMetric': 'cityscapesscripts', 'CocoPanopticMetric': 'panopticapi',
         'MOTChallengeMetric': 'trackeval', 'BertModel': 'transformers',
         'WandbVisBackend': 'wandb', 'TensorboardVisBackend': 'tensorboard',
         'MLflowVisBackend': 'mlflow', 'ClearMLVisBackend': 'clearml',
         'NeptuneVisBackend': 'neptune', 'DVCLiveVisBackend': 'dvclive', 'AimVisBackend': 'aim'}


def check_top_keys(run: Run) -> Iterator[Finding]:
    """A misspelled name at the top of a config is only another variable to mmengine."""
    if 'model' not in run.cfg:
        near = nearest('model', set(run.cfg) - READ)
        yield Finding('no model', run.config, 'there is no model'
                      + (f': is it {near}?' if near else ': expected model=dict(type=..., ...)'))
    text = run.cfg.text or ''
    for name in run.cfg:
        near = None if name in READ else nearest(name, READ, 0.8)
        # What the file uses elsewhere is a variable.
        if near and len(re.findall(rf'\b{re.escape(name)}\b', text)) <= 1:
            yield Finding('unknown key', f'{run.config}: {name}',
                          f'nothing reads it: is it {near}?')
    for name, known in READ_IN.items():
        yield from _unknown(run, name, run.cfg.get(name), known)


def check_types(run: Run) -> Iterator[Finding]:
    """What is built of a dict has a type; a hook without one is often another's misspelled name."""
    hooks = run.cfg.get('default_hooks') or {}
    for name, hook in hooks.items() if isinstance(hooks, dict) else ():
        near = None if name in HOOKS else nearest(name, {*HOOKS, *hooks} - {name})
        yield from _typed(run, f'default_hooks.{name}', hook, (
            f'is it default_hooks.{near}?' if near else f"add type='{HOOKS.get(name, '...')}'"))
    for key in CONTAINERS & set(run.cfg):
        if isinstance(run.cfg[key], (str, bool, int, float)):
            yield Finding('wrong kind of value', f'{run.config}: {key}', f'{run.cfg[key]!r} is '
                          f'{kind_of(run.cfg[key])}: expected dict(...) or a list of them')
    for place, node in _typed_places(run):
        yield from _typed(run, place, node, "add type='...'")


def _typed(run: Run, place: str, node: Any, todo: str) -> Iterator[Finding]:
    where = f'{run.config}: {place}'
    if isinstance(node, dict) and 'type' not in node:
        keys = ', '.join(map(str, list(node)[:4])) or 'nothing'
        yield Finding('no type', where, f'has {keys} and no type, so that nothing can be built '
                      f'of it: {todo}')
    elif isinstance(node, (str, bool, int, float)) or (
            node is None and 'default_hooks' not in place):  # there None leaves a hook out
        yield Finding('wrong kind of value', where, f'{node!r} is {kind_of(node)}: expected '
                      'dict(type=...)')


def _typed_places(run: Run) -> Iterator[Tuple[str, Any]]:
    """Dotted keys whose values are built, beside ``default_hooks``."""
    cfg = run.cfg
    visualizer = cfg.get('visualizer')
    lists = {'custom_hooks': cfg.get('custom_hooks'),
             'visualizer.vis_backends': visualizer.get('vis_backends')
             if isinstance(visualizer, dict) else None}
    if run.purpose != 'test':
        lists['param_scheduler'] = cfg.get('param_scheduler')
        wrapper = cfg.get('optim_wrapper')
        if isinstance(wrapper, dict) and 'optimizer' in wrapper:
            yield 'optim_wrapper.optimizer', wrapper['optimizer']
    if visualizer is not None:
        yield 'visualizer', visualizer
    for place, dataset in run.splits():
        lists[f'{place}.pipeline'] = dataset.get('pipeline')
    for place, metric in run.evaluators():
        if 'metrics' not in metric:
            yield place, metric
    for place, nodes in lists.items():
        for i, node in enumerate(nodes) if isinstance(nodes, (list, tuple)) else ():
            yield f'{place}.{i}', node


def check_parts(run: Run) -> Iterator[Finding]:
    """Types and keys of everything that is built, by the signature of its class."""
    found = parts(run)
    by_place = {part.place: part for part in found}
    for part in found:
        where = f'{run.config}: {part.place}'
        missing = missing_package(part)
        if missing:
            yield Finding('package is missing', where, f'{part.name} needs the package {missing}, '
                          f'which is not installed: pip install {missing}')
        elif part.kind is None:
            near = nearest(part.name, _names(part))
            yield Finding('unknown type', where, f'there is no {part.name!r}'
                          + (f': is it {near!r}?' if near else
                             ': import the module that registers it with custom_imports'))
        elif part.place.split('.')[-1] not in LAYERS:
            yield from _names_in_lists(run, part)
            yield from _check_arguments(run, part, by_place.get(part.place.rpartition('.')[0]))
    for place, loader in run.loaders():
        yield from _unknown(run, place, loader, LOADER)
    wrapper = run.cfg.get('optim_wrapper') or {}
    if wrapper.get('constructor', 'DefaultOptimWrapperConstructor') in (
            'DefaultOptimWrapperConstructor', DefaultOptimWrapperConstructor):
        yield from _unknown(run, 'optim_wrapper.paramwise_cfg', wrapper.get('paramwise_cfg'),
                            PARAMWISE)
        if 'type' not in wrapper:  # OptimWrapper, as mmengine builds it
            yield from _unknown(run, 'optim_wrapper', wrapper, TAKEN['optim_wrapper']
                                | {'accumulative_counts', 'clip_grad'})


def nearest(name: str, known: Iterable[str], cutoff: float = 0.7) -> Optional[str]:
    """The known name that is written almost so."""
    lower = {k.lower(): k for k in sorted(known)}
    found = get_close_matches(name.lower(), lower, 1, cutoff)
    return lower[found[0]] if found else None


def _check_arguments(run: Run, part: Part, owner: Optional[Part]) -> Iterator[Finding]:
    known, closed = arguments(part.kind)
    taken = ALWAYS | TAKEN.get(part.registry.name, set())
    for key, value in part.node.items():
        where = f'{run.config}: {part.place}.{key}'
        if key in taken:
            continue
        if key in known:
            expected = misfit(known[key], value)
            if expected:
                yield Finding('wrong kind of value', where,
                              f'{value!r} is {kind_of(value)}: expected {expected}')
            continue
        if owner is not None and mentions(owner.kind, rf"""['"]{re.escape(key)}['"]"""):
            continue  # it takes the key out, as DETR's head takes bg_cls_weight
        # What takes any key may still have one of which this is a misspelling.
        near = nearest(key, set(known) | taken - ALWAYS, 0.7 if closed else 0.85)
        if closed or near:
            yield Finding('unknown key', where, f'{part.name} has no argument {key!r}: '
                          + (f'is it {near}?' if near else f'it has {", ".join(known)}'))


def _names_in_lists(run: Run, part: Part) -> Iterator[Finding]:
    """A list of names where a list of dicts is built."""
    for key in ('vis_backends', 'pipeline', 'transforms', 'datasets'):
        value = part.node.get(key)
        for i, item in enumerate(value if isinstance(value, (list, tuple)) else ()):
            if isinstance(item, str):
                yield Finding('wrong kind of value', f'{run.config}: {part.place}.{key}.{i}',
                              f'{item!r} is text: expected dict(type={item!r}); on the command '
                              f'line {part.place}.{key}.{i}.type={item}')


def kind_of(value: Any) -> str:
    for kind, name in ((str, 'text'), (bool, 'a truth value'), ((int, float), 'a number'),
                       ((list, tuple), 'a list'), (dict, 'a dict'), (type(None), 'None')):
        if isinstance(value, kind):
            return name
    return type(value).__name__


def _unknown(run: Run, place: str, node: Any, known: set) -> Iterator[Finding]:
    for key in node if isinstance(node, dict) else ():
        if key not in known | ALWAYS:
            near = nearest(key, known)
            yield Finding('unknown key', f'{run.config}: {place}.{key}', 'nothing reads it: '
                          + (f'is it {near}?' if near else f'there are {", ".join(sorted(known))}'))


def missing_package(part: Part) -> Optional[str]:
    scope, _, name = part.name.rpartition('.')
    if scope in MODULE2PACKAGE and not importlib.util.find_spec(scope):
        return MODULE2PACKAGE[scope]
    package = NEEDS.get(name)
    return package if package and not importlib.util.find_spec(package) else None


def _names(part: Part) -> Dict[str, Any]:
    """The names that could have been meant, of the registries and their parents."""
    names: Dict[str, Any] = {}
    for registry in (part.registry, *REGISTRIES):
        while registry is not None:
            registry.import_from_location()
            names.update(registry.module_dict)
            registry = registry.parent
    return names
