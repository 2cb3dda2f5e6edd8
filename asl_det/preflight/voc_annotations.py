"""Pascal VOC's XML with boxes, as mmdet's ``XMLDataset`` reads it."""

from collections import Counter
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple
from xml.etree import ElementTree

import numpy as np

from asl_det.errors import UserError
from asl_det.files.reading import read_lines
from asl_det.files.text import as_written
from asl_det.multilabel.datasets.dataset import shorten
from asl_det.preflight.class_names import check_counts, nearest
from asl_det.preflight.columns import as_findings
from asl_det.preflight.filters import choose_few, kept_images
from asl_det.preflight.finding import Contents, Finding

CORNERS = ('xmin', 'ymin', 'xmax', 'ymax')


def read_voc(path: str, classes: Sequence[str], dataset: Dict[str, Any], *, split: str = 'train',
             place: str = 'dataset') -> Contents:
    """The objects of all images that a list names, and what is wrong with them.

    Args:
        path: text file with one image name a line.
        classes: names of the config.
        dataset: its other settings: ``data_root``, ``data_prefix``,
            ``img_subdir``, ``ann_subdir``, ``filter_cfg``, ``indices``,
            ``test_mode``.
        split: 'train', 'val' or 'test'.
        place: dotted key of the data set, for messages.
    """
    result = Contents(classes=tuple(classes))
    if not classes:
        result.findings.append(Finding('classes', place, 'has no class names: set '
                                       'metainfo=dict(classes=(...))'))
        return result
    try:
        names = read_lines(path)
    except UserError as error:
        result.findings += as_findings('file', path, [error])
        return result
    root = Path(dataset.get('data_root') or '', (dataset.get('data_prefix') or {}).get(
        'sub_data_root') or '')
    least = (dataset.get('filter_cfg') or {}).get('bbox_min_size')
    if least is not None and dataset.get('test_mode'):
        result.findings.append(Finding('filter', f'{place}.filter_cfg.bbox_min_size', f'{least}: '
                                       'mmdet filters boxes in training alone: leave it out'))
    unknown, left_out, sizes, objects = Counter(), Counter(), [], []
    result.images = [str(root / dataset.get('img_subdir', 'JPEGImages') / f'{name}.jpg')
                     for name in names]
    for name, image in zip(names, result.images, strict=True):
        xml = root / dataset.get('ann_subdir', 'Annotations') / f'{name}.xml'
        size, found, things = _read_xml(xml, image, path, name, least or 0)
        sizes.append(size)
        result.findings += found
        unknown.update(label for label, _ in things if label not in classes)
        left_out.update(why for label, why in things if why and label in classes)
        objects.append([thing for thing in things if thing[0] in classes])
    result.sizes = np.array(sizes, np.float64).reshape(-1, 2)
    found, kept = kept_images(place, dataset, result.sizes, np.array([bool(o) for o in objects]))
    result.findings += found
    used = [[label for label, why in things if not why] for things in objects]
    counts = Counter(label for keep, labels in zip(kept, used, strict=True) if keep
                     for label in labels)
    result.counts = np.array([counts[c] for c in classes])
    result.few = [names[i] for i in choose_few(result.images, kept, np.array(list(map(len, used))),
                                               result.sizes)]
    result.findings += _repeated(path, names)
    result.findings += _left_out(path, classes, unknown)
    result.findings += check_counts(path, classes, result.counts, split)
    if not counts and not any(f.error for f in result.findings):
        why = ', '.join(f'{n} are {reason}' for reason, n in left_out.items())
        result.findings.append(Finding(
            'no objects', path, 'no image has an object of metainfo.classes'
            + (f' that counts ({why})' if why else '') + ': there is nothing to '
            + ('learn' if split == 'train' else 'evaluate')))
    return result


