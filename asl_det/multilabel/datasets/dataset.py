"""What every multi-label data set shares, and OpenMMLab's json format."""

import logging
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Dict, Iterable, List, Mapping, Optional, Sequence, Set, Tuple

import numpy as np
from mmcv.transforms import LoadImageFromFile
from mmengine.dataset import BaseDataset
from mmengine.logging import print_log
from PIL import Image, UnidentifiedImageError

from asl_det.errors import UserError
from asl_det.files.reading import expect_shape, read_json, read_lines
from asl_det.files.text import composed
from asl_det.multilabel.loading import loader_in
from asl_det.registry import DATASETS, register

Record = Dict[str, Any]
COMMON = ('BMP', 'GIF', 'JPEG', 'MPO', 'PNG', 'PPM', 'WEBP')  # what Pillow and OpenCV both read


@register(DATASETS)
class MultiLabelDataset(BaseDataset):
    """Multi-label images from an OpenMMLab 2.0 json; base of the other formats.

    The file holds ``metainfo.classes`` (names) and ``data_list``, a list of
    ``{"img_path": ..., "gt_label": [indices of the present classes]}``.

    Labels stay sparse in memory. An item's ``gt_label`` is made when it is
    asked for: int8 ``(C,)``, 1 present, 0 absent, -1 unknown.

    With ``test_mode=True`` the labels may be missing from the file (here:
    ``gt_label`` from every row). All are unknown then: images are scored and
    drawn, and there are no metrics.

    Args:
        ann_file: annotation file, relative to ``data_root``.
        metainfo: ``dict(classes=...)``, a sequence of names, names by index
            (``{0: 'cat', 1: 'dog'}``, also in the file), or the path of a
            UTF-8 text file with one name a line (blank lines are left out); by
            default those of the file.
        data_root, data_prefix, pipeline, test_mode, indices, ...: as in
            ``mmengine.dataset.BaseDataset``. ``data_prefix=dict(img_path=...)``
            is the folder of the images.
        broken_images: 'error' ends the run at an image that can not be
            decoded, with its path. 'skip' decodes every image once when the
            data set is loaded, leaves the broken ones out, and logs their
            number and paths.
        repeated: what an image is that the file names twice: an 'error', or
            'join' for one image with the labels of both; the log counts them.

    Raises:
        UserError: for annotations that do not fit, with file, line or image,
            and label.
    """

    # A list, where mistakes in single rows are gathered (preflight) and do not end the reading.
    mistakes: Optional[List[UserError]] = None

    def __init__(self, *args: Any, broken_images: str = 'error', repeated: str = 'error',
                 **kwargs: Any) -> None:
        if broken_images not in ('error', 'skip'):
            raise UserError(f"broken_images={broken_images!r}: expected 'error' or 'skip'")
        if repeated not in ('error', 'join'):
            raise UserError(f"repeated={repeated!r}: expected 'error' or 'join'")
        self.broken_images = broken_images
        self.repeated = repeated
        super().__init__(*args, **kwargs)

    # What a format implements.

    def load_data_list(self) -> List[Record]:
        """All records: ``img_path`` and lists of class indices.

        ``positives`` are present. Where ``negatives`` is there, all other
        classes are unknown; without it they are absent, those in ``unknown``
        excepted.
        """
        content = self._read_json()
        if not isinstance(content, dict) or 'data_list' not in content:
            raise UserError(f'{self.ann_file}: expected a json object with metainfo and data_list '
                            '(OpenMMLab 2.0)')
        expect_shape(content, {'metainfo?': dict, 'data_list': list}, self.ann_file)
        found = class_names(content.get('metainfo', {}).get('classes'),
                            f'{self.ann_file}: metainfo.classes')
        self._set_classes(found)
        given = found or self.classes
        index = [self._index.get(name) for name in given]  # None: left out by metainfo
        rows = content['data_list']
        labelled = not self.test_mode or not all(isinstance(row, dict) and 'gt_label' not in row
                                                 for row in rows)
        records, pairs = Records(self), set()
        for i, row in enumerate(rows):
            at = f': data_list[{i}]'
            where = f'{self.ann_file}{at}'
            if not (isinstance(row, dict) and isinstance(row.get('img_path'), str)
                    and (not labelled or isinstance(row.get('gt_label'), list))):
                self._mistake(f'{where}: expected img_path and a list gt_label, got {row}')
                continue
            if not labelled:
                records.add(at, row['img_path'], self._record(row['img_path'], None))
                continue
            wrong = wrong_indices(row['gt_label'], len(given))
            if wrong:
                self._mistake(f'{where} ({row["img_path"]}): {wrong}')
                continue
            labels = {index[label] for label in row['gt_label']} - {None}
            records.add(at, row['img_path'], self._record(row['img_path'], labels))
            pairs.add(tuple(row['gt_label']))
        self._refuse_one_hot(pairs, len(given))
        return records.all()

    # For the formats.

    def _record(self, img_path: str, positives: Optional[Iterable[int]],
                negatives: Optional[Iterable[int]] = None,
                unknown: Iterable[int] = ()) -> Record:
        """A record; ``positives`` is None where no label of the image is known."""
        if positives is None:
            positives, negatives = (), ()
        record = dict(img_path=str(Path(self.data_prefix.get('img_path') or '', img_path)),
                      positives=sorted(positives))
        if negatives is not None:
            record['negatives'] = sorted(negatives)
        if unknown:
            record['unknown'] = sorted(unknown)
        return record

    def _mistake(self, message: str) -> None:
        """Raise UserError for a mistake in one row, or gather it; the row is left out then."""
        if self.mistakes is None:
            raise UserError(message)
        self.mistakes.append(UserError(message))

    def _refuse_one_hot(self, rows: Set[Tuple[int, ...]], num_classes: int) -> None:
        """Raise UserError where each row is a 0 or 1 for each of two classes: some are [1, 0].

        Rows that are all [0, 1], or all [0] of one class, may be both: the log says so.
        """
        every = tuple(range(num_classes))
        if not rows or num_classes > 2 or any(tuple(sorted(row)) != every for row in rows):
            return
        if rows != {every}:  # indices come in their order
            raise UserError(f'{self.ann_file}: the labels are one-hot: expected the indices of the '
                            'present classes, [1] in place of [0, 1]')
        print_log(f'{self.ann_file}: every image has the labels {list(every)}, which is read as: '
                  'all classes are present. If it is a 0 or 1 for each class, write the indices '
                  'of the present ones alone', logger='current', level=logging.WARNING)

    def _set_classes(self, found: Optional[Sequence[str]], how: str = '') -> None:
        """Settle the class names: those of ``metainfo``, else those ``found`` in the files."""
        found = None if found is None else list(map(composed, found))
        classes = class_names(self._metainfo.get('classes'), 'metainfo.classes') or found
        if not classes or isinstance(classes, str):
            raise UserError(f'{self.ann_file}: the class names are not known: give '
                            f'metainfo=dict(classes=[...]) or the path of a file with one name a '
                            f'line{how}' + (f'; {classes} does not exist' if classes else ''))
        if len(set(classes)) != len(classes):
            twice = sorted({name for name in classes if classes.count(name) > 1})
            raise UserError(f'{self.ann_file}: class names appear twice: {", ".join(twice)}')
        if found is not None and set(classes) - set(found):
            raise UserError(f'{self.ann_file}: there is no class '
                            f'{", ".join(sorted(set(classes) - set(found)))}, which metainfo '
                            f'names; the file has: {shorten(found)}')
        self._metainfo['classes'] = tuple(classes)
        self._index = {name: i for i, name in enumerate(classes)}

    def _label(self, name: str, where: str) -> int:
        """The index of a class name."""
        if composed(name) not in self._index:
            raise UserError(f'{where}: unknown label {name!r}; the classes are: '
                            f'{shorten(self.classes)}')
        return self._index[composed(name)]

    def _read_json(self) -> Any:
        return read_json(self.ann_file)

    # What all share.

    @classmethod
    def _load_metainfo(cls, metainfo: Optional[Mapping[str, Any]] = None) -> Dict[str, Any]:
        classes = (metainfo or {}).get('classes')
        if isinstance(classes, str) and Path(classes).is_file():
            metainfo = dict(metainfo or {}, classes=read_lines(classes))
        elif isinstance(classes, Mapping):
            metainfo = dict(metainfo or {}, classes=class_names(classes, 'metainfo.classes'))
        return super()._load_metainfo(metainfo)

    @property
    def classes(self) -> Sequence[str]:
        """The class names."""
        return self._metainfo['classes']

    def filter_data(self) -> List[Record]:
        records = super().filter_data()
        if self.broken_images == 'skip':
            records = self._leave_out_broken(records)
        if not records:
            raise UserError(f'{self.ann_file}: no image is left')
        if not any(record['positives'] for record in records):
            if not self.test_mode:
                raise UserError(f'{self.ann_file}: no image has a positive label, so there is '
                                'nothing to learn: check labels and classes (only a test set, '
                                'test_mode=True, may be without)')
            print_log(f'{self.ann_file}: no image has a positive label: the images are scored and '
                      'drawn, there will be no metrics', logger='current')
        return records

    def get_data_info(self, idx: int) -> Record:
        """The record of an image with its target as ``gt_label``, int8 ``(C,)``."""
        info = super().get_data_info(idx)
        negatives = info.pop('negatives', None)
        target = np.zeros(len(self.classes), np.int8)
        if negatives is not None:
            target[:] = -1
            target[negatives] = 0
        target[info.pop('unknown', [])] = -1
        target[info.pop('positives')] = 1
        info['gt_label'] = target
        return info

    def get_cat_ids(self, idx: int) -> List[int]:
        """The classes that are present in an image (for ``ClassBalancedDataset``)."""
        return super().get_data_info(idx)['positives']

    def prepare_data(self, idx: int) -> Any:
        info = self.get_data_info(idx)
        path = info['img_path']
        try:
            return self.pipeline(info)
        except FileNotFoundError:
            raise UserError(f'image {path} does not exist: check data_root and data_prefix, or '
                            f'remove its entry from {self.ann_file}') from None
        except (OSError, SyntaxError, AssertionError) as error:  # Pillow's, and mmcv's with OpenCV
            if isinstance(error, AssertionError) and not str(error).startswith('failed to load'):
                raise
            raise UserError(f'image {path} can not be decoded ({error}): replace the file, remove '
                            "its entry, or set broken_images='skip' in the data set") from None

    def _leave_out_broken(self, records: List[Record]) -> List[Record]:
        with ThreadPoolExecutor() as pool:
            whole = list(pool.map(partial(decodes, loader=loader_in(self)),
                                  [r['img_path'] for r in records]))
        broken = [r['img_path'] for r, ok in zip(records, whole, strict=True) if not ok]
        if broken:
            print_log(f'{self.ann_file}: {len(broken)} of {len(records)} images can not be '
                      f'decoded and are left out: {shorten(broken, 20)}', logger='current')
        return [r for r, ok in zip(records, whole, strict=True) if ok]


