"""The code that a result came from: this package, libraries, and modules of the user's."""

import ast
import hashlib
import importlib.metadata
import re
import subprocess
import sys
import sysconfig
from contextlib import suppress
from importlib.util import find_spec, resolve_name
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional

import cv2
import mmcv
import mmdet
import mmengine
import numpy
import PIL
import torch
import torchvision
from mmcv.utils import ext_loader

from asl_det.files.nested import nodes
from asl_det.files.whole import sha256_of
from asl_det.version import __version__

PACKAGE = Path(__file__).parents[1]
LIBRARIES = (torch, torchvision, mmengine, mmcv, mmdet, numpy, cv2, PIL)
NOT_IMPORTED = ('timm', 'scipy', 'pycocotools')  # everywhere; known by what is installed
OPENMMLAB = (mmengine, mmcv, mmdet)  # often worked on in a clone
KNOWN = ('asl_det', *(library.__name__ for library in LIBRARIES), *NOT_IMPORTED,
         *sys.stdlib_module_names)
SOURCES = ('.py', '.c', '.h', '.cpp', '.cu', '.cuh')
DOTTED = re.compile(r'[A-Za-z_]\w*(\.[A-Za-z_]\w*)+')


def code_of(content: Dict[str, Any]) -> Dict[str, Any]:
    """:func:`versions` without the commit, and the modules that a config brings with it."""
    code: Dict[str, Any] = {k: v for k, v in versions().items() if k != 'commit'}
    modules = imported_code(content)
    return dict(code, modules=modules) if modules else code


def versions(package: Path = PACKAGE) -> Dict[str, Optional[str]]:
    """The code that a result came from.

    Returns:
        ``asl_det`` (version), ``asl_det_source`` (hash of the package's
        sources), ``commit`` (where git tracks them, with ``-dirty`` if a
        tracked file differs from it; else None), and
        :func:`library_versions`.
    """
    return dict(asl_det=__version__, asl_det_source=source_hash(package),
                commit=_commit(package), **library_versions())


def _commit(package: Path) -> Optional[str]:
    def git(*args: str) -> str:
        return subprocess.run(['git', '-C', str(package), *args], capture_output=True, text=True,
                              check=True).stdout.strip()
    try:
        git('ls-files', '--error-unmatch', '__init__.py')  # not a repository around site-packages
        return git('describe', '--always', '--dirty', '--exclude=*')
    except (OSError, subprocess.CalledProcessError):
        return None


def library_versions() -> Dict[str, Optional[str]]:
    """The versions of Python and of the libraries that decide about a result, None if missing.

    Of an OpenMMLab package outside ``site-packages``, a clone, also a hash of
    its sources; of mmcv whether its operators are compiled.
    """
    found: Dict[str, Optional[str]] = {'python': '.'.join(map(str, sys.version_info[:2]))}
    for library in LIBRARIES:
        found[library.__name__] = str(library.__version__)
        folder = Path(library.__file__).parent
        if library in OPENMMLAB and not _is_installed(folder):
            found[library.__name__] += f', source {source_hash(folder)}'
    found['mmcv_operators'] = 'compiled' if ext_loader.check_ops_exist() else 'not compiled'
    return {**found, **{name: _installed_version(name) for name in NOT_IMPORTED}}


