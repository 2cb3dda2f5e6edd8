"""Images of the ASL reference: 448 px square, Cutout and RandAugment; docs/recipe.md."""
image_size = (448, 448)
train_pipeline = [
    dict(type='LoadImageWithPillow'),
    # Pillow averages where it shrinks an image, OpenCV does not.
    dict(type='Resize', scale=image_size, keep_ratio=False, backend='pillow'),
    dict(type='ASLCutout'),
    dict(type='ASLRandAugment'),
    dict(type='PackMultiLabel')
]
test_pipeline = [
    dict(type='LoadImageWithPillow'),
    dict(type='Resize', scale=image_size, keep_ratio=False, backend='pillow'),
    dict(type='PackMultiLabel')
]
