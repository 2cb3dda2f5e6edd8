"""Names of classes: those of the config against those of the annotation files."""

import difflib
from pathlib import Path
from typing import Any, Iterator, List, Optional, Sequence, Tuple

import numpy as np

from asl_det.errors import UserError
from asl_det.files.reading import read_lines
from asl_det.files.text import as_written, composed
from asl_det.multilabel.datasets.dataset import class_names, shorten
from asl_det.preflight.finding import Finding

Names = Optional[Tuple[str, ...]]


def configured_classes(place: str, metainfo: Any, default: Names, texts: bool = True
                       ) -> Tuple[List[Finding], Names]:
    """The class names that a data set is given.

    Args:
        place: dotted key of the data set.
        metainfo: its ``metainfo``.
        default: the names that its type has without any.
        texts: names are compared as they are (mmdet); else numbers are
            names too.

    Returns:
        What is wrong with them, and the names; None where they come from the
        file or can not be told.
    """
    where = f'{place}.metainfo'
    if metainfo is None:
        return [], default
    if not isinstance(metainfo, dict):
        return [Finding('metainfo', where, f'{metainfo!r}: expected dict(classes=(...))')], None
    if 'classes' not in metainfo:
        wrong = [key for key in metainfo if str(key).lower() in ('classes', 'class', 'class_names')]
        return [Finding('metainfo', where, f'has {key} and no classes, so that it is ignored: '
                        'write classes, in small letters') for key in wrong], default
    classes, where = metainfo['classes'], f'{where}.classes'
    if isinstance(classes, str):
        if Path(classes).is_file():
            try:
                return [], tuple(read_lines(classes))
            except UserError as error:
                return [Finding('classes', where, str(error))], None
        return [Finding('classes as text', where, f'{classes!r} is a text, whose letters would be '
                        f'{len(classes)} classes, and no file: write ({classes!r},), with a comma, '
                        'for one class')], None
    if isinstance(classes, dict) and not texts:
        try:
            classes = class_names(classes, where)
        except UserError as error:
            return [Finding('classes', where, str(error).removeprefix(f'{where} '))], None
    if not isinstance(classes, (list, tuple)) or not all(isinstance(c, (str, int))
                                                         for c in classes):
        return [Finding('classes', where, f'{classes!r}: expected a sequence of names')], None
    if texts and not all(isinstance(c, str) for c in classes):
        return [Finding('classes', where, f'{shorten(classes)}: expected texts, as the names of '
                        'categories are: write them in quotes, in the config file')], None
    names = tuple(map(str, classes))
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        return [Finding('class twice', where, f'{shorten(twice)} stands there twice: each name is '
                        'one class')], names
    return [], names


def check_names(place: str, path: str, given: Sequence[str], found: Sequence[str], *,
                file_order: bool) -> Iterator[Finding]:
    """Class names of a config that a file does not have, or has in another order.

    Args:
        place: dotted key of the data set.
        path: annotation file.
        given: names of the config.
        found: names of the file, in its order.
        file_order: labels follow the order of the file (mmdet's
            ``CocoDataset``), not that of the config.
    """
    where = f'{place}.metainfo.classes'
    if not file_order:  # ours; mmdet compares names as they are written
        given, found = list(map(composed, given)), list(map(composed, found))
    missing = [name for name in given if name not in found]
    alike = set(map(composed, given)) & set(map(composed, found))
    if found and len(missing) == len(given) and not alike:
        yield Finding('no class fits', where, f'none of these {len(given)} names is in {path} '
                      f'({shorten(given, 4)}); it has {shorten(found, 20)}: set '
                      f'metainfo=dict(classes=({shorten(list(map(repr, found)), 20)},))')
        return
    shift = ('. Labels follow the order of the file, so that those of later classes would shift'
             if file_order else '')
    like = {name: nearest(name, found) for name in missing}
    for name in filter(like.get, missing):
        yield Finding('class not in the file', where, f'{name!r} is not in {path}, which has '
                      f'{like[name]!r}{as_written(name, like[name])}: use the same name{shift}')
    others = [repr(name) for name in missing if not like[name]]
    if others:
        yield Finding('class not in the file', where, f'{shorten(others)} '
                      f'{"are" if len(others) > 1 else "is"} not in {path}, which has '
                      f'{shorten(found, 20)}: leave out of metainfo.classes what has no category '
                      f'there{shift}')
    if file_order:
        in_file = [name for name in found if name in given]
        in_config = [name for name in given if name in found]
        if in_file != in_config and len(set(in_file)) == len(in_file):
            first = next(i for i, (a, b) in enumerate(zip(in_file, in_config, strict=False))
                         if a != b)
            yield Finding('order of classes', where, f'mmdet gives labels in the order of the '
                          f'categories in {path}, and class {first} is {in_file[first]!r} there '
                          f'but {in_config[first]!r} here, so that names would be wrong: set '
                          f'classes=({shorten(list(map(repr, in_file)), 20)},)')


def check_counts(path: str, classes: Sequence[str], counts: np.ndarray, split: str,
                 of: str = 'object') -> Iterator[Finding]:
    """Classes without an object (or image) that counts; none at all is said elsewhere."""
    empty = [name for name, n in zip(classes, counts, strict=True) if not n]
    if empty and counts.any():
        what = (f'has no {of} to learn from' if split == 'train'
                else f'has no {of}, so that its AP is not known and not in the mean')
        yield Finding('class without objects', path, f'{shorten(empty, 20)}: '
                      f'{"each " if len(empty) > 1 else ""}{what}', error=False)


def check_same_classes(data: Sequence[Tuple[str, Tuple[str, ...]]]) -> Iterator[Finding]:
    """Data sets of one run whose classes are not those of the first, or in another order.

    Args:
        data: place and class names of each.
    """
    for place, classes in data[1:]:
        first, names = data[0]
        classes, names = tuple(map(composed, classes or ())), tuple(map(composed, names or ()))
        if classes == names or not classes or not names:
            continue
        if sorted(classes) == sorted(names):
            i = next(i for i, (a, b) in enumerate(zip(classes, names, strict=True)) if a != b)
            what = f'the same in another order: class {i} is {classes[i]!r}, there {names[i]!r}'
        else:
            more = [c for c in classes if c not in names]
            less = [c for c in names if c not in classes]
            what = '; '.join(([f'{shorten(more)} only here'] if more else [])
                             + ([f'{shorten(less)} only there'] if less else []))
        yield Finding('classes differ', place, f'its {len(classes)} classes are not the '
                      f'{len(names)} of {first} ({what}): give both the same '
                      'metainfo=dict(classes=(...))')


def nearest(name: str, names: Sequence[str]) -> Optional[str]:
    """The name that is most likely meant."""
    def letters(text: str) -> str:
        return ''.join(ch for ch in composed(text).lower() if ch.isalnum())

    plain = {letters(n): n for n in reversed(names)}
    key = letters(name)
    like = difflib.get_close_matches(key, plain, 1, 0.75)
    return plain[like[0]] if like else None
