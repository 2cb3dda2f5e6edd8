"""Safe loading of mmengine's checkpoints.

mmengine 0.10.7 leaves ``weights_only`` to torch: refused since torch 2.6
(mmengine's own checkpoints hold log buffers and numpy scalars), and plain
unpickling before that. onedl-mmengine 0.10.12 falls back to unpickling.
Weights from a URL are unpickled by both. Here every file, from wherever it
comes, is read through the allow-list of :mod:`asl_det.compat.allow_list`.
"""

import hashlib
import io
import os
import pickle
import re
import tarfile
import zipfile
from difflib import get_close_matches
from http.client import HTTPException
from tempfile import TemporaryDirectory
from typing import Any, BinaryIO, Optional, Sequence
from urllib.parse import urlparse

import torch
from torch import serialization

from asl_det.compat import unpickler
from asl_det.compat.allow_list import UnsafeCheckpointError
from asl_det.errors import DownloadError, MissingError, UserError
from asl_det.files.kind import kind_of_bytes
from asl_det.files.whole import sha256_of

# The hash that torch's and OpenMMLab's files carry in their names, "-f37072fd.pth"; not a date.
HASH = re.compile(r'-(?!(?:19|20)\d\d(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])(?:\d{4}|\d{6})?\.)'
                  r'([a-f0-9]{8,})\.')
# What torch says, as RuntimeError, of a file that is cut or overwritten.
DAMAGE = re.compile('PytorchStreamReader|unexpected EOF|corrupt|Invalid protocol version|'
                    'resize storage|out of bounds for storage|file in archive')

UNPACKED = 100  # bytes of records for one of the file


def install() -> None:
    """Make every scheme of mmengine's ``CheckpointLoader`` load by allow-list."""
    from mmengine.runner import CheckpointLoader
    from mmengine.runner import checkpoint as mmengine_checkpoint
    for prefixes, loader in (('', load_from_local),
                             ('pavi://', load_from_pavi),
                             ([r'(\S+\:)?s3://', r'(\S+\:)?petrel://'], load_from_ceph),
                             (['open-mmlab://', 'openmmlab://'], load_from_openmmlab),
                             (['torchvision://', 'modelzoo://', 'mmcls://'], load_from_names)):
        CheckpointLoader.register_scheme(prefixes=prefixes, loader=loader, force=True)
    # http(s)://, torchvision:// and mmcls:// call this by name, past the registry of schemes.
    mmengine_checkpoint.load_url = load_url


def load_from_local(filename: str, map_location: Any = None) -> Any:
    """Load a checkpoint file without running code from it.

    Args:
        filename: path of a file that ``torch.save`` wrote, or of a
            ``.safetensors`` file.
        map_location: as for ``torch.load``.

    Raises:
        MissingError: if there is no such file.
        UnsafeCheckpointError: if it holds more than tensors, plain Python
            values, dates, paths, numpy arrays and scalars, config dicts,
            ``argparse.Namespace`` and mmengine's own records (log buffers,
            one-cycle schedules), or is a TorchScript archive.
        UserError: if it can not be read at all.
        RuntimeError: torch's own, if the device of its tensors is missing or
            has no memory left.
    """
    path = os.path.expanduser(filename)
    if os.path.isdir(path):
        raise UserError(f'checkpoint {path} is a folder: give a file in it')
    if not os.path.isfile(path):
        raise MissingError(f'checkpoint {path} does not exist')
    if path.endswith('.safetensors'):
        from safetensors.torch import load_file
        return load_file(path, 'cpu' if map_location is None else str(map_location))
    with open(path, 'rb') as file:
        return _read(file, path, map_location)


def load_from_ceph(filename: str, map_location: Any = None, backend: str = 'petrel') -> Any:
    """Load from ``s3://`` or ``petrel://`` as mmengine does, by allow-list."""
    from mmengine.fileio import get_file_backend
    try:
        content = get_file_backend(filename, backend_args=dict(backend=backend)).get(filename)
    except ImportError as error:
        raise UserError(f'checkpoint {filename}: {error}') from error
    return _read(io.BytesIO(content), filename, map_location)


def load_from_pavi(filename: str, map_location: Any = None) -> Any:
    """Load from ``pavi://`` as mmengine does, by allow-list."""
    try:
        from pavi import modelcloud
    except ImportError as error:
        raise UserError(f'checkpoint {filename}: the package pavi is not installed, which reads '
                        'it') from error
    model = modelcloud.get(filename[len('pavi://'):])
    with TemporaryDirectory() as folder:
        path = os.path.join(folder, 'checkpoint')
        model.download(path)
        with open(path, 'rb') as file:
            return _read(file, filename, map_location)


def load_from_openmmlab(filename: str, map_location: Any = None) -> Any:
    """Load a model of mmengine's lists, ``open-mmlab://name``, by its URL or local file."""
    from mmengine.runner import CheckpointLoader
    from mmengine.runner import checkpoint as mmengine_checkpoint
    name = filename.partition('://')[2]
    name = mmengine_checkpoint.get_deprecated_model_names().get(name, name)
    target = mmengine_checkpoint.get_external_models().get(name)
    if target is None:
        raise UserError(f'checkpoint {filename}: mmengine lists no such model; known are those of '
                        'mmengine/hub/openmmlab.json and of $MMENGINE_HOME/open_mmlab.json')
    if not target.startswith(('http://', 'https://')):
        target = os.path.join(mmengine_checkpoint._get_mmengine_home(), target)
    return CheckpointLoader.load_checkpoint(target, map_location)


