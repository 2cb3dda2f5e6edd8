import contextlib
import io
from typing import Any, List, Set

from pycocotools.coco import COCO

from asl_det.errors import UserError
from asl_det.files.reading import ID, NUMBER, expect_shape
from asl_det.files.text import composed
from asl_det.multilabel.datasets.dataset import MultiLabelDataset, Record, Records
from asl_det.registry import DATASETS, register

# What is read; boxes are not.
SHAPE = {'images': [{'id': ID, 'file_name': str}], 'categories': [{'id': ID, 'name': ID}],
         'annotations?': [{'image_id': ID, 'category_id': ID, 'id': ID,
                           'iscrowd?': (*NUMBER, bool)}]}


@register(DATASETS)
class CocoMultiLabelDataset(MultiLabelDataset):
    """A COCO detection json as multi-label data: a class is present if it has a box.

    Fits MS-COCO 2014 and 2017 (``instances_*.json``) and anything in that
    format. Categories in the order of their ids become 0 to C - 1. A test set
    (``test_mode=True``) may be without annotations.

    Args:
        keep_empty: keep images without annotations. The reference's figures
            on MS-COCO are without them.
        crowd: what a class counts as of which an image has crowd regions
            only: 'positive', 'negative' or 'unknown'.
        **kwargs: as in :class:`MultiLabelDataset`. With
            ``metainfo=dict(classes=...)`` only these classes are read.
    """

    def __init__(self, *args: Any, keep_empty: bool = True, crowd: str = 'positive',
                 **kwargs: Any) -> None:
        if crowd not in ('positive', 'negative', 'unknown'):
            raise UserError(f"crowd={crowd!r}: expected 'positive', 'negative' or 'unknown'")
        self.keep_empty = keep_empty
        self.crowd = crowd
        super().__init__(*args, **kwargs)

    def load_data_list(self) -> List[Record]:
        coco = COCO()
        coco.dataset = self._read_json()
        expect_shape(coco.dataset, SHAPE, f'{self.ann_file} is no COCO json with images, '
                     'annotations and categories')
        with contextlib.redirect_stdout(io.StringIO()):
            coco.createIndex()
        categories = sorted(coco.dataset['categories'],
                            key=lambda c: (isinstance(c['id'], str), c['id']))
        images = coco.dataset['images']
        self._set_classes([str(c['name']) for c in categories])
        index = {c['id']: self._index.get(composed(c['name'])) for c in categories}
        for annotation in coco.dataset.get('annotations', ()):
            for key, known in (('category_id', coco.cats), ('image_id', coco.imgs)):
                if annotation[key] not in known:
                    raise UserError(f'{self.ann_file}: annotation {annotation.get("id")} has the '
                                    f'{key} {annotation[key]}, which the file does not define')
        records = Records(self)
        labelled = not self.test_mode or coco.dataset.get('annotations')
        for i, image in enumerate(images):
            at, name = f': images[{i}]', image['file_name']
            if not labelled:
                records.add(at, name, self._record(name, None))
                continue
            annotations = coco.imgToAnns.get(image['id'], [])
            if not annotations and not self.keep_empty:
                continue
            single: Set[int] = set()
            crowd: Set[int] = set()
            for a in annotations:
                label = index[a['category_id']]
                if label is not None:
                    (crowd if a.get('iscrowd') else single).add(label)
            positives = single | crowd if self.crowd == 'positive' else single
            unknown = crowd - single if self.crowd == 'unknown' else set()
            records.add(at, name, self._record(name, positives, unknown=unknown))
        return records.all()
