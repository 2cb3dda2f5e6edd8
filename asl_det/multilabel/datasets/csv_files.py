"""Labels in csv files: own data, and NUS-WIDE as the reference splits it."""

import ast
import csv
from typing import Any, List

from asl_det.errors import UserError
from asl_det.multilabel.datasets.base import MultiLabelDataset, Record
from asl_det.registry import DATASETS


@DATASETS.register_module()
class CSVMultiLabelDataset(MultiLabelDataset):
    """One image a line: ``file,label label ...``; nothing after the comma: no label.

    Class names must be given with ``metainfo``, so that training and
    validation files agree on them.

    Args:
        header: the first line holds column names.
        separator: what stands between two labels; None is white space.
        **kwargs: as in :class:`MultiLabelDataset`.
    """

    def __init__(self, *args: Any, header: bool = False, separator: str = None,
                 **kwargs: Any) -> None:
        self.header = header
        self.separator = separator
        super().__init__(*args, **kwargs)

    def load_data_list(self) -> List[Record]:
        self._set_classes(None)
        records = []
        with open(self.ann_file, newline='') as file:
            for number, row in enumerate(csv.reader(file), 1):
                where = f'{self.ann_file}, line {number}'
                if not row or (self.header and number == 1):
                    continue
                if len(row) != 2:
                    raise UserError(f'{where}: expected file,label label ..., got {len(row)} '
                                    f'columns: {",".join(row)}')
                hint = '' if self.header or number > 1 else ' (header=True skips a first line)'
                names = [n.strip() for n in row[1].split(self.separator)]
                labels = {self._label(name, where + hint) for name in names if name}
                records.append(self._record(row[0].strip(), labels))
        return records


@DATASETS.register_module()
class NUSWIDEDataset(MultiLabelDataset):
    """NUS-WIDE from the csv of the ASL reference: file, labels, split.

    The labels are a list of names such as ``"['clouds', 'sky']"``. The
    classes are all names in the file, of every split, in alphabetical order.

    Args:
        split: rows of which split to use, e.g. 'train' or 'val'.
        **kwargs: as in :class:`MultiLabelDataset`.
    """

    def __init__(self, *args: Any, split: str, **kwargs: Any) -> None:
        self.split = split
        super().__init__(*args, **kwargs)

    def load_data_list(self) -> List[Record]:
        rows = []
        with open(self.ann_file, newline='') as file:
            for number, row in enumerate(csv.reader(file), 1):
                if number == 1 or not row:
                    continue  # names of the columns
                where = f'{self.ann_file}, line {number}'
                if len(row) != 3:
                    raise UserError(f'{where}: expected the columns file, labels and split, got '
                                    f'{len(row)}: {",".join(row)}')
                rows.append((where, row[0], self._parse(row[1], where), row[2].strip()))
        splits = sorted({split for *_, split in rows})
        if self.split not in splits:
            raise UserError(f'{self.ann_file}: no line belongs to split {self.split!r}; the file '
                            f'has {", ".join(splits)}')
        self._set_classes(sorted({name for _, _, names, _ in rows for name in names}))
        return [self._record(path, {self._index[n] for n in names if n in self._index})
                for _, path, names, split in rows if split == self.split]

    @staticmethod
    def _parse(text: str, where: str) -> List[str]:
        try:
            names = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            names = None
        if not isinstance(names, list) or not all(isinstance(n, str) for n in names):
            raise UserError(f"{where}: expected labels like ['clouds', 'sky'], got {text!r}")
        return names
