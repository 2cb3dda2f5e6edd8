"""Reading a config: from a file or a package, with what is wrong with it in one line."""

import ast
import json
import os
import re
import traceback
from typing import Optional

import mmengine
import yaml
from mmengine.config import Config
from mmengine.config.utils import MODULE2PACKAGE
from mmengine.utils import import_modules_from_strings, is_installed

import asl_det.compat.yaml_files  # noqa: F401  yaml configs are data
from asl_det.config.new_style import as_data, texts
from asl_det.errors import UserError
from asl_det.files.kind import kind_of_file
from asl_det.files.text import shown
from asl_det.registry import LEAVE

EXAMPLE = 'mmdet::retinanet/retinanet_r50_fpn_1x_coco.py'
SUFFIXES = ('.py', '.json', '.yaml', '.yml')
# Top keys of mmdet 2.x, and where mmdet 3.x has them.
MMDET_2 = {'data': 'train_dataloader, val_dataloader, test_dataloader',
           'optimizer': 'optim_wrapper.optimizer', 'optimizer_config': 'optim_wrapper',
           'lr_config': 'param_scheduler', 'runner': 'train_cfg', 'total_epochs': 'train_cfg',
           'evaluation': 'val_evaluator', 'checkpoint_config': 'default_hooks.checkpoint',
           'log_config': 'default_hooks.logger'}


def read_config(path: str) -> Config:
    """Read a config file, or one that mmdet ships, named ``mmdet::folder/name.py``.

    ``custom_imports`` is made a dict with a list that has asl_det among its
    modules; nothing is imported yet.

    Args:
        path: file or ``package::`` name.

    Raises:
        UserError: if there is no such config, it can not be read or is none
            (with file and line), or needs a package that is not installed.
    """
    cfg = as_data(_read(path))
    _check_kind(cfg, path)
    _set_custom_imports(cfg)
    return cfg


def import_modules(cfg: Config, path: str) -> None:
    """Import what ``custom_imports`` of a config name, and asl_det.

    Raises:
        UserError: in one line, for a module that is not there or takes a name
            that another one has registered.
    """
    _set_custom_imports(cfg)
    try:
        import_modules_from_strings(**cfg.custom_imports)
    except KeyError as error:
        name, registered, _ = str(error.args and error.args[0]).partition(' is already registered')
        if not registered:
            raise
        raise UserError(f'{path}: custom_imports={list(cfg.custom_imports.imports)}: a module of '
                        f'them registers a name that is taken: {error.args[0]}; give yours another '
                        f'name, or, where ours has it, set {LEAVE}={name}') from error
    except ImportError as error:
        raise UserError(f'{path}: custom_imports={list(cfg.custom_imports.imports)}: '
                        f'{_first_line(error.__cause__ or error)}; install what is missing, or '
                        'set PYTHONPATH to the folder of your module') from error


def _read(path: str) -> Config:
    try:
        if '::' in path:
            _require_package(path)
            from mmengine.hub import get_config
            return get_config(path)
        if not os.path.isfile(path):
            what = 'is a folder' if os.path.isdir(path) else 'does not exist'
            raise UserError(f'config {path} {what}: give a file, or a config that mmdet ships as '
                            f'{EXAMPLE}')
        if not path.endswith(SUFFIXES):
            kind = kind_of_file(path)
            swapped = ('; CONFIG comes before CHECKPOINT'
                       if kind in ('a checkpoint', 'a git-lfs pointer') else '')
            raise UserError(f'config {path} is {kind}: expected a file that ends in '
                            f'{", ".join(SUFFIXES)}{swapped}')
        cfg = Config.fromfile(path, import_custom_modules=False)
        if getattr(cfg, '_imported_names', None):  # mmengine keeps the text of the file alone
            object.__setattr__(cfg, '_text', texts(path))
        return cfg
    except UserError:
        raise
    except ModuleNotFoundError as error:
        if error.name == 'pkg_resources':
            raise UserError(
                f'config {path} can not be read: mmengine {mmengine.__version__} needs '
                'pkg_resources, which setuptools 81 removed: pip install "setuptools<81"'
            ) from error
        raise UserError(f'config {path} can not be read: {error}') from error
    except Exception as error:
        raise UserError(_what_is_wrong(path, error)) from error


def _require_package(path: str) -> None:
    """mmengine would run ``pip install`` for a package that is not there."""
    scope = path.split('::')[0]
    package = MODULE2PACKAGE.get(scope)
    if package is None:
        raise UserError(f'config {path}: {scope} is no package with configs that mmengine knows '
                        f'({", ".join(sorted(MODULE2PACKAGE))}): give a file, or e.g. {EXAMPLE}')
    if not is_installed(package):
        raise UserError(f'config {path} is in the package {package}, which is not installed: '
                        f'pip install {package}, or give a config of another package')


