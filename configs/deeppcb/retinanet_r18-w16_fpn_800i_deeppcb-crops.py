"""RetinaNet with focal loss on crops of DeepPCB; with ASL: --loss asl.

Box AP on the 500 test images: docs/detection_results.md (400 iterations; 800 not run).
    asl-det train asl_det::deeppcb/retinanet_r18-w16_fpn_800i_deeppcb-crops.py --data-root path/to/deeppcb/
"""
_base_ = ['../digits/_base_/retinanet_tiny.py', './_base_/deeppcb_crops.py']

# A board has up to 15 defects, and those of two classes may overlap.
model = dict(
    bbox_head=dict(num_classes=6),
    test_cfg=dict(nms=dict(class_agnostic=False), max_per_img=100))
