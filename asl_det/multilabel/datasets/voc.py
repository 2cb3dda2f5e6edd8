from pathlib import Path
from typing import Any, Dict, List, Optional
from xml.etree import ElementTree

from asl_det.errors import UserError
from asl_det.multilabel.datasets.base import MultiLabelDataset, Record
from asl_det.registry import DATASETS


@DATASETS.register_module()
class VOCMultiLabelDataset(MultiLabelDataset):
    """Pascal VOC's folders as multi-label data: a class is present if it has an object.

    Args:
        ann_file: list of image names, ``ImageSets/Main/trainval.txt``.
        data_root: the folder ``VOC2007``.
        data_prefix: folders of images (``img_path``) and XML (``ann_path``).
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
        # The per-class lists of VOC have a second column; the name is the first.
        lines = Path(self.ann_file).read_text().splitlines()
        return [self._read_image(line.split()[0]) for line in lines if line.strip()]

    def _read_image(self, name: str) -> Record:
        path = Path(self.data_prefix['ann_path'], f'{name}.xml')
        try:
            root = ElementTree.parse(path).getroot()
        except FileNotFoundError:
            raise UserError(f'{path} does not exist, but {self.ann_file} lists {name}') from None
        except ElementTree.ParseError as error:
            raise UserError(f'{path} is no XML: {error}') from error
        clear, difficult = set(), set()
        for thing in root.iter('object'):
            label = self._label((thing.findtext('name') or '').strip(), str(path))
            (difficult if thing.findtext('difficult', '0').strip() == '1' else clear).add(label)
        positives = clear | difficult if self.difficult == 'positive' else clear
        unknown = difficult - clear if self.difficult == 'unknown' else set()
        file_name = (root.findtext('filename') or '').strip() or f'{name}.jpg'
        return self._record(file_name, positives, unknown=unknown)
