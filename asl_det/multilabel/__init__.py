"""Multi-label classification on mmengine's Runner; the loss comes by config."""

from asl_det.multilabel.augment import ASLCutout, ASLRandAugment
from asl_det.multilabel.backbones import TimmBackbone, TorchvisionBackbone
from asl_det.multilabel.classifier import MultiLabelClassifier
from asl_det.multilabel.datasets import (
                                         CocoMultiLabelDataset,
                                         CSVMultiLabelDataset,
                                         MultiLabelDataset,
                                         NUSWIDEDataset,
                                         OpenImagesMultiLabelDataset,
                                         VOCMultiLabelDataset,
)
from asl_det.multilabel.heads import LinearHead, MLDecoderHead
from asl_det.multilabel.loading import LoadImageWithPillow
from asl_det.multilabel.metric import MultiLabelMetric
from asl_det.multilabel.sample import MultiLabelSample
from asl_det.multilabel.transforms import LoadFeatures, PackMultiLabel, TorchvisionTransform

__all__ = [
    'ASLCutout', 'ASLRandAugment',
    'CSVMultiLabelDataset', 'CocoMultiLabelDataset', 'LinearHead', 'LoadFeatures',
    'LoadImageWithPillow', 'MLDecoderHead', 'MultiLabelClassifier', 'MultiLabelDataset',
    'MultiLabelMetric', 'MultiLabelSample', 'NUSWIDEDataset', 'OpenImagesMultiLabelDataset',
    'PackMultiLabel', 'TimmBackbone', 'TorchvisionBackbone', 'TorchvisionTransform',
    'VOCMultiLabelDataset'
]
