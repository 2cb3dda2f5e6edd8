"""The files that a config names and the images of its data sets, as they are now."""

import contextlib
import hashlib
import inspect
import io
import json
import os
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional, Set, Tuple

from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.registry import init_default_scope

from asl_det.compat.package_weights import file_in_package
from asl_det.config.walk import SPLITS, open_wrappers
from asl_det.errors import UserError
from asl_det.files.code import code_of
from asl_det.files.identity import as_plain, hash_file
from asl_det.files.nested import nodes
from asl_det.files.records import FEATURES
from asl_det.registry import DATASETS, lookup, without_pipeline

# Files that count by content however large a data set is.
LABELS = ('.csv', '.json', '.jsonl', '.txt', '.xml')
CONTENT = 1 << 30  # bytes of a data set, up to which its other files do too
NOT_BUILT = ''  # in the place of a hash
PLACES = ('data_root', 'data_prefix', 'ann_file')  # of a data set


def data_of(content: Dict[str, Any], seen: Dict[str, str]) -> Dict[str, str]:
    """What lies where a config says that something is, see :func:`run_identity`.

    Args:
        content: of the config.
        seen: results by path or data set, kept between calls.
    """
    found = {}
    for path in sorted(set(map(_short, _files(content)))):
        if path not in seen:
            seen[path] = hash_file(path)
        found[path] = seen[path]
    folders = set(_folders({k: v for k, v in content.items() if k == 'model' or k.endswith(
        ('_dataloader', '_evaluator'))}))
    init_default_scope(content.get('default_scope') or 'mmdet')
    for split in SPLITS:
        place = f'{split}_dataloader.dataset'
        loader = content.get(f'{split}_dataloader')
        for where, dataset in open_wrappers(place, (loader or {}).get('dataset')):
            # Neither decides which files there are; skipping would decode every image.
            dataset = {k: v for k, v in dataset.items() if k not in ('pipeline', 'broken_images')}
            key = json.dumps([os.getcwd(), dataset], sort_keys=True, default=repr)
            if key not in seen:
                files = _files_of_samples(dataset)
                seen[key] = NOT_BUILT if files is None else _hash_all(files)
            if seen[key] == NOT_BUILT:
                folders.update(_folders_of(dataset))
            else:
                found[f'files of {where}'] = seen[key]
    for path in sorted(set(map(_short, folders))):
        if path not in seen:
            seen[path] = _hash_all(list(_walk(path)), path)
        found[path] = seen[path]
    return dict(sorted(found.items()))


def in_one_spelling(node: Any, root: str = '') -> Any:
    """A copy of a config whose paths are without a ``/`` at the end, ``./`` and the like.

    Args:
        node: of a config.
        root: the ``data_root`` around it.
    """
    if isinstance(node, dict):
        root = node.get('data_root') or root
        return {key: in_one_spelling(value, '' if key == 'data_root' else root)
                for key, value in node.items()}
    if isinstance(node, (list, tuple)):
        return [in_one_spelling(value, root) for value in node]
    if isinstance(node, str) and '/' in node:
        for path in (node, os.path.join(root, node)):
            if os.path.exists(path) and _short(path) == os.path.normpath(path):
                return os.path.normpath(node)
    return node


def _short(path: str) -> str:
    """A path without what does not count in it, where that leads to the same place."""
    short = os.path.normpath(path)
    same = os.path.exists(path) and os.path.exists(short) and os.path.samefile(path, short)
    return short if same else path


def _texts(node: Any, root: str = '', skip: Callable[[str], bool] = lambda key: False
           ) -> Iterator[Tuple[str, str]]:
    """Every text of a config but for those under keys to skip, and the ``data_root`` around it."""
    if isinstance(node, dict):
        root = node.get('data_root') or root
        node = [value for key, value in node.items() if not skip(key)]
    if isinstance(node, (list, tuple)):
        for value in node:
            yield from _texts(value, root, skip)
    elif isinstance(node, str) and '\n' not in node:
        yield node, root


def _files(content: Dict[str, Any]) -> Iterator[str]:
    """The files that values of a config name, as they are or under a data_root."""
    for text, root in _texts(content):
        if text.startswith('package://'):
            with contextlib.suppress(UserError):  # whoever loads it says what is missing
                yield str(file_in_package(text))
        for path in {text, os.path.join(root, text)}:
            yield from (p for p in (path, os.path.join(path, FEATURES)) if os.path.isfile(p))


