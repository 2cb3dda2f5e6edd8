"""Labels in csv files: own data, and NUS-WIDE as the reference splits it."""

import ast
from typing import Any, List, Optional, Sequence

from asl_det.errors import UserError
from asl_det.files.reading import csv_rows
from asl_det.files.text import composed
from asl_det.multilabel.datasets.dataset import MultiLabelDataset, Record, Records
from asl_det.registry import DATASETS, register


@register(DATASETS)
class CSVMultiLabelDataset(MultiLabelDataset):
    """One image a line: ``file,label label ...``; nothing after the comma: no label.

    Class names must be given with ``metainfo``, so that training and
    validation files agree on them. A test set (``test_mode=True``) without
    labels has lines with nothing but the file.

    Args:
        header: the first line holds column names.
        separator: what stands between two labels; None is white space.
        **kwargs: as in :class:`MultiLabelDataset`.
    """

    def __init__(self, *args: Any, header: bool = False, separator: Optional[str] = None,
                 **kwargs: Any) -> None:
        self.header = header
        self.separator = separator
        super().__init__(*args, **kwargs)

    def load_data_list(self) -> List[Record]:
        self._set_classes(None)
        rows = list(csv_rows(self.ann_file))[self.header:]
        labelled = not self.test_mode or any(len(row) > 1 for _, row in rows)
        records, found = Records(self), set()
        for number, row in rows:
            try:
                labels = self._parse(number, row) if labelled else None
            except UserError as error:
                self._mistake(str(error))
                continue
            image = row[0].strip()
            found.add(tuple(labels or ()))
            records.add(f', line {number}', image, self._record(image, labels))
        if {'0', '1'} >= set(self.classes):
            self._refuse_one_hot(found, len(self.classes))
        return records.all()

    def _parse(self, number: int, row: Sequence[str]) -> List[int]:
        where = f'{self.ann_file}, line {number}'
        if len(row) != 2:
            raise UserError(f'{where}: expected file,label label ..., got {len(row)} columns: '
                            f'{",".join(row)}')
        hint = '' if self.header or number > 1 else ' (header=True skips a first line)'
        names = [name.strip() for name in row[1].split(self.separator)]
        if len(names) == len(self.classes) > len(set(names)) and set(names) <= {'0', '1'}:
            raise UserError(f'{where}: {row[1]} is a 0 or 1 for each class: expected the names of '
                            'the present classes')
        return list(dict.fromkeys(self._label(name, where + hint) for name in names if name))


@register(DATASETS)
class NUSWIDEDataset(MultiLabelDataset):
    """NUS-WIDE from the csv of the ASL reference: file, labels, split.

    The first line names the columns; a column before them that has no name, or
    'Unnamed: 0', is the index of a table and left out. The labels are a list
    of names such as ``"['clouds', 'sky']"``. The classes are all names in the
    file, of every split, in alphabetical order.

    Args:
        split: rows of which split to use, e.g. 'train' or 'val'.
        **kwargs: as in :class:`MultiLabelDataset`.
    """

    def __init__(self, *args: Any, split: str, **kwargs: Any) -> None:
        self.split = split
        super().__init__(*args, **kwargs)

    def load_data_list(self) -> List[Record]:
        rows = csv_rows(self.ann_file)
        number, header = next(rows, (1, ['']))
        index = header[0] in ('', 'Unnamed: 0')
        if len(header) != index + 3 or header[-2].startswith('['):
            raise UserError(f'{self.ann_file}, line {number}: expected the names of the columns '
                            f'file, labels and split, got {",".join(header)}')
        lines = []
        for number, row in rows:
            where = f'{self.ann_file}, line {number}'
            if len(row) != len(header):
                self._mistake(f'{where}: expected the columns {", ".join(header)}, got '
                              f'{len(row)}: {",".join(row)}')
                continue
            image, labels, split = row[index:]
            try:
                lines.append((number, image, self._parse(labels, where), split.strip()))
            except UserError as error:
                self._mistake(str(error))
        splits = sorted({split for *_, split in lines})
        if self.split not in splits:
            raise UserError(f'{self.ann_file}: no line belongs to split {self.split!r}; the file '
                            f'has {", ".join(splits)}')
        self._set_classes(sorted({composed(name) for _, _, names, _ in lines for name in names}))
        records = Records(self)
        for number, image, names, split in lines:
            if split == self.split:
                records.add(f', line {number}', image, self._record(
                    image, {self._index[n] for n in map(composed, names) if n in self._index}))
        return records.all()

    @staticmethod
    def _parse(text: str, where: str) -> List[str]:
        try:
            names = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            names = None
        if not isinstance(names, list) or not all(isinstance(n, str) for n in names):
            raise UserError(f"{where}: expected labels like ['clouds', 'sky'], got {text!r}")
        return names
