import os
import re
from collections import defaultdict
from pathlib import Path, PureWindowsPath
from typing import Any, Dict, List, Optional, Set
from xml.etree import ElementTree

from PIL import Image

from asl_det.errors import UserError
from asl_det.files.reading import read_lines
from asl_det.multilabel.datasets.dataset import MultiLabelDataset, Record, Records
from asl_det.registry import DATASETS, register


@register(DATASETS)
class VOCMultiLabelDataset(MultiLabelDataset):
    """Pascal VOC's folders as multi-label data: a class is present if it has an object.

    A name of the list stands for an image and an XML file of that name. What
    the XML states as ``<filename>`` only chooses between image files that
    differ in their extension.

    Args:
        ann_file: list of image names, ``ImageSets/Main/trainval.txt``. The
            second column that VOC's lists of one class have is left out.
        data_root: the folder ``VOC2007``.
        data_prefix: folders of images (``img_path``) and XML (``ann_path``).
            Without ``ann_path`` no label is known; for test sets.
        difficult: what a class counts as of which an image has difficult
            objects only: 'unknown' (VOC's own rule), 'positive' or 'negative'.
        **kwargs: as in :class:`MultiLabelDataset`.
    """

    METAINFO = dict(classes=(
        'aeroplane', 'bicycle', 'bird', 'boat', 'bottle', 'bus', 'car', 'cat', 'chair', 'cow',
        'diningtable', 'dog', 'horse', 'motorbike', 'person', 'pottedplant', 'sheep', 'sofa',
        'train', 'tvmonitor'))

    def __init__(self, ann_file: str, *args: Any, difficult: str = 'unknown',
                 data_prefix: Optional[Dict[str, str]] = None, **kwargs: Any) -> None:
        if difficult not in ('positive', 'negative', 'unknown'):
            raise UserError(f"difficult={difficult!r}: expected 'positive', 'negative' or "
                            "'unknown'")
        self.difficult = difficult
        data_prefix = data_prefix or dict(img_path='JPEGImages', ann_path='Annotations')
        super().__init__(ann_file, *args, data_prefix=data_prefix, **kwargs)

    def load_data_list(self) -> List[Record]:
        self._set_classes(None)
        images = defaultdict(list)  # stem -> files
        folder = Path(self.data_prefix['img_path'])
        kinds = Image.registered_extensions()
        for file in map(Path, os.listdir(folder) if folder.is_dir() else ()):
            if file.suffix.lower() in kinds:
                images[file.stem].append(file.name)
        names = [self._name(line, images) for line in read_lines(self.ann_file)]
        records = Records(self)
        for i, name in enumerate(names):
            try:
                record = (self._read_image(name, images) if 'ann_path' in self.data_prefix else
                          self._record(self._file(name, '', images, self.ann_file), None))
            except UserError as error:
                self._mistake(str(error))
            else:
                records.add(f', entry {i + 1}', name, record)
        return records.all()

    def _name(self, line: str, images: Dict[str, List[str]]) -> str:
        column = re.fullmatch(r'(.*?)\s+(-1|0|1)', line)
        if not column or line in images or self._xml(line).exists():
            return line
        return column[1]

    def _xml(self, name: str) -> Path:
        return Path(self.data_prefix.get('ann_path') or '', f'{name}.xml')

    def _read_image(self, name: str, images: Dict[str, List[str]]) -> Record:
        path = self._xml(name)
        try:
            root = ElementTree.parse(path).getroot()
        except FileNotFoundError:
            raise UserError(f'{path} does not exist, but {self.ann_file} lists {name}') from None
        except ElementTree.ParseError as error:
            raise UserError(f'{path} is no XML: {error}') from error
        clear: Set[int] = set()
        difficult: Set[int] = set()
        for thing in root.iter('object'):
            label = self._label((thing.findtext('name') or '').strip(), str(path))
            (difficult if thing.findtext('difficult', '0').strip() == '1' else clear).add(label)
        positives = clear | difficult if self.difficult == 'positive' else clear
        unknown = difficult - clear if self.difficult == 'unknown' else set()
        file = self._file(name, root.findtext('filename') or '', images, str(path))
        return self._record(file, positives, unknown=unknown)

    @staticmethod
    def _file(name: str, stated: str, images: Dict[str, List[str]], where: str) -> str:
        """The image file of a name; ``stated`` may be of another folder, name or system."""
        files = sorted(images.get(name, ()))
        said = PureWindowsPath(stated.strip())
        if not files:
            return name + (said.suffix or '.jpg')
        if len(files) > 1 and said.name not in files:
            raise UserError(f'{where}: the image may be any of {", ".join(files)}: keep one of '
                            'them, or state one as <filename>')
        return said.name if said.name in files else files[0]
