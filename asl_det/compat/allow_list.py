"""What a checkpoint may hold: values as they are, and calls that make data.

A call in a pickle is carried out by a maker below. It checks its arguments, so
that nothing that the pickle gives is called, imported or asked for an
attribute. Types of numpy, dates and tensors with attributes are made through
public constructors, because their own unpickling trusts what it gets.
"""

import argparse
import datetime as dt
import functools
import math
import os
import pathlib
import re
from collections import Counter, OrderedDict, defaultdict, deque
from types import SimpleNamespace
from typing import Any, Callable, Dict, Tuple, Union

import numpy as np
import torch
from torch import Tensor

from asl_det.errors import UserError

try:
    import numpy._core.multiarray as np_multiarray
except ImportError:  # numpy < 2
    import numpy.core.multiarray as np_multiarray


class UnsafeCheckpointError(UserError):
    """A checkpoint asks for objects that are not on the allow-list."""


class Name:
    """What a pickle gets for a function or class: its name, and nothing to call."""

    __slots__ = ('name',)

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return self.name


def find(name: str) -> Any:
    """What stands for a global of the pickle: a value, or a :class:`Name`."""
    full = re.sub(r'^pathlib\._local\.', 'pathlib.', name)  # Python 3.13
    full = re.sub(r'^numpy\._core\.', 'numpy.core.', full)  # numpy 2
    if full in MAKERS:
        return Name(full)
    values = {**_values(), **_statistics()}
    if full in values:
        return values[full]
    for trusted, trusted_name in _declared_safe():
        if name == trusted_name:
            return trusted
    raise UnsafeCheckpointError(f'it asks for {name}')


def call(name: Any, args: Any, new: bool = False) -> Any:
    """Carry out a call; ``new``: of ``__new__`` alone, which differs for users' classes only."""
    args = checked(args, tuple)
    if isinstance(name, Name):
        return MAKERS[name.name](*args)
    if isinstance(name, type) and name in PLAIN:
        return _plain(name, args)
    if declared_safe(name):
        return name.__new__(name, *args) if new else name(*args)
    raise UnsafeCheckpointError(f'it calls {describe(name)}')


def describe(value: Any) -> str:
    """The name of a function or class, or of the class of a value."""
    if isinstance(value, Name):
        return value.name
    named = value if isinstance(getattr(value, '__qualname__', None), str) else type(value)
    return f'{named.__module__}.{named.__qualname__}'


def checked(value: Any, kind: Union[type, Tuple[type, ...]]) -> Any:
    """The value, which must be of this class: what comes from the pickle is never trusted."""
    if not isinstance(value, kind):
        raise UnsafeCheckpointError(f'it gives {describe(value)} where {kind} belongs')
    return value


def declared_safe(value: Any) -> bool:
    """Whether the user has passed it to ``torch.serialization.add_safe_globals``."""
    return any(value is trusted for trusted, _ in _declared_safe())


def _declared_safe() -> list:
    declared = getattr(torch.serialization, 'get_safe_globals', list)()  # since torch 2.4
    return [item if isinstance(item, tuple) else (item, f'{item.__module__}.{item.__qualname__}')
            for item in declared]


# Values

NUMBERS = (bool, int, float, complex)
TEXTS = (str, bytes, bytearray)
CONTAINERS = (list, tuple, dict, set, frozenset, OrderedDict, Counter)
PLAIN = (*NUMBERS, *TEXTS, *CONTAINERS, range, slice)


def _plain(kind: type, args: tuple) -> Any:
    """A plain value of what pickle itself gives: other arguments grow (``bytes(10 ** 11)``)."""
    given = {**dict.fromkeys(NUMBERS, (*NUMBERS, str, bytes)), **dict.fromkeys(TEXTS, TEXTS),
             range: (int,), slice: (int, type(None))}.get(kind, CONTAINERS)
    for arg in args:
        if type(arg) not in given:
            raise UnsafeCheckpointError(f'it calls {describe(kind)} with {describe(type(arg))}')
    return kind(*args)


