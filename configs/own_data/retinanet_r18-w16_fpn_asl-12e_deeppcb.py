"""Own data in COCO format: a small RetinaNet with the asymmetric loss on DeepPCB.

Copy this file and edit the five names below. The example, defects on circuit
boards (1,500 images of 320 px, 6 classes), is github.com/tangsanli5201/DeepPCB
converted to COCO json.

Box AP 0.463 (seed 0, with the margin 0.2; not run with 0.4) on the 500 test images, two CPU cores, 7 minutes.
    asl-det train asl_det::own_data/retinanet_r18-w16_fpn_asl-12e_deeppcb.py --data-root path/to/deeppcb/
"""
_base_ = '../digits/retinanet_r18-w16_fpn_asl-800i_digits.py'

data_root = 'data/deeppcb/'
train_ann, train_images = 'instances_trainval.json', 'images/'
test_ann, test_images = 'instances_test.json', 'images/'
classes = ('open', 'short', 'mousebite', 'spur', 'copper', 'pin-hole')
scale = (320, 320)

how_to_get_data = 'give the folder of your data with --data-root'

model = dict(bbox_head=dict(num_classes=len(classes)), test_cfg=dict(nms=dict(class_agnostic=False), max_per_img=100))
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='Resize', scale=scale, keep_ratio=True),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackDetInputs')
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=scale, keep_ratio=True),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(
        type='PackDetInputs',
        meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor'))
]
train_dataloader = dict(
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        metainfo=dict(classes=classes),
        data_root=data_root,
        ann_file=train_ann,
        data_prefix=dict(img=train_images),
        pipeline=train_pipeline))
val_dataloader = dict(
    dataset=dict(
        metainfo=dict(classes=classes),
        data_root=data_root,
        ann_file=test_ann,
        data_prefix=dict(img=test_images),
        pipeline=test_pipeline))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + test_ann)
test_evaluator = val_evaluator

train_cfg = dict(_delete_=True, type='EpochBasedTrainLoop', max_epochs=12, val_interval=4)
default_hooks = dict(
    logger=dict(log_metric_by_epoch=True), checkpoint=dict(by_epoch=True, interval=1))
log_processor = dict(by_epoch=True)
