"""One training step of a detector on two made-up images."""

import torch
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData

SIZE = 128


def build_model(config):
    """The model of a config, without pretrained weights."""
    init_default_scope('mmdet')
    torch.manual_seed(0)
    model = MODELS.build(config.model)
    return model.train()


def training_step(model, size=SIZE):
    """Forward and backward in mode 'loss'; returns the losses as numbers."""
    shape = (size, size)
    sample = DetDataSample(metainfo=dict(
        img_shape=shape, ori_shape=shape, pad_shape=shape, batch_input_shape=shape,
        scale_factor=(1.0, 1.0)))
    sample.gt_instances = InstanceData(
        bboxes=torch.tensor([[10.0, 10, 60, 60], [50, 50, 120, 110], [70, 5, 90, 30]]),
        labels=torch.tensor([1, 4, 4]))
    images = torch.randint(0, 255, (2, 3, *shape), dtype=torch.uint8)
    data = dict(inputs=list(images), data_samples=[sample.clone(), sample.clone()])
    losses = model(**model.data_preprocessor(data, True), mode='loss')
    total, numbers = model.parse_losses(losses)
    total.backward()
    return {name: float(value) for name, value in numbers.items()}
