"""Safe loading of mmengine's checkpoints.

mmengine 0.10.7 leaves ``weights_only`` to torch: refused since torch 2.6
(mmengine's own checkpoints hold log buffers and numpy scalars), and plain
unpickling before that. onedl-mmengine 0.10.12 falls back to unpickling.
Weights from a URL are unpickled by both. Here every file is read through an
allow-list, and one that needs anything else is refused.
"""

import os
import pickle
import re
import types
from typing import Any, Dict, Optional, Tuple
from urllib.parse import urlparse

import numpy as np
import torch

from asl_det.errors import UserError

try:
    import numpy._core.multiarray as np_multiarray
except ImportError:  # numpy < 2
    import numpy.core.multiarray as np_multiarray


class UnsafeCheckpointError(UserError):
    """A checkpoint asks for objects that are not on the allow-list."""


def install() -> None:
    """Make mmengine load local files and URLs through :func:`load_from_local`."""
    from mmengine.runner import CheckpointLoader
    from mmengine.runner import checkpoint as mmengine_checkpoint
    CheckpointLoader.register_scheme(prefixes='', loader=load_from_local, force=True)
    # torchvision:// and open-mmlab:// call this function by name, past the registry of schemes.
    mmengine_checkpoint.load_url = load_url


def load_from_local(filename: str, map_location: Any = None) -> Any:
    """Load a checkpoint file without running code from it.

    Args:
        filename: path of a file that ``torch.save`` wrote.
        map_location: as for ``torch.load``.

    Raises:
        FileNotFoundError: if there is no such file.
        UnsafeCheckpointError: if it holds more than tensors, plain Python
            values, numpy arrays and scalars and mmengine's own records (log
            buffers, one-cycle schedules).
        UserError: if it can not be read at all.
    """
    path = os.path.expanduser(filename)
    if not os.path.isfile(path):
        raise FileNotFoundError(f'checkpoint {path} does not exist')
    try:
        return _load(path, map_location)
    except (pickle.UnpicklingError, UnsafeCheckpointError) as error:
        found = re.search(r'GLOBAL (\S+)', str(error))
        reason = f'it asks for {found.group(1)}' if found else str(error).strip().splitlines()[-1]
        raise UnsafeCheckpointError(
            f'checkpoint {path} is refused, because loading it could run code: {reason}. Only '
            "tensors, plain values, numpy arrays and mmengine's own records are loaded; if you "
            'trust its source, save its state_dict alone') from None
    except (RuntimeError, EOFError) as error:
        raise UserError(f'checkpoint {path} can not be read: it is damaged or not made by '
                        f'torch.save ({type(error).__name__})') from error


def load_url(url: str, model_dir: Optional[str] = None, map_location: Any = None,
             progress: bool = True, **kwargs: Any) -> Any:
    """Download to torch's cache as ``torch.hub`` does, then load by allow-list."""
    folder = model_dir or os.path.join(torch.hub.get_dir(), 'checkpoints')
    name = os.path.basename(urlparse(url).path)
    path = os.path.join(folder, name)
    if not os.path.isfile(path):
        os.makedirs(folder, exist_ok=True)
        digest = re.search(r'-([a-f0-9]{8,})\.', name)
        try:
            torch.hub.download_url_to_file(url, path, digest and digest.group(1), progress)
        except OSError as error:  # URLError included
            raise ConnectionError(
                f'weights {url} can not be downloaded ({error}): put the file at {path}, or train '
                'from scratch with --cfg-options model.backbone.init_cfg=None') from error
    return load_from_local(path, map_location)


def _load(path: str, map_location: Any) -> Any:
    if tuple(map(int, torch.__version__.split('.')[:2])) >= (2, 6):
        allowed = [(value, name) for name, value in _allowed_globals().items()]
        with torch.serialization.safe_globals(allowed):
            return torch.load(path, map_location=map_location, weights_only=True)
    # Older torch takes no named allow-list: the same one, through an unpickler of its own.
    return torch.load(path, map_location=map_location, weights_only=False,
                      pickle_module=_restricted_pickle())


def _allowed_globals() -> Dict[str, Any]:
    allowed = {
        'builtins.getattr': _known_method,
        'numpy.ndarray': np.ndarray,
        'numpy.dtype': np.dtype,
    }
    for owner in _methods():
        allowed[f'{owner.__module__}.{owner.__qualname__}'] = owner
    for module in ('numpy._core.multiarray', 'numpy.core.multiarray'):
        allowed[f'{module}._reconstruct'] = np_multiarray._reconstruct
        allowed[f'{module}.scalar'] = np_multiarray.scalar
    for code in '?' + np.typecodes['AllInteger'] + np.typecodes['AllFloat']:
        kind = type(np.dtype(code))
        allowed[f'{kind.__module__}.{kind.__qualname__}'] = kind
    return allowed


def _methods() -> Dict[type, Tuple[str, ...]]:
    """The classes whose methods mmengine stores in a checkpoint, and those methods."""
    from mmengine.logging import HistoryBuffer
    from mmengine.optim.scheduler.param_scheduler import OneCycleParamScheduler
    return {
        HistoryBuffer: ('min', 'max', 'current', 'mean'),
        OneCycleParamScheduler: ('_annealing_cos', '_annealing_linear'),
    }


def _known_method(owner: Any, name: str) -> Any:
    """Stands for ``getattr``, which pickle uses to store a method."""
    if not isinstance(owner, type) or name not in _methods().get(owner, ()):
        raise UnsafeCheckpointError(f'GLOBAL getattr({owner!r},{name!r})')
    return getattr(owner, name)


def _restricted_pickle() -> types.SimpleNamespace:
    from torch._weights_only_unpickler import _get_allowed_globals
    allowed = {**_get_allowed_globals(), **_allowed_globals()}

    class Unpickler(pickle.Unpickler):

        def find_class(self, module: str, name: str) -> Any:
            full = f'{module}.{name}'.replace('__builtin__.', 'builtins.')
            if full not in allowed:
                raise UnsafeCheckpointError(f'GLOBAL {full} is not on the allow-list')
            return allowed[full]

    def load(file: Any, **kwargs: Any) -> Any:
        return Unpickler(file, **kwargs).load()

    return types.SimpleNamespace(Unpickler=Unpickler, load=load, __name__='restricted_pickle')
