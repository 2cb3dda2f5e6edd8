"""Reads the pickle in a checkpoint as data: nothing in it is imported or run.

torch's own restricted reading differs between versions (before 2.4 it takes no
allow-list, before 2.6 it runs TorchScript archives), so this one serves all of
them. The module has what ``torch.load`` asks of a ``pickle_module``.

The opcodes go through Python's own implementation; those that call, import or
set something are replaced. A function or class in the pickle is never looked
up: it stays a name, and :mod:`asl_det.compat.allow_list` carries out its calls.
What is made takes no more memory than a small multiple of the file.
"""

import argparse
import os
import pickle
import struct
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections import Counter, OrderedDict, defaultdict, deque
from types import SimpleNamespace
from typing import Any, BinaryIO, Callable, Dict, Tuple

import numpy as np
import torch

from asl_det.compat import allow_list
from asl_det.compat.allow_list import UnsafeCheckpointError, checked, describe
from asl_det.errors import UserError

# What all calls are given, for each byte of the file: a pickle may give one thing to many calls.
COPIES, SPARE = 8, 1_000_000
SIZED = (str, bytes, bytearray, list, tuple, dict, set, frozenset, deque)


class Unpickler(pickle._Unpickler):
    """Makes what is on the allow-list.

    Raises:
        UnsafeCheckpointError: if the pickle asks for more; says for what.
        pickle.UnpicklingError: if it is damaged.
    """

    dispatch = dict(pickle._Unpickler.dispatch)

    def __init__(self, file: BinaryIO, **kwargs: Any) -> None:
        super().__init__(file, **kwargs)
        place, self._size = file.tell(), file.seek(0, os.SEEK_END)
        file.seek(place)
        self._left = COPIES * self._size + SPARE
        self._storages: Dict[Any, int] = {}
        self._file_read = lambda count: file.read(self._in_file(count))

    def load(self) -> Any:
        read_storage, failed = self.persistent_load, []

        def persistent_load(saved_id: Any) -> Any:
            try:
                return read_storage(saved_id)
            except Exception as error:  # of a device, or of the caller's map_location
                failed.append(error)
                raise

        self.persistent_load = persistent_load
        try:
            return super().load()
        except UserError:
            raise
        except (ArithmeticError, AssertionError, AttributeError, LookupError, SystemError,
                TypeError, ValueError, struct.error) as error:
            if error in failed:
                raise
            raise pickle.UnpicklingError(f'{type(error).__name__}: {error}') from error

    def find_class(self, module: str, name: str) -> Any:
        module, name = NAME_MAPPING.get((module, name), (module, name))  # of Python 2
        return allow_list.find(f'{IMPORT_MAPPING.get(module, module)}.{name}')

    def _in_file(self, count: int) -> int:
        """The number of bytes, which the file must have."""
        if count > self._size:
            raise pickle.UnpicklingError(f'{count} bytes in a file of {self._size}')
        return count

    def _spend(self, args: Any) -> None:
        """Count what a call copies."""
        self._left -= sum(len(arg) for arg in checked(args, tuple) if isinstance(arg, SIZED))
        if self._left < 0:
            raise UnsafeCheckpointError('its calls copy far more than it holds')

    def load_bytearray8(self) -> None:
        count, = struct.unpack('<Q', self.read(8))
        self.append(bytearray(self.read(count)))

    def load_reduce(self) -> None:
        args = self.stack.pop()
        self._spend(args)
        self.stack[-1] = allow_list.call(self.stack[-1], args)

    def load_newobj(self) -> None:
        args = self.stack.pop()
        self._spend(args)
        self.stack[-1] = allow_list.call(self.stack[-1], args, new=True)

    def load_newobj_ex(self) -> None:
        keywords = self.stack.pop()
        if keywords:
            raise UnsafeCheckpointError(f'it calls {describe(self.stack[-2])} with keywords')
        self.load_newobj()

    def load_build(self) -> None:
        state = self.stack.pop()
        made = self.stack[-1]
        if isinstance(made, np.dtype):
            # Made anew: numpy would change it in place, under the arrays that use it already.
            whole = allow_list.whole_dtype(made, state)
            self.stack[-1] = whole
            self.memo.update({key: whole for key, v in self.memo.items() if v is made})
        elif type(made) is np.ndarray:
            self._spend(state)
            _, shape, dtype, columns_first, data = state
            made.__setstate__((1, shape, checked(dtype, np.dtype), bool(columns_first),
                               checked(data, bytes)))
        elif type(made) in (OrderedDict, argparse.Namespace, SimpleNamespace):
            allow_list.set_attributes(made, state)
        elif type(made) is allow_list.config_dict_class():
            pass  # the state of addict's is itself, that of yacs' its flags
        elif type(made) is allow_list.history_buffer_class():
            allow_list.fill_history(made, state)
        elif allow_list.declared_safe(type(made)):
            self.append(state)
            super().load_build()
        else:
            raise UnsafeCheckpointError(f'it sets the state of {describe(made)}')

    def load_binpersid(self) -> None:
        saved_id = self.stack.pop()
        if not isinstance(saved_id, tuple) or saved_id[:1] not in (('storage',), (b'storage',)):
            raise UnsafeCheckpointError(f'it refers to {saved_id!r:.60}')
        _, kind, key, place, size, *view = saved_id  # a view in files from before torch 1.6
        if not (isinstance(getattr(kind, 'dtype', None), torch.dtype)
                or kind is torch.UntypedStorage) or not isinstance(size, int) or len(view) > 1:
            raise pickle.UnpicklingError('a storage without type or size')
        if view:  # made before it is read, of the size that the pickle says
            one = torch.empty((), dtype=getattr(kind, 'dtype', torch.uint8), device='meta')
            self._storages[key] = size * one.element_size()  # dtype.itemsize: since torch 2.1
            self._in_file(sum(self._storages.values()))
        self.append(self.persistent_load(saved_id))

    dispatch[pickle.BYTEARRAY8[0]] = load_bytearray8
    dispatch[pickle.REDUCE[0]] = load_reduce
    dispatch[pickle.NEWOBJ[0]] = load_newobj
    dispatch[pickle.NEWOBJ_EX[0]] = load_newobj_ex
    dispatch[pickle.BUILD[0]] = load_build
    dispatch[pickle.BINPERSID[0]] = load_binpersid


