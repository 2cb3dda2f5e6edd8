"""From a file or an array to the inputs of a network, as the config's test pipeline says."""

import os
from typing import Any, Dict, Iterable, Iterator, List, Union

import numpy as np
from mmcv.transforms import LoadAnnotations, LoadImageFromFile
from mmengine.config import Config
from PIL import Image, UnidentifiedImageError

from asl_det.errors import UserError
from asl_det.multilabel.loading import LoadImageWithPillow
from asl_det.registry import TRANSFORMS

Source = Union[str, os.PathLike, np.ndarray]


class UnreadableError(UserError):
    """A picture that can not be decoded."""


class InferencePipeline:
    """The test pipeline of a config, for pictures that no data set lists.

    Args:
        cfg: with ``test_dataloader``.

    Raises:
        UserError: if the pipeline does not begin with an image.
    """

    def __init__(self, cfg: Config) -> None:
        loader, *rest = pipeline_of(cfg)
        self.loader = TRANSFORMS.build(_local(loader))
        if type(self.loader) is LoadImageFromFile and self.loader.imdecode_backend == 'pillow':
            # The same but for grey pictures of 16 bits, which mmcv makes white.
            self.loader = LoadImageWithPillow(self.loader.color_type, self.loader.to_float32)
        if not isinstance(self.loader, LoadImageFromFile):
            raise UserError(f'the test pipeline begins with {loader["type"]}, not with an image: '
                            'give the config of the whole network, which reads images')
        built = [TRANSFORMS.build(step) for step in rest]
        self.steps = [step for step in built if not isinstance(step, LoadAnnotations)]

    def __call__(self, source: Source) -> Dict[str, Any]:
        """``inputs`` and ``data_samples`` of a picture."""
        return self.prepare(self.load(source))

    def load(self, source: Source) -> Dict[str, Any]:
        """The picture itself: ``img``, ``(H, W, 3)`` uint8 in BGR, and where it comes from.

        Args:
            source: path or URL of a file; or an array as mmcv loads it,
                ``(H, W, 3)`` uint8 in BGR, or ``(H, W)`` grey.

        Raises:
            UnreadableError: if a file is missing, or no picture, or cut off.
            UserError: for another array.
        """
        if isinstance(source, np.ndarray):
            return self._of_array(source)
        path = os.fspath(source)
        try:
            results = self.loader(dict(img_path=path, img_id=0))
            if self.loader.imdecode_backend != 'pillow':
                check_whole(path)
        except Exception as error:  # a decoder may raise anything for a broken file
            raise UnreadableError(f'{path}: {_reason(path, error)}') from error
        return results

    def prepare(self, results: Dict[str, Any]) -> Dict[str, Any]:
        """The steps after loading. The picture in ``results`` stays as it is."""
        results = dict(results, img=results['img'].copy())
        for step in self.steps:
            results = step(results)
        return results

    def _of_array(self, image: np.ndarray) -> Dict[str, Any]:
        if image.ndim == 2:
            image = np.stack([image] * 3, axis=2)
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
            raise UserError(f'an array of shape {image.shape} and type {image.dtype}: expected '
                            '(H, W, 3) in BGR or (H, W), uint8')
        if self.loader.to_float32:
            image = image.astype(np.float32)
        shape = image.shape[:2]
        return dict(img=image, img_path=None, img_id=0, img_shape=shape, ori_shape=shape)


def batches(items: Iterable[Dict[str, Any]], size: int) -> Iterator[List[Dict[str, Any]]]:
    """At most ``size`` neighbours a batch, of one shape: padding would change results.

    Args:
        items: what a pipeline returns; ``inputs`` is a tensor.
        size: of a batch.
    """
    batch: List[Dict[str, Any]] = []
    for item in items:
        if batch and (len(batch) == size or batch[0]['inputs'].shape != item['inputs'].shape):
            yield batch
            batch = []
        batch.append(item)
    if batch:
        yield batch


def check_whole(path: str, known: bool = False) -> None:
    """Raise what Pillow raises at a picture that is cut off, which OpenCV fills with grey.

    Args:
        path: of the file; URLs are left out, their transfer would have failed.
        known: raise at formats that Pillow does not know, too.
    """
    if not os.path.isfile(path):
        return
    try:
        image = Image.open(path)
    except UnidentifiedImageError:
        if known:
            raise
        return
    with image:
        image.draft('RGB', (1, 1))  # JPEG at an eighth of the size is enough
        image.load()


def _local(loader: Dict[str, Any]) -> Dict[str, Any]:
    """A loader that reads the file it is given, wherever the training data was."""
    return {k: v for k, v in loader.items() if k not in ('backend_args', 'file_client_args')}


def pipeline_of(cfg: Config) -> List[Dict[str, Any]]:
    """The test pipeline, inside any wrapper of a data set."""
    dataset = (cfg.get('test_dataloader') or {}).get('dataset')
    while isinstance(dataset, dict) and not dataset.get('pipeline'):
        inner = dataset.get('dataset') or dataset.get('datasets')
        dataset = inner[0] if isinstance(inner, (list, tuple)) and inner else inner
    if not isinstance(dataset, dict):
        raise UserError('the config has no test pipeline (test_dataloader.dataset.pipeline): give '
                        'the config that the network is tested with')
    return list(dataset['pipeline'])


def _reason(path: str, error: Exception) -> str:
    """Why a file is no picture, in a line."""
    if isinstance(error, FileNotFoundError):
        return 'there is no such file'
    if isinstance(error, UserError):
        return str(error).removeprefix(f'image {path} ')
    if isinstance(error, AssertionError):  # mmcv's, where OpenCV says nothing
        try:
            check_whole(path, known=True)
        except Exception as told:
            error = told
    if isinstance(error, UnidentifiedImageError):
        return 'no picture, its content is of no known format'
    return f'damaged ({type(error).__name__}: {error})'