class Records:
    """The records of a data set, one an image, whatever the format.

    Args:
        dataset: whose ``repeated`` says what an image is that is named twice.
    """

    def __init__(self, dataset: MultiLabelDataset) -> None:
        self.dataset = dataset
        self.records: Dict[str, Record] = {}
        self.first: Dict[str, str] = {}
        self.joined = 0

    def add(self, where: str, image: str, record: Record) -> None:
        """Take a record in; ``where`` follows the file in messages, ``image`` is its name there."""
        path = record['img_path']
        if not image.strip():
            self.dataset._mistake(f'{self.dataset.ann_file}{where}: has no file name: add it, or '
                                  'remove the entry')
        elif path not in self.records:
            self.records[path], self.first[path] = record, where.lstrip(':, ')
        elif self.dataset.repeated == 'error':
            self.dataset._mistake(f'{self.dataset.ann_file}{where}: {image} is in '
                                  f"{self.first[path]} too: remove one, or set repeated='join' to "
                                  'unite their labels')
        else:
            self.joined += 1
            self.records[path] = unite(self.records[path], record)

    def all(self) -> List[Record]:
        if self.joined:
            print_log(f'{self.dataset.ann_file}: {self.joined} entries are joined with an earlier '
                      'one of the same image', logger='current')
        return list(self.records.values())


