import csv
from collections import Counter
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

from mmengine.logging import print_log

from asl_det.errors import UserError
from asl_det.multilabel.datasets.base import MultiLabelDataset, Record
from asl_det.registry import DATASETS

COLUMNS = ('ImageID', 'LabelName', 'Confidence')


@DATASETS.register_module()
class OpenImagesMultiLabelDataset(MultiLabelDataset):
    """Open Images' verified image-level labels; what nobody verified is unknown.

    The csv has the columns ImageID, LabelName (a machine id such as
    ``/m/01g317``) and Confidence: 1 verified present, 0 verified absent. Other
    columns are ignored. Images are ``<ImageID>.jpg``.

    Args:
        trainable_classes: file with one machine id a line, which become the
            classes; rows of other labels are left out and counted in the log.
        class_descriptions: csv ``machine id,name``. Gives the names, and
            without ``trainable_classes`` the classes themselves.
        **kwargs: as in :class:`MultiLabelDataset`. Without both files
            ``metainfo=dict(classes=...)`` must list the machine ids.
    """

    def __init__(self, *args: Any, trainable_classes: Optional[str] = None,
                 class_descriptions: Optional[str] = None, **kwargs: Any) -> None:
        self.trainable_classes = trainable_classes
        self.class_descriptions = class_descriptions
        super().__init__(*args, **kwargs)

    def load_data_list(self) -> List[Record]:
        index = self._read_classes()
        images: Dict[str, Tuple[List[int], List[int]]] = {}
        left_out = 0
        with open(self.ann_file, newline='') as file:
            rows = csv.reader(file)
            header = next(rows, [])
            if not set(COLUMNS) <= set(header):
                raise UserError(f'{self.ann_file}, line 1: expected the columns '
                                f'{", ".join(COLUMNS)}, got {", ".join(header)}')
            image_at, label_at, confidence_at = (header.index(c) for c in COLUMNS)
            for number, row in enumerate(rows, 2):
                try:
                    image, name, confidence = row[image_at], row[label_at], row[confidence_at]
                    present = {'1': True, '1.0': True, '0': False, '0.0': False}[confidence]
                except (IndexError, KeyError):
                    raise UserError(f'{self.ann_file}, line {number}: expected an image, a label '
                                    f'and the confidence 0 or 1, got {",".join(row)}') from None
                label = index.get(name)
                positives, negatives = images.setdefault(image, ([], []))
                if label is not None:
                    if label in (negatives if present else positives):
                        raise UserError(f'{self.ann_file}, line {number}: {name} is both present '
                                        f'and absent in {image}')
                    (positives if present else negatives).append(label)
                elif self.trainable_classes:
                    left_out += 1
                else:
                    raise UserError(f'{self.ann_file}, line {number}: unknown label {name!r}')
        if left_out:
            print_log(f'{self.ann_file}: {left_out} labels of classes that '
                      f'{self.trainable_classes} does not list are left out', logger='current')
        return [self._record(f'{image}.jpg', set(positives), set(negatives))
                for image, (positives, negatives) in images.items()]

    def _read_classes(self) -> Dict[str, int]:
        """Machine id -> class index; sets the class names."""
        names = {}
        if self.class_descriptions:
            with open(self._under_root(self.class_descriptions), newline='') as file:
                names = {row[0]: row[1] for row in csv.reader(file) if len(row) == 2}
            names.pop('LabelName', None)  # the header that newer releases have
        if self.trainable_classes:
            ids = Path(self._under_root(self.trainable_classes)).read_text().split()
        else:
            ids = list(names) or list(self._metainfo.get('classes') or ())
        how = ', or trainable_classes or class_descriptions'
        if not ids:
            self._set_classes(None, how)
        # Some names belong to two machine ids; those keep the id in the name.
        count = Counter(names.values())
        found = [f'{names[i]} ({i})' if count[names.get(i)] > 1 else names.get(i, i) for i in ids]
        self._metainfo['classes'] = None
        self._set_classes(found, how)
        return {machine_id: i for i, machine_id in enumerate(ids)}

    def _under_root(self, path: str) -> str:
        return str(Path(self.data_root or '', path))
