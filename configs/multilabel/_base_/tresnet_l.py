"""TResNet-L, trained by the recipe of the reference."""
_base_ = './asl_recipe.py'

model = dict(
    threshold=0.7,
    backbone=dict(type='TimmBackbone', model_name='tresnet_l', pretrained=True),
    head=dict(num_classes=80))