def unite(one: Record, other: Record) -> Record:
    """A record with the labels of two; what only one knows is known."""
    positives = {*one['positives'], *other['positives']}
    united = dict(img_path=one['img_path'], positives=sorted(positives))
    if 'negatives' in one and 'negatives' in other:
        united['negatives'] = sorted({*one['negatives'], *other['negatives']} - positives)
    unknown = {*one.get('unknown', ()), *other.get('unknown', ())} - positives
    return {**united, 'unknown': sorted(unknown)} if unknown else united


def class_names(given: Any, where: str) -> Any:
    """Class names in the order of their indices, from a list or names by index.

    A text or None, of which nothing can be made here, stays.

    Raises:
        UserError: for anything else, with its key.
    """
    if given is None or isinstance(given, str):
        return given
    if isinstance(given, Mapping):
        by_index = {str(key): name for key, name in given.items()}
        missing = [i for i in range(len(given)) if str(i) not in by_index]
        if missing:
            raise UserError(f'{where} has the keys {shorten(list(given))} and lacks {missing[0]}: '
                            'expected a list of names, or names by index, {"0": "cat", "1": "dog"}')
        given = [by_index[str(i)] for i in range(len(given))]
    if not isinstance(given, (list, tuple)):
        raise UserError(f'{where} is {given!r}: expected a list of names')
    for i, name in enumerate(given):
        if type(name) not in (str, int):  # digits are read as numbers from a command line
            raise UserError(f'{where}[{i}] is {name!r}: expected the name of a class')
    return [composed(name) for name in given]


