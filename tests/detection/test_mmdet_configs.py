"""``--loss asl`` on mmdet's own configs, as a user types it: two iterations and a validation."""

import re

import pytest
from processes import python

from asl_det.data.digits import make_digits

# What sets the size of training images, per kind of pipeline, below the data set.
RESIZE = ['pipeline.2.scale=(160,160)']
CHOICE = [f'pipeline.3.transforms.{a}.{b}.scales=[(256,256)]' for a, b in ((0, 0), (1, 0), (1, 2))]
CONFIGS = {
    'retinanet/retinanet_r18_fpn_1x_coco': RESIZE,
    'fcos/fcos_r50-caffe_fpn_gn-head_1x_coco': RESIZE,
    'atss/atss_r50_fpn_1x_coco': RESIZE,
    'yolof/yolof_r50-c5_8xb8-1x_coco': RESIZE,
    'yolox/yolox_tiny_8xb8-300e_coco': [],
    'yolo/yolov3_mobilenetv2_8xb24-320-300e_coco': [],
    'faster_rcnn/faster-rcnn_r50_fpn_1x_coco': RESIZE,
    'cascade_rcnn/cascade-rcnn_r50_fpn_1x_coco': RESIZE,
    'sparse_rcnn/sparse-rcnn_r50_fpn_1x_coco': RESIZE,
    'deformable_detr/deformable-detr_r50_16xb2-50e_coco': CHOICE,
    'dino/dino-4scale_r50_8xb2-12e_coco': CHOICE,
}
NESTED = ('yolox', 'yolov3')  # their data set is in another


@pytest.fixture(scope='module')
def digits(tmp_path_factory):
    root = tmp_path_factory.mktemp('data') / 'digits'
    make_digits(root, num_train=4, num_val=2)
    return root


@pytest.mark.exhaustive
@pytest.mark.parametrize('name', CONFIGS)
def test_a_config_of_mmdet_trains_with_the_flag(name, digits, tmp_path):
    data = 'train_dataloader.dataset' + '.dataset' * any(part in name for part in NESTED)
    options = [f'{data}.ann_file=instances_train.json', f'{data}.data_prefix.img=train/',
               *(f'{data}.{option}' for option in CONFIGS[name]),
               'model.backbone.init_cfg=None', 'train_cfg.max_epochs=1', 'train_cfg.val_interval=1',
               'default_hooks.logger.interval=1', 'train_dataloader.batch_size=2']
    for part in ('val', 'test'):
        options += [f'{part}_dataloader.dataset.ann_file=instances_val.json',
                    f'{part}_dataloader.dataset.data_prefix.img=val/',
                    f'{part}_evaluator.ann_file={digits}/instances_val.json']
    for part in ('train', 'val', 'test'):
        options += [f'{part}_dataloader.num_workers=0',
                    f'{part}_dataloader.persistent_workers=False']
    run = python('tools/train.py', f'mmdet::{name}.py', '--loss', 'asl', '--classes', *range(10),
                 '--data-root', f'{digits}/', '--work-dir', tmp_path, '--verbose',
                 '--cfg-options', *options)
    said = run.stdout + run.stderr
    assert run.returncode == 0, said[-3000:]
    losses = re.findall(r' loss: (\S+)', said)
    assert 'coco/bbox_mAP:' in said
    assert len(losses) >= 2 and all(0 < float(loss) < 1e4 for loss in losses), losses
