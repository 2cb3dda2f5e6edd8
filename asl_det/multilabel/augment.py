"""The random augmentation of the ASL reference, on Pillow as there."""

from functools import partial
from typing import Any, Callable, Dict, Sequence, Tuple

import numpy as np
from mmcv.transforms import BaseTransform
from PIL import Image, ImageEnhance, ImageOps

from asl_det.errors import UserError
from asl_det.registry import TRANSFORMS, register

GREY = (128, 128, 128)
HIGHEST = 9  # of the magnitudes, which go from 1 to 9


@register(TRANSFORMS)
class ASLCutout(BaseTransform):
    """A square of one random colour; its centre lies anywhere, so most squares cross the border.

    Reads and writes ``img``, ``(H, W, 3)`` uint8. Like Pillow's rectangles, a
    square includes both its edges: with ``ratio`` 0.5, 225 of 448 pixels.

    Args:
        ratio: side of the square, as a share of the image's side.

    Raises:
        UserError: if the ratio is not in (0, 1].
    """

    def __init__(self, ratio: float = 0.5) -> None:
        if not 0 < ratio <= 1:
            raise UserError(f'ASLCutout(ratio={ratio}): expected more than 0, at most 1')
        self.ratio = ratio

    def transform(self, results: Dict[str, Any]) -> Dict[str, Any]:
        image = results['img']
        colour = np.random.randint(0, 256, 3)
        sides = []
        for length in image.shape[:2]:
            centre, half = np.random.randint(length), int(self.ratio * length + 0.5) // 2
            sides.append(slice(max(centre - half, 0), centre + half + 1))
        results['img'] = image.copy()
        results['img'][tuple(sides)] = colour
        return results

    def __repr__(self) -> str:
        return f'ASLCutout(ratio={self.ratio})'


@register(TRANSFORMS)
class ASLRandAugment(BaseTransform):
    """Random operations of random strength, as the package ``randaugment`` has them.

    Each of ``num_ops`` draws one of 15 operations and a magnitude from 1 to 9
    of 9, and is applied with probability ``p``. What an operation moves into
    the image is grey. ``RandAugment`` of torchvision (and mmdet) applies every
    operation, all with one magnitude, of a list without inversion and cutout,
    on black.

    Reads and writes ``img``, ``(H, W, 3)`` uint8 in BGR.

    Args:
        num_ops: operations, one after the other.
        p: probability of each.

    Raises:
        UserError: for arguments out of range.
    """

    def __init__(self, num_ops: int = 2, p: float = 0.5) -> None:
        if num_ops < 1 or not 0 <= p <= 1:
            raise UserError(f'ASLRandAugment(num_ops={num_ops}, p={p}): expected num_ops of 1 or '
                            'more and p from 0 to 1')
        self.num_ops = num_ops
        self.p = p

    def transform(self, results: Dict[str, Any]) -> Dict[str, Any]:
        image = Image.fromarray(results['img'][..., ::-1])
        names = list(OPERATIONS)
        for _ in range(self.num_ops):
            name = names[np.random.randint(len(names))]
            magnitude = np.random.randint(1, HIGHEST + 1)
            sign = np.random.choice((-1, 1))
            if np.random.random() < self.p:
                image = apply(name, image, magnitude, sign)
        results['img'] = np.ascontiguousarray(np.asarray(image)[..., ::-1])
        return results

    def __repr__(self) -> str:
        return f'ASLRandAugment(num_ops={self.num_ops}, p={self.p})'


def apply(name: str, image: Image.Image, magnitude: int, sign: int = 1) -> Image.Image:
    """One operation of ``OPERATIONS``.

    Args:
        name: of the operation.
        image: RGB.
        magnitude: from 0 to 9.
        sign: 1 or -1, the direction of what has one.
    """
    operation, at_zero, at_highest, signed = OPERATIONS[name]
    strength = at_zero + (at_highest - at_zero) * magnitude / HIGHEST
    return operation(image, strength * sign if signed else strength)


def _affine(image: Image.Image, matrix: Sequence[float],
            resample: Image.Resampling) -> Image.Image:
    return image.transform(image.size, Image.Transform.AFFINE, matrix, resample, fillcolor=GREY)


def _shear(image: Image.Image, slope: float, vertical: bool) -> Image.Image:
    matrix = (1, 0, 0, slope, 1, 0) if vertical else (1, slope, 0, 0, 1, 0)
    return _affine(image, matrix, Image.Resampling.BICUBIC)


def _translate(image: Image.Image, share: float, vertical: bool) -> Image.Image:
    width, height = image.size
    shift = (0, share * height) if vertical else (share * width, 0)
    return _affine(image, (1, 0, shift[0], 0, 1, shift[1]), Image.Resampling.NEAREST)


def _enhance(image: Image.Image, change: float, kind: Callable) -> Image.Image:
    return kind(image).enhance(1 + change)


def _small_cutout(image: Image.Image, side: float) -> Image.Image:
    """A square of up to 20 pixels, whatever the size of the image."""
    half = round(side) // 2
    x, y = (np.random.randint(length) for length in image.size)
    image = image.copy()
    image.paste((125, 122, 113), (max(x - half, 0), max(y - half, 0), x + half, y + half))
    return image


# Operation, its strength at magnitude 0 and at 9, and whether that has a random sign.
OPERATIONS: Dict[str, Tuple[Callable, float, float, bool]] = {
    'invert': (lambda image, _: ImageOps.invert(image), 0, 0, False),
    'autocontrast': (lambda image, _: ImageOps.autocontrast(image), 0, 0, False),
    'equalize': (lambda image, _: ImageOps.equalize(image), 0, 0, False),
    'posterize': (lambda image, bits: ImageOps.posterize(image, round(bits)), 8, 4, False),
    'solarize': (ImageOps.solarize, 256, 0, False),
    'cutout': (_small_cutout, 0, 20, False),
    'rotate': (lambda image, angle: image.rotate(angle, fillcolor=GREY), 0, 30, False),
    'shear_x': (partial(_shear, vertical=False), 0, 0.3, True),
    'shear_y': (partial(_shear, vertical=True), 0, 0.3, True),
    'translate_x': (partial(_translate, vertical=False), 0, 150 / 331, True),
    'translate_y': (partial(_translate, vertical=True), 0, 150 / 331, True),
    'color': (partial(_enhance, kind=ImageEnhance.Color), 0, 0.9, True),
    'contrast': (partial(_enhance, kind=ImageEnhance.Contrast), 0, 0.9, True),
    'sharpness': (partial(_enhance, kind=ImageEnhance.Sharpness), 0, 0.9, True),
    'brightness': (partial(_enhance, kind=ImageEnhance.Brightness), 0, 0.9, True),
}