@functools.lru_cache(maxsize=1)
def _values() -> Dict[str, Any]:
    """Classes whose calls are harmless, torch's constants, and methods of schedules."""
    from mmengine.optim.scheduler.param_scheduler import OneCycleParamScheduler
    values = {f'{kind.__module__}.{kind.__qualname__}': kind for kind in PLAIN}
    constants = (torch.dtype, torch.layout, torch.qscheme)
    values.update((f'torch.{name}', value) for name, value in vars(torch).items()
                  if isinstance(value, constants))
    values.update({'torch.Tensor': Tensor, 'torch._tensor.Tensor': Tensor,
                   'torch.nn.parameter.Parameter': torch.nn.Parameter,
                   'torch.storage.UntypedStorage': torch.UntypedStorage,
                   'numpy.ndarray': np.ndarray})
    for method in (OneCycleParamScheduler._annealing_cos,
                   OneCycleParamScheduler._annealing_linear):
        values[f'{method.__module__}.{method.__qualname__}'] = method
    return values


def _statistics() -> Dict[str, Any]:
    """The statistics of log buffers, which mmengine saves with each of them."""
    buffer = history_buffer_class()
    methods = (buffer.min, buffer.max, buffer.current, buffer.mean,
               *buffer._statistics_methods.values())
    return {f'{method.__module__}.{method.__qualname__}': method for method in methods}


def config_dict_class() -> type:
    from mmengine.config import ConfigDict
    return ConfigDict


def history_buffer_class() -> type:
    from mmengine.logging import HistoryBuffer
    return HistoryBuffer


# States

def set_attributes(made: Any, state: Any) -> None:
    """Give an object attributes of its own; none may stand for one of its class."""
    if isinstance(state, tuple) and len(state) == 2 and not state[1]:
        state = state[0]  # the other one would be slots
    for name, value in checked(state or {}, dict).items():
        if hasattr(type(made), checked(name, str)):
            raise UnsafeCheckpointError(f'it replaces {describe(type(made))}.{name}')
        made.__dict__[name] = value


def fill_history(made: Any, state: Any) -> None:
    """As HistoryBuffer does, without changing the statistics of the whole process."""
    for name, value in checked(state, dict).items():
        if name in ('max_length', '_log_history', '_count_history'):
            made.__dict__[name] = value
        elif name != 'statistics_methods':
            raise UnsafeCheckpointError(f'it sets {describe(type(made))}.{name}')


def whole_dtype(made: np.dtype, state: Any) -> np.dtype:
    """The type that this state describes, made by numpy's constructor and so consistent."""
    _, order, base, names, fields, size, _, _, *metadata = checked(state, tuple)
    if base is not None:
        return np.dtype((checked(base[0], np.dtype), base[1]))
    if names is not None:
        return np.dtype(dict(names=list(names), itemsize=size,
                             formats=[checked(fields[name][0], np.dtype) for name in names],
                             offsets=[fields[name][1] for name in names]))
    unit = ''
    if made.kind in 'mM':
        unit, count, *_ = metadata[0][1]
        unit = unit.decode() if isinstance(unit, bytes) else unit
        unit = '' if unit == 'generic' else f'[{count:d}{unit}]'
    return np.dtype(f'{order}{made.str[1:]}{unit}')


# Makers

def _method(owner: Any, name: Any) -> Any:
    """Stands for ``getattr``, which pickle uses to store a method."""
    full = f'{describe(owner)}.{name}'
    found = {**_values(), **_statistics()}.get(full)
    if not isinstance(owner, Name) or found is None:
        raise UnsafeCheckpointError(f'it asks for getattr({describe(owner)}, {name!r:.60})')
    return found


def _owner_of_methods(*args: Any) -> None:
    raise UnsafeCheckpointError('it makes a parameter scheduler')


def _defaultdict(factory: Any = None) -> defaultdict:
    if factory is not None and not (isinstance(factory, type) and factory in PLAIN):
        raise UnsafeCheckpointError(f'it asks for collections.defaultdict({describe(factory)})')
    return defaultdict(factory)