def imported_code(content: Dict[str, Any]) -> Dict[str, str]:
    """What a config brings with it, by the name of the module.

    Counted are the modules of ``custom_imports`` and those of the classes and
    functions that a config of the new style imports; in packages among them
    every source file; and what all these import, as far as ``import``
    statements say so (not what they import by a name that is computed).

    Args:
        content: of the config, which has been loaded: its modules are imported.

    Returns:
        A hash of the source; for an installed package that one of them
        imports, its version. Without what :func:`library_versions` has.
    """
    roots = _roots(content)
    found: Dict[str, str] = {}
    todo, seen = list(roots), set()
    while todo:
        name = todo.pop()
        top = name.partition('.')[0]
        spec = None if name in seen or top in KNOWN else _spec(name)
        if spec is None:
            continue
        seen.add(name)
        path = Path(spec.origin) if spec.has_location else None  # None: a package without a file
        folders = list(spec.submodule_search_locations or ())
        if name in roots and folders:
            found[name] = ' '.join(source_hash(Path(folder)) for folder in folders)
            todo += [module for folder in folders for module in _modules_in(Path(folder), name)]
        elif path is not None and path.is_file() and (name in roots or not _is_installed(path)):
            found[name] = sha256_of(path)[:12]
        if path is not None and (_is_installed(path) or not path.is_file()):  # in a zip
            found.setdefault(top, _imported_version(top))
        elif path is not None and path.suffix == '.py':
            todo += _imports(path.read_bytes(), name if folders else name.rpartition('.')[0])
    return found


def source_hash(package: Path) -> str:
    """A hash over names and contents of a package's sources; its configs are none of them."""
    total = hashlib.sha256()
    for path in sorted(p for p in package.rglob('*')
                       if p.suffix in SOURCES and '.mim' not in p.parts):
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        total.update(f'{path.relative_to(package).as_posix()} {content}\n'.encode())
    return total.hexdigest()[:12]


def _installed_version(name: str) -> Optional[str]:
    with suppress(importlib.metadata.PackageNotFoundError):
        return importlib.metadata.version(name)
    return None


def _imported_version(name: str) -> str:
    version = getattr(sys.modules.get(name), '__version__', None) or _installed_version(name)
    return str(version or 'installed')


def _is_installed(path: Path) -> bool:
    """Whether a file belongs to Python or was installed, and so goes by its version."""
    return ('site-packages' in path.parts or 'dist-packages' in path.parts
            or path.is_relative_to(sysconfig.get_path('stdlib')))


def _roots(content: Dict[str, Any]) -> List[str]:
    """The modules that a config names."""
    custom = content.get('custom_imports') or {}
    imports = custom.get('imports') or [] if isinstance(custom, dict) else custom
    names = [imports] if isinstance(imports, str) else list(imports)
    rest = {key: value for key, value in content.items() if key != 'custom_imports'}
    for text in _texts(rest):  # mmengine's text for a class: module.Class
        parts = text.split('.') if DOTTED.fullmatch(text) else []
        names += ['.'.join(parts[:n]) for n in range(len(parts) - 1, 0, -1)
                  if '.'.join(parts[:n]) in sys.modules][:1]
    return sorted({name for name in names if isinstance(name, str)
                   and name.partition('.')[0] not in KNOWN})


def _texts(node: Any) -> Iterator[str]:
    for _, value in nodes(node):
        if isinstance(value, str):
            yield value
        elif hasattr(value, '__qualname__'):
            yield f'{value.__module__}.{value.__qualname__}'


def _spec(name: str) -> Any:
    """Where a module comes from, without importing anything."""
    with suppress(Exception):  # a parent may be anything
        spec = getattr(sys.modules.get(name), '__spec__', None)
        parent = name.rpartition('.')[0]
        if spec is None and (not parent or parent in sys.modules):
            spec = find_spec(name)
        return spec
    return None


def _modules_in(folder: Path, package: str) -> Iterator[str]:
    """The names of the modules in a package, at any depth."""
    for path in folder.rglob('*.py'):
        parts = path.relative_to(folder).with_suffix('').parts
        yield '.'.join((package, *(parts[:-1] if parts[-1] == '__init__' else parts)))


def _imports(source: bytes, package: str) -> Iterator[str]:
    """Every module that a source names in an import, and the packages around it."""
    try:
        nodes = list(ast.walk(ast.parse(source)))
    except (SyntaxError, ValueError):
        return
    for node in nodes:
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            with suppress(ImportError):  # beyond the top
                base = resolve_name('.' * node.level + (node.module or ''), package or None)
                names = [base, *(f'{base}.{alias.name}' for alias in node.names)]
        for name in names:
            parts = name.split('.')
            yield from ('.'.join(parts[:n]) for n in range(1, len(parts) + 1))
