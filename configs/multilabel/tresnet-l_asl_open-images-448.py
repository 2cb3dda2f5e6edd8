"""ASL on Open Images, TResNet-L, 448 px.

Published: mAP 86.3. Not run here.

    asl-det train asl_det::multilabel/tresnet-l_asl_open-images-448.py
"""
_base_ = ['./_base_/tresnet_l.py', './_base_/open_images.py']

model = dict(threshold=0.995, head=dict(num_classes=9605))
# As papers on Open Images: a class without known negatives has AP 1 whatever is predicted.
val_evaluator = dict(need_negatives=True)
test_evaluator = val_evaluator