def _encode(text: Any, encoding: Any = None) -> bytes:
    if not isinstance(text, str) or encoding not in ('latin1', 'latin-1'):
        raise UnsafeCheckpointError(f'it asks for _codecs.encode(..., {encoding!r:.60})')
    return text.encode('latin1')


def _path(kind: type) -> Callable[..., pathlib.PurePath]:

    def make(*parts: Any) -> pathlib.PurePath:
        for part in parts:
            if not isinstance(part, str):
                raise UnsafeCheckpointError(f'it asks for {describe(kind)}({describe(part)})')
        return kind(*parts)

    return make


def _date(packed: Any) -> dt.date:
    high, low, month, day = checked(packed, bytes)
    return dt.date(high * 256 + low, month, day)


def _time(packed: Any, zone: Any = None) -> dt.time:
    hour, minute, second, *micro = checked(packed, bytes)
    return dt.time(hour & 127, minute, second, int.from_bytes(micro, 'big'), _zone(zone),
                   fold=hour >> 7)


def _datetime(packed: Any, zone: Any = None) -> dt.datetime:
    high, low, month, day, hour, minute, second, *micro = checked(packed, bytes)
    return dt.datetime(high * 256 + low, month & 127, day, hour, minute, second,
                       int.from_bytes(micro, 'big'), _zone(zone), fold=month >> 7)


def _zone(zone: Any) -> Any:
    if zone is not None and not isinstance(zone, dt.timezone):
        raise UnsafeCheckpointError(f'it asks for a time zone of class {describe(zone)}')
    return zone


def _config_dict(*content: Any) -> dict:
    made = config_dict_class()()
    if len(content) == 1 and isinstance(content[0], dict):
        dict.update(made, content[0])  # mmengine; addict's and yacs' items come later
    return made


def _dtype(code: Any, align: Any = False, copy: Any = True) -> np.dtype:
    if not isinstance(code, str) or not re.fullmatch(r'[?biufcSUVmM]\d*', code):
        raise UnsafeCheckpointError(f'it asks for numpy.dtype({code!r:.60})')
    return np.dtype(code, False, True)  # a copy, told apart from all others in the memo


def _array(kind: Any, shape: Any, code: Any) -> np.ndarray:
    if kind is not np.ndarray:
        raise UnsafeCheckpointError(f'it asks for an array of class {describe(kind)}')
    return np.empty(0, np.uint8)


def _array_of_buffer(data: Any, dtype: Any, shape: Any, order: Any = 'C') -> np.ndarray:
    flat = np.frombuffer(checked(data, (bytes, bytearray)), checked(dtype, np.dtype))
    return flat.reshape(shape, order=order)


def _scalar(dtype: Any, data: Any) -> np.generic:
    if len(checked(data, bytes)) != checked(dtype, np.dtype).itemsize:
        raise ValueError(f'{len(data)} bytes for a scalar of {dtype}')
    return np_multiarray.scalar(dtype, data)


def _deque(items: Any = (), most: Any = None) -> deque:
    return deque(_plain(list, (items,)), most)


def _within(tensor: Any) -> Any:
    """The tensor, which must not repeat its storage: what comes next would copy it at full size."""
    if isinstance(tensor, Tensor) and tensor.layout is torch.strided and not tensor.is_meta and (
            tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes()):
        raise UnsafeCheckpointError(f'it copies a tensor of {tensor.numel()} numbers that is a '
                                    'small one repeated')
    return tensor


def _sparse(layout: Any, parts: Any, *more: Any) -> Tensor:
    parts = tuple(map(_within, checked(parts, tuple)))
    return torch._utils._rebuild_sparse_tensor(checked(layout, torch.layout), parts, *more)


def _on_device(data: Any, *more: Any) -> Tensor:
    return torch._utils._rebuild_device_tensor_from_cpu_tensor(
        _within(checked(data, Tensor)), *more)


def _quantized(storage: Any, offset: Any, size: Any, *more: Any) -> Tensor:
    # torch makes it before it looks at the storage
    count = math.prod(checked(n, int) for n in checked(size, tuple))
    if count * checked(storage, _STORAGES).element_size() > storage.nbytes():
        raise ValueError(f'{count} numbers in a storage of {storage.nbytes()} bytes')
    return torch._utils._rebuild_qtensor(storage, offset, size, *more)