def _what_is_wrong(path: str, error: Exception) -> str:
    """File and line of an error in a config or in one of its bases."""
    file = _file_in_work(error) or path
    if os.path.abspath(file) == os.path.abspath(path):
        file = path
    broken = _syntax_error(file)
    if broken is not None:
        line = f', line {broken.lineno}' if broken.lineno else ''
        return f'{file}{line}: {broken.msg}' + (f': {broken.text.strip()}' if broken.text else '')
    if isinstance(error, json.JSONDecodeError):
        return f'{file}, line {error.lineno}: {error.msg}'
    if isinstance(error, yaml.MarkedYAMLError):
        line = f', line {error.problem_mark.line + 1}' if error.problem_mark else ''
        todo = (': a yaml config is data, of which nothing is run: write plain values, or a .py '
                'config' if 'python/' in str(error.problem) else '')
        return f'{file}{line}: {error.problem}{todo}'
    if isinstance(error, AttributeError) and not file.endswith('.py'):
        content = mmengine.load(file)
        if not isinstance(content, dict):
            return (f'{file} holds {shown(content)}: expected an object with the keys model, '
                    'train_dataloader, ...')
    # Of what mmengine made of {{ }}, in a file of its own.
    message = re.sub(r'^There are syntax errors in config file \S+: ', '', _first_line(error))
    message = f'{type(error).__name__}: {message}'
    # mmengine compiles every config under the name of its file.
    lines = [f for f in traceback.extract_tb(error.__traceback__)
             if f.name == '<module>' and os.path.abspath(f.filename) == os.path.abspath(file)]
    if lines:
        code = f' ({lines[-1].line.strip()})' if lines[-1].line else ''
        return f'{file}, line {lines[-1].lineno}: {message}{code}'
    if isinstance(error, FileNotFoundError):
        return f'config {file} can not be read: {_first_line(error)}'
    return f'{file}: {message}'


def _file_in_work(error: Exception) -> Optional[str]:
    """The config that mmengine was reading: the innermost of a chain of bases."""
    found = None
    for frame, _ in traceback.walk_tb(error.__traceback__):
        if frame.f_code.co_name in ('_file2dict', '_parse_lazy_import'):
            found = frame.f_locals.get('filename', found)
    return found


def _syntax_error(path: str) -> Optional[SyntaxError]:
    if not path.endswith('.py') or not os.path.isfile(path):
        return None
    try:
        with open(path, encoding='utf-8') as file:
            ast.parse(file.read())
    except SyntaxError as error:
        return error
    except ValueError:  # not UTF-8, or null bytes
        return None
    return None


def _first_line(error: BaseException) -> str:
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    return next((line.strip() for line in text.splitlines() if line.strip()), repr(error))


def _check_kind(cfg: Config, path: str) -> None:
    """Refuse what is a json or Python file, but no config of mmdet 3.x."""
    if 'model' in cfg:
        if not isinstance(cfg.model, dict):
            raise UserError(f'{path}: model={cfg.model!r}: expected dict(type=..., ...)')
        old = [key for key in MMDET_2 if key in cfg]
        if old and 'train_dataloader' not in cfg and 'test_dataloader' not in cfg:
            raise UserError(f'{path} is a config of mmdet 2.x: mmdet 3 has '
                            + '; '.join(f'{MMDET_2[key]} in the place of {key}' for key in old)
                            + ' (docs/en/migration of mmdet says how to change it)')
        return
    if {'images', 'annotations', 'categories'} & set(cfg) or 'data_list' in cfg:
        raise UserError(f'{path} is an annotation file, no config: give a config, and the '
                        'annotation file as dataset.ann_file in it')
    parts = [k for k in ('train_dataloader', 'optim_wrapper', 'train_cfg') if k in cfg]
    if not parts:
        raise UserError(f'{path} is no config: expected model, train_dataloader, optim_wrapper, '
                        f'..., got {", ".join(list(cfg)[:5]) or "nothing"}')


def _set_custom_imports(cfg: Config) -> None:
    """Make ``custom_imports``, a dict, a list or a string, a dict with a list, and add asl_det."""
    custom = cfg.get('custom_imports') or {}
    if not isinstance(custom, dict):
        custom = dict(imports=custom)
    imports = custom.get('imports') or []
    imports = [imports] if isinstance(imports, str) else imports
    if not isinstance(imports, (list, tuple)) or not all(isinstance(i, str) for i in imports):
        raise UserError(f'custom_imports={imports!r}: expected a list of names of modules')
    imports = list(imports)
    # Set here, so that the text of a mmdet:: config needs no change to find our loss.
    if 'asl_det' not in imports:
        imports.append('asl_det')
    cfg.custom_imports = dict(custom, imports=imports)