def load_from_names(filename: str, map_location: Any = None) -> Any:
    """Load ``torchvision://name`` or ``mmcls://name`` as mmengine does."""
    from mmengine.runner import checkpoint as mmengine_checkpoint
    scheme, _, name = filename.partition('://')
    names, load = ((mmengine_checkpoint.get_mmcls_models, mmengine_checkpoint.load_from_mmcls)
                   if scheme == 'mmcls' else
                   (mmengine_checkpoint.get_torchvision_models,
                    mmengine_checkpoint.load_from_torchvision))
    if name not in names():
        near = get_close_matches(name, names(), 4, 0.5)
        raise UserError(f'checkpoint {filename}: there is no such model'
                        + (f'; near it: {", ".join(near)}' if near else ''))
    return load(filename, map_location)


def load_url(url: str, model_dir: Optional[str] = None, map_location: Any = None,
             progress: bool = True, **kwargs: Any) -> Any:
    """Download to torch's cache, then load by allow-list.

    A file is kept by the whole of its URL: ``epoch_12.pth`` is the name of
    many. One that torch keeps by its name is taken where the name has a hash,
    and the content is of that hash.
    """
    folder = model_dir or os.path.join(torch.hub.get_dir(), 'checkpoints')
    name = os.path.basename(urlparse(url).path) or 'checkpoint'
    digest = HASH.search(name)
    known = os.path.join(folder, name)
    if digest and os.path.isfile(known) and sha256_of(known).startswith(digest.group(1)):
        return load_from_local(known, map_location)
    path = os.path.join(folder, hashlib.sha256(url.encode()).hexdigest()[:16], name)
    if not os.path.isfile(path):
        os.makedirs(os.path.dirname(path), exist_ok=True)
        try:
            torch.hub.download_url_to_file(url, path, digest and digest.group(1), progress)
        except (OSError, ValueError, HTTPException, RuntimeError) as error:  # RuntimeError: hash
            raise DownloadError(
                f'weights {url} can not be downloaded ({error}): put the file at {path}, or train '
                'from scratch with --cfg-options model.backbone.init_cfg=None') from error
    return load_from_local(path, map_location)


def _read(file: BinaryIO, name: str, map_location: Any) -> Any:
    kind = kind_of_bytes(file.read(512))
    if kind not in ('a checkpoint', 'of an unknown format'):
        what = ': "git lfs pull" brings the file itself' if kind == 'a git-lfs pointer' else ''
        raise UserError(f'checkpoint {name} is {kind}, not what torch.save writes{what}')
    file.seek(0)
    try:
        # Indices of sparse tensors are checked, as torch does with weights_only.
        with torch.sparse.check_sparse_tensor_invariants():
            return _load(file, map_location)
    except UnsafeCheckpointError as error:
        asked = ''.join(c if c.isprintable() else '?' for c in str(error))[:300]
        raise UnsafeCheckpointError(
            f'checkpoint {name} is refused, because loading it could run code or fill the '
            f'memory: {asked}. Only data is loaded (tensors, plain values, dates, paths, numpy '
            "arrays, mmengine's own records); if you trust its source, save its state_dict alone"
        ) from None
    except (pickle.UnpicklingError, EOFError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and not DAMAGE.search(str(error)):
            raise
        raise UserError(f'checkpoint {name} can not be read: it is damaged or not made by '
                        f'torch.save ({type(error).__name__})') from error


def _load(file: BinaryIO, map_location: Any) -> Any:
    """What ``torch.load`` does, less the formats that run code.

    Not by ``torch.load`` itself: before torch 2.6 it hands TorchScript archives
    to ``torch.jit.load`` whatever its arguments.
    """
    if serialization._is_zipfile(file):
        with serialization._open_zipfile_reader(file) as archive:
            records = archive.get_all_records()
            if 'constants.pkl' in records:
                raise UnsafeCheckpointError('it is a TorchScript archive')
            _check_unpacked(file, archive, records)
            return serialization._load(_Archive(archive), map_location, unpickler,
                                       encoding='utf-8')
    if tarfile.is_tarfile(file):
        raise UnsafeCheckpointError('it is a tar archive, as torch wrote them before 0.1.10')
    file.seek(0)
    return serialization._legacy_load(file, map_location, unpickler, encoding='utf-8')


def _check_unpacked(file: BinaryIO, archive: Any, records: Sequence[str]) -> None:
    """Refuse an archive that unpacks to far more than it holds; torch does not pack at all."""
    measure = getattr(archive, 'get_record_size', None)
    if measure:
        unpacked = sum(map(measure, records))
    else:
        with zipfile.ZipFile(file) as again:
            unpacked = sum(info.file_size for info in again.infolist())
    size = file.seek(0, os.SEEK_END)
    if unpacked > UNPACKED * size:
        raise UnsafeCheckpointError(f'its {size} bytes unpack to {unpacked}')


class _Archive:
    """torch's reader of zip files, with the check of storage sizes that it lacks before 2.10."""

    def __init__(self, reader: Any) -> None:
        self._reader = reader

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reader, name)

    def get_storage_from_record(self, name: str, num_bytes: int, kind: type) -> torch.Tensor:
        measure = getattr(self._reader, 'get_record_size', None)
        size = measure(name) if measure else len(self._reader.get_record(name))
        if size != num_bytes:
            raise pickle.UnpicklingError(f'{name} has {size} bytes, not {num_bytes}')
        return self._reader.get_storage_from_record(name, num_bytes, kind)
