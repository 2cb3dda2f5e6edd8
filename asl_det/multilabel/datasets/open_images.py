from collections import Counter
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

from mmengine.logging import print_log

from asl_det.errors import UserError
from asl_det.files.reading import csv_rows, read_lines
from asl_det.multilabel.datasets.dataset import MultiLabelDataset, Record, Records
from asl_det.registry import DATASETS, register

COLUMNS = ('ImageID', 'LabelName', 'Confidence')


@register(DATASETS)
class OpenImagesMultiLabelDataset(MultiLabelDataset):
    """Open Images' verified image-level labels; what nobody verified is unknown.

    The csv has the columns ImageID, LabelName (a machine id such as
    ``/m/01g317``) and Confidence: 1 verified present, 0 verified absent. Other
    columns are ignored. Images are ``<ImageID>.jpg``. A test set
    (``test_mode=True``) without labels has the column ImageID only.

    Args:
        trainable_classes: file with one machine id a line, which become the
            classes; rows of other labels are left out and counted in the log.
        class_descriptions: csv ``machine id,name``. Gives the names, and
            without ``trainable_classes`` the classes themselves.
        unverified: what a class counts as that nobody verified in an image:
            'unknown' or 'negative'. For evaluation 'unknown': most of these
            classes were never looked for.
        contradictions: what a class counts as that is verified as present and
            as absent in one image: 'unknown', 'positive' or 'negative', and
            the log counts them, or an 'error'.
        keep_empty: keep images of which no label is known (all their labels
            are of other classes, or contradict each other).
        **kwargs: as in :class:`MultiLabelDataset`. Without both files
            ``metainfo=dict(classes=...)`` must list the machine ids.
    """

    def __init__(self, *args: Any, trainable_classes: Optional[str] = None,
                 class_descriptions: Optional[str] = None, unverified: str = 'unknown',
                 contradictions: str = 'unknown', keep_empty: bool = True, **kwargs: Any) -> None:
        if unverified not in ('unknown', 'negative'):
            raise UserError(f"unverified={unverified!r}: expected 'unknown' or 'negative'")
        if contradictions not in ('unknown', 'positive', 'negative', 'error'):
            raise UserError(f"contradictions={contradictions!r}: expected 'unknown', 'positive', "
                            "'negative' or 'error'")
        self.trainable_classes = trainable_classes
        self.class_descriptions = class_descriptions
        self.unverified = unverified
        self.contradictions = contradictions
        self.keep_empty = keep_empty
        super().__init__(*args, **kwargs)

    def load_data_list(self) -> List[Record]:
        index, ids = self._read_classes()
        rows = csv_rows(self.ann_file)
        _, header = next(rows, (1, []))
        if self.test_mode and set(COLUMNS) & set(header) == {'ImageID'}:
            records = Records(self)
            for number, row in rows:
                image = row[header.index('ImageID')] if len(row) == len(header) else ''
                records.add(f', line {number}', image, self._record(f'{image}.jpg', None))
            return records.all()
        if not set(COLUMNS) <= set(header):
            raise UserError(f'{self.ann_file}, line 1: expected the columns {", ".join(COLUMNS)}, '
                            f'got {", ".join(header)}')
        columns = [header.index(c) for c in COLUMNS]
        images: Dict[str, Tuple[List[int], List[int]]] = {}
        left_out = 0
        for number, row in rows:
            try:
                image, name, confidence = (row[c] for c in columns)
                present = {'1': True, '1.0': True, '0': False, '0.0': False}[confidence]
                image.strip()[0]  # it has a name
            except (IndexError, KeyError):
                self._mistake(f'{self.ann_file}, line {number}: expected an image, a label and '
                              f'the confidence 0 or 1, got {",".join(row)}')
                continue
            label = index.get(name)
            positives, negatives = images.setdefault(image, ([], []))
            if label is None:
                if not self.trainable_classes:
                    self._mistake(f'{self.ann_file}, line {number}: unknown label {name!r}')
                left_out += 1
                continue
            if self.contradictions == 'error' and label in (negatives if present else positives):
                self._mistake(f'{self.ann_file}, line {number}: {name} is both present and '
                              f'absent in {image}: remove one of the lines, or set '
                              "contradictions='unknown'")
            (positives if present else negatives).append(label)
        if left_out:
            print_log(f'{self.ann_file}: {left_out} labels of classes that '
                      f'{self.trainable_classes} does not list are left out', logger='current')
        return self._resolve(images, ids)

    def _resolve(self, images: Dict[str, Tuple[List[int], List[int]]],
                 ids: List[str]) -> List[Record]:
        """Records of the verified labels, by the rules of the arguments."""
        records = []
        count, example = 0, ''
        for image, (present, absent) in images.items():
            positives, negatives = set(present), set(absent)
            both = positives & negatives
            if both:
                count += len(both)
                example = example or f'{ids[min(both)]} in {image}'
                if self.contradictions != 'positive':
                    positives -= both
                if self.contradictions != 'negative':
                    negatives -= both
            if not (self.keep_empty or positives or negatives):
                continue
            unknown = both if self.contradictions == 'unknown' else set()
            records.append(self._record(f'{image}.jpg', positives, negatives)
                           if self.unverified == 'unknown' else
                           self._record(f'{image}.jpg', positives, unknown=unknown))
        if count:
            print_log(f'{self.ann_file}: {count} label{"s are" if count > 1 else " is"} both '
                      f'present and absent and taken as {self.contradictions} (the first: '
                      f'{example})', logger='current')
        if len(records) < len(images):
            print_log(f'{self.ann_file}: {len(images) - len(records)} images without a known label '
                      'are left out', logger='current')
        return records

    def _read_classes(self) -> Tuple[Dict[str, int], List[str]]:
        """Machine id -> class index, and machine ids; sets the class names."""
        names = {}
        if self.class_descriptions:
            path = self._under_root(self.class_descriptions)
            for number, row in csv_rows(path):
                if len(row) != 2:
                    raise UserError(f'{path}, line {number}: expected a machine id and a name, got '
                                    f'{",".join(row)}')
                names[row[0]] = row[1]
            names.pop('LabelName', None)  # the header that newer releases have
        if self.trainable_classes:
            ids = read_lines(self._under_root(self.trainable_classes))
        else:
            ids = list(names) or list(self._metainfo.get('classes') or ())
        how = ', or trainable_classes or class_descriptions'
        if not ids:
            self._set_classes(None, how)
        # Some names belong to two machine ids; those keep the id in the name.
        count = Counter(names.values())
        named = [(names.get(i, i), i) for i in ids]
        found = [f'{name} ({i})' if count[name] > 1 else name for name, i in named]
        self._metainfo['classes'] = None
        self._set_classes(found, how)
        return {machine_id: i for i, machine_id in enumerate(ids)}, ids

    def _under_root(self, path: str) -> str:
        return str(Path(self.data_root or '', path))