def load(file: BinaryIO, **kwargs: Any) -> Any:
    return Unpickler(file, **kwargs).load()


def _refused(opcode: str) -> Callable[[Unpickler], None]:

    def refuse(self: Unpickler) -> None:
        raise UnsafeCheckpointError(f"it uses pickle's opcode {opcode}")

    return refuse


def _only_into(classes: Tuple[type, ...], place: int, opcode: int) -> Callable[[Unpickler], None]:
    """Let an opcode add to containers of these classes alone.

    ``place``: where on the stack the container lies; 0 for below the last mark.
    """
    add = pickle._Unpickler.dispatch[opcode]

    def checked_add(self: Unpickler) -> None:
        target = self.stack[place] if place else self.metastack[-1][-1]
        if type(target) not in classes and not (
                dict in classes and type(target) is allow_list.config_dict_class()):
            raise UnsafeCheckpointError(f'it adds items to {describe(target)}')
        add(self)

    return checked_add


for _opcode in ('INST', 'OBJ', 'EXT1', 'EXT2', 'EXT4', 'PERSID', 'NEXT_BUFFER',
                'READONLY_BUFFER'):
    Unpickler.dispatch[getattr(pickle, _opcode)[0]] = _refused(_opcode)
_DICTS = (dict, OrderedDict, defaultdict, Counter)
for _opcode, _classes, _place in (
        (pickle.APPEND, (list, deque), -2), (pickle.APPENDS, (list, deque), 0),
        (pickle.SETITEM, _DICTS, -3), (pickle.SETITEMS, _DICTS, 0), (pickle.ADDITEMS, (set,), 0)):
    Unpickler.dispatch[_opcode[0]] = _only_into(_classes, _place, _opcode[0])
