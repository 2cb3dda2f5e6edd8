from asl_det.multilabel.datasets.coco import CocoMultiLabelDataset
from asl_det.multilabel.datasets.csv_files import CSVMultiLabelDataset, NUSWIDEDataset
from asl_det.multilabel.datasets.dataset import MultiLabelDataset
from asl_det.multilabel.datasets.open_images import OpenImagesMultiLabelDataset
from asl_det.multilabel.datasets.voc import VOCMultiLabelDataset

__all__ = ['CSVMultiLabelDataset', 'CocoMultiLabelDataset', 'MultiLabelDataset', 'NUSWIDEDataset',
           'OpenImagesMultiLabelDataset', 'VOCMultiLabelDataset']
