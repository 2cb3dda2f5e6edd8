"""Decoding image files with Pillow, 16 bits included."""

import io
from typing import Any, Dict, Optional

import mmcv
import numpy as np
from mmcv.transforms import LoadImageFromFile
from mmengine import fileio
from PIL import Image, ImageOps

from asl_det.errors import UserError
from asl_det.registry import TRANSFORMS, register


@register(TRANSFORMS)
class LoadImageWithPillow(LoadImageFromFile):
    """mmcv's loader with its Pillow backend, for grey images of 16 bits too.

    mmcv clips those to white; here, as in OpenCV and as in 16-bit colour
    images, the upper 8 bits count. Everything else is what mmcv loads with
    ``imdecode_backend='pillow'``: turned as EXIF says, without transparency,
    palettes and CMYK as BGR.

    Args:
        color_type, to_float32, ignore_empty, backend_args: as in mmcv's
            ``LoadImageFromFile``.

    Raises:
        UserError: for grey images of 32 bits, whose white is not known.
    """

    def __init__(self, color_type: str = 'color', to_float32: bool = False,
                 ignore_empty: bool = False, *, backend_args: Optional[Dict[str, Any]] = None
                 ) -> None:
        super().__init__(to_float32, color_type, 'pillow', ignore_empty=ignore_empty,
                         backend_args=backend_args)

    def transform(self, results: Dict[str, Any]) -> Optional[Dict[str, Any]]:
        try:
            image = self._load(results['img_path'])
        except Exception:
            if self.ignore_empty:
                return None
            raise
        results['img'] = image.astype(np.float32) if self.to_float32 else image
        results['img_shape'] = results['ori_shape'] = image.shape[:2]
        return results

    def _load(self, path: str) -> np.ndarray:
        content = fileio.get(path, backend_args=self.backend_args)
        with Image.open(io.BytesIO(content)) as image:
            if image.mode[0] in 'IF':
                return self._upper_bits(image, path)
        return mmcv.imfrombytes(content, flag=self.color_type, backend='pillow')

    def _upper_bits(self, image: Image.Image, path: str) -> np.ndarray:
        # Pillow before 11.3 opens 16-bit PNG as I.
        if image.mode == 'F' or image.mode == 'I' and image.format != 'PNG':
            raise UserError(f'image {path} has 32 bits a pixel (mode {image.mode}), and what is '
                            'white in it is not known: save it with 8 or 16 bits')
        if self.color_type in ('color', 'grayscale'):
            image = ImageOps.exif_transpose(image)
        grey = (np.asarray(image).astype(np.uint16) >> 8).astype(np.uint8)
        if self.color_type.startswith('grayscale'):
            return grey
        return np.repeat(grey[..., None], 3, 2)


def loader_in(dataset: Any) -> Optional[LoadImageFromFile]:
    """What a data set, in any wrapper, loads images with; None if it loads something else."""
    while dataset is not None and not hasattr(dataset, 'pipeline'):
        inside = getattr(dataset, 'datasets', None) or [getattr(dataset, 'dataset', None)]
        dataset = inside[0]
    steps = getattr(getattr(dataset, 'pipeline', None), 'transforms', ())
    return next((step for step in steps if isinstance(step, LoadImageFromFile)), None)


def load_rgb(path: str, loader: Optional[LoadImageFromFile] = None) -> np.ndarray:
    """A picture to be looked at, as a network gets it: ``(H, W, 3)`` uint8 in RGB.

    Args:
        path: image file.
        loader: of the pipeline; by default :class:`LoadImageWithPillow`.

    Raises:
        Exception: whatever the loader raises for a broken file.
    """
    results = (loader or LoadImageWithPillow()).transform(dict(img_path=path))
    if results is None:
        raise UserError(f'image {path} can not be loaded')
    image = results['img']
    if image.ndim == 2:
        image = image[..., None]
    image = image[..., [min(c, image.shape[2] - 1) for c in (2, 1, 0)]]
    if image.dtype == np.uint16:
        image = image >> 8
    return np.ascontiguousarray(image.clip(0, 255).astype(np.uint8))