def _rebuild(name: str, first: Union[type, Tuple[type, ...]]) -> Callable[..., Tensor]:
    """torch's own function, which compares shapes with storages; ``first``: made of what."""

    def make(*args: Any) -> Tensor:
        checked(args and args[0], first)
        return getattr(torch._utils, name)(*args)

    return make


def _parameter_with_attributes(data: Any, requires_grad: Any, hooks: Any,
                               state: Any) -> torch.nn.Parameter:
    made = torch.nn.Parameter(checked(data, Tensor), requires_grad)
    set_attributes(made, state)
    return made


def _tensor_with_attributes(rebuild: Any, kind: Any, args: Any, state: Any) -> Tensor:
    if not isinstance(rebuild, Name) or not rebuild.name.startswith('torch._utils._rebuild_') \
            or kind not in (Tensor, torch.nn.Parameter):
        raise UnsafeCheckpointError('it asks for torch._tensor._rebuild_from_type_v2('
                                    f'{describe(rebuild)}, {describe(kind)})')
    made = call(rebuild, args).as_subclass(kind)
    set_attributes(made, state)
    return made


_STORAGES = (torch.storage.TypedStorage, torch.UntypedStorage)
MAKERS: Dict[str, Callable] = {
    'builtins.getattr': _method,
    '_codecs.encode': _encode,
    'collections.defaultdict': _defaultdict,
    'collections.deque': _deque,
    'argparse.Namespace': lambda: argparse.Namespace(),
    'types.SimpleNamespace': lambda: SimpleNamespace(),
    'datetime.date': _date,
    'datetime.time': _time,
    'datetime.datetime': _datetime,
    'datetime.timedelta': dt.timedelta,
    'datetime.timezone': dt.timezone,
    'pathlib.PurePosixPath': _path(pathlib.PurePosixPath),
    'pathlib.PureWindowsPath': _path(pathlib.PureWindowsPath),
    # Those of the other system can not be made here: they become pure ones.
    'pathlib.PosixPath': _path(pathlib.PurePosixPath if os.name == 'nt' else pathlib.PosixPath),
    'pathlib.WindowsPath': _path(pathlib.WindowsPath if os.name == 'nt'
                                 else pathlib.PureWindowsPath),
    'numpy.dtype': _dtype,
    'numpy.core.multiarray._reconstruct': _array,
    'numpy.core.multiarray.scalar': _scalar,
    'numpy.core.numeric._frombuffer': _array_of_buffer,
    'torch.Size': lambda *sizes: torch.Size(_plain(tuple, sizes)),
    'torch.device': torch.device,
    'torch.serialization._get_layout': lambda name: checked(find(checked(name, str)), torch.layout),
    'torch.torch_version.TorchVersion': lambda text: type(torch.__version__)(checked(text, str)),
    'torch._utils._rebuild_parameter_with_state': _parameter_with_attributes,
    'torch._utils._rebuild_sparse_tensor': _sparse,
    'torch._utils._rebuild_device_tensor_from_cpu_tensor': _on_device,
    'torch._utils._rebuild_qtensor': _quantized,
    'torch._tensor._rebuild_from_type_v2': _tensor_with_attributes,
    'mmengine.logging.history_buffer.HistoryBuffer': lambda: history_buffer_class()(),
    'mmengine.optim.scheduler.param_scheduler.OneCycleParamScheduler': _owner_of_methods,
    **dict.fromkeys(('mmengine.config.config.ConfigDict', 'mmcv.utils.config.ConfigDict',
                     'addict.addict.Dict', 'yacs.config.CfgNode'), _config_dict),
    **{f'torch._utils.{name}': _rebuild(name, first) for name, first in (
        ('_rebuild_tensor', _STORAGES), ('_rebuild_tensor_v2', _STORAGES),
        ('_rebuild_tensor_v3', _STORAGES), ('_rebuild_parameter', Tensor),
        ('_rebuild_meta_tensor_no_storage', torch.dtype)) if hasattr(torch._utils, name)},
}