def wrong_indices(labels: Sequence[Any], num_classes: int) -> str:
    """Why these are no indices of classes, or ''."""
    for label in labels:
        if type(label) is not int:  # a bool is an int
            return (f'gt_label {label!r}: expected the indices of the present classes, whole '
                    f'numbers from 0 to {num_classes - 1}')
        if not 0 <= label < num_classes:
            return f'gt_label {label!r}: labels go from 0 to {num_classes - 1}'
    if len(set(labels)) == len(labels):
        return ''
    if 1 < num_classes == len(labels) and set(labels) <= {0, 1}:
        here = shorten([i for i, label in enumerate(labels) if label])
        return (f'gt_label {shorten(labels)} is one-hot: expected the indices of the present '
                f'classes, here [{here}]')
    return (f'gt_label {shorten(labels)}: expected the indices of the present classes, each once'
            + (f' (one-hot labels would have {num_classes} numbers)'
               if set(labels) <= {0, 1} else ''))


def decodes(path: str, loader: Optional[LoadImageFromFile] = None) -> bool:
    """Whether an image file can be decoded to its end; of rare formats the loader decides."""
    common = False
    try:
        with Image.open(path) as image:
            common = image.format in COMMON
            image.draft('RGB', (1, 1))  # JPEG at an eighth of the size is enough
            image.load()
    except UnidentifiedImageError:
        if loader is None:
            return False
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return False
    if common or loader is None:
        return True
    try:
        return loader.transform(dict(img_path=path)) is not None
    except Exception:  # any decoder's
        return False


def shorten(names: Sequence[Any], most: int = 8) -> str:
    """The first names of a list, and how many there are."""
    names = list(names)
    text = ', '.join(map(str, names[:most]))
    return text if len(names) <= most else f'{text}, ... ({len(names)} in all)'
