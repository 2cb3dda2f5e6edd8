"""The augmentation of the reference: what it does to an image, and how often."""

import numpy as np
import pytest
from mmcv.transforms import Compose
from mmengine.config import Config
from PIL import Image, ImageDraw

from asl_det.errors import UserError
from asl_det.multilabel import augment
from asl_det.multilabel.augment import OPERATIONS, ASLCutout, ASLRandAugment, apply
from asl_det.registry import TRANSFORMS

Y, X = np.mgrid[:48, :64]
IMAGE = np.stack([30 + X * 3 % 128, 40 + (Y * 5 + X) % 140,
                  50 + ((X - 30)**2 + (Y - 20)**2) // 9 % 100], -1).astype(np.uint8)
RAMP = np.linspace(-1, 1, IMAGE.size).reshape(IMAGE.shape)

# Of the package randaugment 1.0.2 that the reference uses, on IMAGE: mean and mean times RAMP at
# magnitude 9, at 9 in the other direction, at 4.
GOLDEN = {
    'invert': [159.91, -2.17, 159.91, -2.17, 159.91, -2.17],
    'autocontrast': [114.15, 4.54, 114.15, 4.54, 114.15, 4.54],
    'equalize': [133.59, 5.01, 133.59, 5.01, 133.59, 5.01],
    'posterize': [87.55, 2.17, 87.55, 2.17, 93.52, 2.17],
    'solarize': [159.91, -2.17, 159.91, -2.17, 88.03, 1.16],
    'rotate': [101.41, 0.81, 101.41, 0.81, 98.78, 0.98],
    'shear_x': [99.57, 3.8, 98.36, 3.33, 97.15, 2.98],
    'shear_y': [101.08, 6.63, 98.51, -5.38, 97.88, 4.19],
    'translate_x': [112.18, 1.16, 108.63, 1.29, 103.85, 1.99],
    'translate_y': [110.24, 9.76, 109.46, -8.33, 102.93, 6.31],
    'color': [91.11, 1.75, 99.47, 2.65, 92.55, 1.96],
    'contrast': [91.49, 4.12, 99.07, 0.22, 92.73, 3.03],
    'sharpness': [95.12, 2.16, 95.01, 2.17, 95.09, 2.16],
    'brightness': [174.74, 3.33, 9.07, 0.22, 132.73, 3.03],
}


@pytest.mark.parametrize('name', GOLDEN)
def test_an_operation_does_what_that_of_the_reference_does(name):
    got = []
    for magnitude, sign in ((9, 1), (9, -1), (4, 1)):
        image = np.asarray(apply(name, Image.fromarray(IMAGE), magnitude, sign)).astype(float)
        got += [image.mean(), (image * RAMP).mean()]
    assert got == pytest.approx(GOLDEN[name], abs=0.05)


def test_the_cutout_among_the_operations_has_up_to_20_pixels():
    np.random.seed(0)
    sizes = set()
    for _ in range(200):
        image = np.asarray(apply('cutout', Image.new('RGB', (300, 200)), 9))
        changed = np.argwhere((image == (125, 122, 113)).all(-1))
        assert (image.any(-1).sum()) == len(changed)
        sizes.add(tuple(np.ptp(changed, axis=0) + 1))
    assert (20, 20) in sizes and max(map(max, sizes)) == 20
    assert any(20 not in size for size in sizes)  # some hang over a corner


def test_15_operations_are_drawn_alike_with_magnitudes_from_1_to_9(monkeypatch):
    assert set(OPERATIONS) == {*GOLDEN, 'cutout'} and len(OPERATIONS) == 15
    seen = []
    monkeypatch.setattr(augment, 'apply', lambda name, image, *strength:
                        seen.append((name, *strength)) or image)
    np.random.seed(0)
    transform, rounds = ASLRandAugment(), 6000
    counts = []
    for _ in range(rounds):
        before = len(seen)
        transform(dict(img=IMAGE))
        counts.append(len(seen) - before)
    # Two operations, each applied with probability 0.5.
    shares = np.bincount(counts, minlength=3) / rounds
    assert shares == pytest.approx([0.25, 0.5, 0.25], abs=0.03)
    for position, values in enumerate((list(OPERATIONS), range(1, 10), (-1, 1))):
        found = [entry[position] for entry in seen]
        assert set(found) == set(values)
        expected = len(seen) / len(values)
        assert all(abs(found.count(v) - expected) < 5 * expected**0.5 for v in values)


def test_randaugment_sees_rgb_and_returns_bgr(monkeypatch):
    monkeypatch.setattr(augment, 'apply', lambda name, image, *_:
                        Image.merge('RGB', [image.split()[0]] * 3))
    got = ASLRandAugment(p=1.0)(dict(img=IMAGE))['img']
    assert got.dtype == np.uint8 and (got == IMAGE[..., 2:]).all()
    assert (ASLRandAugment(p=0.0)(dict(img=IMAGE))['img'] == IMAGE).all()


@pytest.mark.parametrize('shape', [(448, 448), (225, 301)])
def test_cutout_is_the_rectangle_that_pillow_draws_around_any_centre(shape):
    height, width = shape
    image = np.full((height, width, 3), 200, np.uint8)
    np.random.seed(0)
    transform, touching, centres, colours = ASLCutout(0.5), 0, [], []
    for seed in range(400):
        np.random.seed(seed)
        got = transform(dict(img=image))['img']
        np.random.seed(seed)
        colour = tuple(map(int, np.random.randint(0, 256, 3)))
        y, x = np.random.randint(height), np.random.randint(width)
        half_y, half_x = int(0.5 * height + 0.5) // 2, int(0.5 * width + 0.5) // 2
        drawn = Image.fromarray(image)
        ImageDraw.Draw(drawn).rectangle(
            [max(x - half_x, 0), max(y - half_y, 0), min(x + half_x, width),
             min(y + half_y, height)], fill=colour)
        assert (got == np.asarray(drawn)).all()
        touching += not (half_y <= y < height - half_y and half_x <= x < width - half_x)
        centres.append((y / height, x / width))
        colours.append(colour)
    assert (image == 200).all()  # what came in is left alone
    assert touching / 400 == pytest.approx(0.75, abs=0.07)
    assert np.mean(centres, 0) == pytest.approx([0.5, 0.5], abs=0.06)
    assert np.std(colours, 0) == pytest.approx([74] * 3, abs=8)


def test_images_are_resized_as_pillow_does_after_reading_with_pillow(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (300, 500, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / 'a.png')
    config = Config.fromfile('configs/multilabel/tresnet-m_asl_coco-224.py')
    pipeline = Compose([TRANSFORMS.build(step)
                        for step in config.val_dataloader.dataset.pipeline])
    got = pipeline(dict(img_path=str(tmp_path / 'a.png')))['inputs']
    expected = Image.fromarray(noise).resize((224, 224), Image.Resampling.BILINEAR)
    assert (got.flip(0).permute(1, 2, 0).numpy() == np.asarray(expected)).all()


@pytest.mark.parametrize('kind, wrong', [(ASLCutout, dict(ratio=0)), (ASLCutout, dict(ratio=1.5)),
                                         (ASLRandAugment, dict(num_ops=0)),
                                         (ASLRandAugment, dict(p=1.5))])
def test_arguments_out_of_range_are_refused(kind, wrong):
    with pytest.raises(UserError, match='expected'):
        kind(**wrong)