def _read_xml(xml: Path, image: str, path: str, name: str, least: float
              ) -> Tuple[Tuple[float, float], List[Finding], List[Tuple[str, str]]]:
    """Width and height, what is wrong, and of every object that has a box its name and why mmdet
    ignores it, or ''."""
    nothing = (np.nan, np.nan)
    try:
        root = ElementTree.parse(xml).getroot()
    except FileNotFoundError:
        return nothing, [Finding('no XML', path, f'{xml} does not exist, but the list names '
                                 f'{name!r}')], []
    except (ElementTree.ParseError, OSError) as error:
        return nothing, [Finding('no XML', str(xml), f'is no XML: {error}')], []
    size = tuple(_number(root.findtext(f'size/{key}')) for key in ('width', 'height'))
    findings = []
    if root.find('size') is not None and not all(v is not None and v > 0 for v in size):
        given = [root.findtext(f'size/{key}') for key in ('width', 'height')]
        findings.append(Finding('size of an image', str(xml), f'<size> is {given[0]} x {given[1]}: '
                                'expected pixels above 0'))
    size = tuple(np.nan if v is None else v for v in size)
    objects = []
    for i, thing in enumerate(root.findall('object')):
        label = (thing.findtext('name') or '').strip()
        wrong = list(_check_box(f'{xml}: object[{i}] ({label})', thing, size, image))
        findings += wrong
        if not any(f.error for f in wrong):
            objects.append((label, _ignored(thing, least)))
    return size, findings, objects


def _ignored(thing: Any, least: float) -> str:
    """Why an object is neither learned nor evaluated, or ''."""
    if _number(thing.findtext('difficult')):
        return 'difficult'
    left, top, right, bottom = (int(float(thing.findtext(f'bndbox/{key}'))) for key in CORNERS)
    small = min(right - left, bottom - top) < least
    return f'smaller than bbox_min_size={least:g}' if small else ''


def _check_box(where: str, thing: Any, size: Tuple[float, float], image: str) -> Iterator[Finding]:
    texts = [thing.findtext(f'bndbox/{key}') for key in CORNERS]
    corners = [_number(text) for text in texts]
    if not all(v is not None and np.isfinite(v) for v in corners):
        yield Finding('box', where, f'bndbox has {", ".join(map(str, texts))}: expected the '
                      f'numbers {", ".join(CORNERS)} in pixels', images=(image,))
        return
    left, top, right, bottom = corners
    place = dict(images=(image,), boxes=((left, top, right - left, bottom - top),))
    shown = f'bndbox {left:g}, {top:g}, {right:g}, {bottom:g}'
    if max(corners) <= 1:
        yield Finding('boxes as shares', where, f'{shown} is in shares of the image: expected '
                      'pixels', **place)
    elif right <= left or bottom <= top:
        yield Finding('negative box', where, f'{shown} has no size: expected {", ".join(CORNERS)} '
                      'with xmin below xmax and ymin below ymax', **place)
    elif left > size[0] or top > size[1]:
        yield Finding('box outside', where, f'{shown} lies outside its image of {size[0]:g} x '
                      f'{size[1]:g}: mmdet would train on it', **place)
    elif right > size[0] + 1 or bottom > size[1] + 1:
        yield Finding('box beyond the image', where, f'{shown} reaches out of its image of '
                      f'{size[0]:g} x {size[1]:g}: mmdet trains on the part inside', error=False,
                      **place)


def _left_out(path: str, classes: Sequence[str], unknown: Counter) -> Iterator[Finding]:
    """Names that the config does not list: mmdet leaves their objects out in silence."""
    for name, count in unknown.items():
        like = nearest(name, classes)
        if like is not None:
            yield Finding('class not in the config', path, f'{count} objects are called {name!r}, '
                          f'which metainfo.classes does not list, but {like!r}'
                          f'{as_written(name, like)}: use the same name')
    others = [name for name in unknown if nearest(name, classes) is None]
    if others:
        yield Finding('categories left out', path, f'{sum(unknown[n] for n in others)} objects of '
                      f'{shorten(others)} are left out: metainfo.classes does not list them',
                      error=False)


def _repeated(path: str, names: Sequence[str]) -> Iterator[Finding]:
    for name, count in Counter(names).items():
        if count > 1:
            yield Finding('image twice', path, f'{name} stands there {count} times: each is an '
                          'image of its own', error=False)


def _number(text: Optional[str]) -> Optional[float]:
    try:
        return float(text)
    except (TypeError, ValueError):
        return None