def _folders(content: Dict[str, Any]) -> Iterator[str]:
    """The folders that are read, besides those of the images: of masks, of a text model, ..."""
    for text, root in _texts(content, skip=lambda key: key in PLACES or key.startswith('out')):
        paths = {text} if '/' in text or os.sep in text else set()
        paths |= {os.path.join(root, text)} if root and text else set()
        # Cached features go by their record.
        yield from (p for p in paths if os.path.isdir(p) and not _holds_results(p)
                    and not os.path.isfile(os.path.join(p, FEATURES)))


def _folders_of(dataset: Dict[str, Any]) -> Iterator[str]:
    """The prefixes of a data set, or else its root."""
    if any(key in dataset for key in PLACES):
        root = dataset.get('data_root') or ''
        prefixes = (dataset.get('data_prefix') or {'': ''}).values()
        folders = (os.path.join(root, p) for p in prefixes if isinstance(p, str))
        yield from (f for f in folders if os.path.isdir(f) and not _holds_results(f))


def _files_of_samples(dataset: Dict[str, Any]) -> Optional[List[str]]:
    """The files that the samples of a data set name; None if it can not be built by itself."""
    kind = lookup(DATASETS, dataset) if dataset.get('type') else None
    if dataset.get('backend_args') or not (inspect.isclass(kind)
                                           and issubclass(kind, BaseDataset)):
        return None
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints
            data = DATASETS.build(without_pipeline(dataset, type=kind))
            texts: Set[str] = set()
            for i in range(len(data)):
                # Of the base class: what the others add is no file and may be large.
                texts.update(text for _, text in nodes(
                    BaseDataset.get_data_info(data, i), enter=lambda node: not _is_numbers(node))
                    if isinstance(text, str))
    except Exception:  # what a reader fails with is said where it trains
        return None
    return sorted(text for text in texts if os.path.isfile(text))


def _is_numbers(node: Any) -> bool:
    return isinstance(node, (list, tuple)) and bool(node) and isinstance(node[0], (int, float))


def _holds_results(folder: str) -> bool:
    """Whether the working directory lies in it, where runs leave files."""
    return Path(folder).resolve() in (Path.cwd(), *Path.cwd().parents)


def _walk(folder: str) -> Iterator[str]:
    """Every file below a folder, those behind links too."""
    known: Set[str] = set()
    for where, folders, names in os.walk(folder, followlinks=True):
        known.add(os.path.realpath(where))
        folders[:] = sorted(f for f in folders
                            if os.path.realpath(os.path.join(where, f)) not in known)
        yield from (os.path.join(where, name) for name in sorted(names))


def _hash_all(paths: List[str], folder: str = '') -> str:
    """A hash over names and contents; of a large set over sizes, where they are no labels."""
    sizes = [os.path.getsize(p) if os.path.exists(p) else -1 for p in paths]
    whole = sum(sizes) <= CONTENT
    total = hashlib.sha256()
    for path, size in zip(paths, sizes, strict=True):
        content = size >= 0 and (whole or path.lower().endswith(LABELS))
        name = os.path.relpath(path, folder) if folder else _short(path)
        total.update(f'{name} {hash_file(path) if content else size}\n'.encode(
            errors='surrogateescape'))
    return f'{len(paths)} files, {total.hexdigest()[:12]}'


def run_identity(cfg: Config, seen: Optional[Dict[str, str]] = None) -> Dict[str, Any]:
    """What decides about the result of a training.

    Args:
        cfg: the config with every override, the seed too.
        seen: hashes of files and folders by path; kept between calls, so
            that many runs on the same data read it once.

    Returns:
        ``config``: the resolved values, without ``work_dir``, paths in one
        spelling (``data/`` is ``./data``, and not ``/home/me/data``, since a
        project that is moved stays the same). ``data``: by
        path what lies there, a hash of the content for every file that the
        config names (annotations, class lists, weights, the record of cached
        features); by place the files that the samples of every data set name,
        wherever they lie; by path the other folders that loaders, evaluators
        and model name, and those of a data set that can not be built by
        itself. Of these a hash over all names and contents; where one has
        more than a GiB over names and sizes, and the content of csv, json,
        txt and xml files: an image that is another one of the same size is
        not seen there. Times of files do not count, copies are equal; of a
        URL only its text.
        ``code``: see :func:`code_of`. Plain values: equal after writing and
        reading json. What the machine adds (GPU, number of threads, its
        libraries) does not count.
    """
    content = cfg.to_dict()
    content.pop('work_dir', None)
    data = data_of(content, {} if seen is None else seen)
    return as_plain(dict(config=in_one_spelling(content), data=data, code=code_of(content)))
