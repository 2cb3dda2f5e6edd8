"""Small networks and pictures, of random numbers."""

import numpy as np
import torch
from mmengine.config import Config
from mmengine.registry import MODELS
from PIL import Image

CLASSES = ('cat', 'dog', 'cow', 'owl')


def classifier_config(**more):
    """A classifier of four classes on images of 32 px."""
    pipeline = [dict(type='LoadImageWithPillow'),
                dict(type='Resize', scale=(32, 32), keep_ratio=False, backend='pillow'),
                dict(type='PackMultiLabel')]
    return Config(dict(
        model=dict(type='MultiLabelClassifier', threshold=0.5,
                   data_preprocessor=dict(type='ImgDataPreprocessor', mean=[0, 0, 0],
                                          std=[255, 255, 255], bgr_to_rgb=True),
                   backbone=dict(type='TimmBackbone', model_name='test_resnet', **more),
                   head=dict(type='LinearHead', num_classes=4,
                             loss=dict(type='AsymmetricLoss', use_sigmoid=True))),
        test_dataloader=dict(dataset=dict(pipeline=pipeline)),
        custom_imports=dict(imports=['asl_det'], allow_failed_imports=False)))


def save(cfg, path, classes=CLASSES, text=None, **meta):
    """A checkpoint as mmengine writes it, of random weights that differ between images."""
    torch.manual_seed(1)
    model = MODELS.build(cfg.model)
    if hasattr(model, 'head'):
        torch.nn.init.normal_(model.head.fc.weight, std=2.0)
    torch.save(dict(state_dict=model.state_dict(),
                    meta=dict(cfg=text or cfg.pretty_text,
                              dataset_meta=dict(classes=classes), **meta)), path)
    return str(path)


def photo(width=48, height=40, seed=0):
    """An image of smooth random colours, ``(H, W, 3)`` uint8 RGB."""
    small = np.random.default_rng(seed).integers(0, 255, (4, 5, 3), np.uint8)
    return np.asarray(Image.fromarray(small).resize((width, height), Image.BICUBIC))
