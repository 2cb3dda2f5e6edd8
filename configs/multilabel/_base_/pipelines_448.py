"""Square 448 px without keeping the ratio, Cutout 0.5 and RandAugment."""
image_size = (448, 448)
train_pipeline = [
    dict(type='LoadImageFromFile', imdecode_backend='pillow'),
    dict(type='Resize', scale=image_size, keep_ratio=False),
    # Cutout: a grey square of up to half the side.
    dict(type='TorchvisionTransform', name='RandomErasing', p=1.0, scale=(0.1, 0.25),
         ratio=(1.0, 1.0), value=128),
    dict(type='TorchvisionTransform', name='RandAugment'),
    dict(type='PackMultiLabel')
]
test_pipeline = [
    dict(type='LoadImageFromFile', imdecode_backend='pillow'),
    dict(type='Resize', scale=image_size, keep_ratio=False),
    dict(type='PackMultiLabel')
]
