"""From an image file to the inputs of the classifier."""

import hashlib
from pathlib import Path
from typing import Any, Dict, Sequence, Union

import numpy as np
import torch
import torchvision
from mmcv.transforms import BaseTransform
from mmengine import fileio
from torchvision.transforms import InterpolationMode

from asl_det.errors import UserError
from asl_det.multilabel.sample import MultiLabelSample
from asl_det.registry import TRANSFORMS, register

if hasattr(torchvision, 'disable_beta_transforms_warning'):  # 0.15 and 0.16 call v2 a beta
    torchvision.disable_beta_transforms_warning()
from torchvision.transforms import v2  # noqa: E402


@register(TRANSFORMS)
class TorchvisionTransform(BaseTransform):
    """Any image transform of torchvision v2, between mmcv's.

    Reads and writes ``img``, ``(H, W, 3)`` uint8 in BGR as mmcv loads it;
    torchvision sees an RGB uint8 tensor ``(3, H, W)``.

    Args:
        name: class in ``torchvision.transforms.v2``, e.g. 'RandAugment'.
        **kwargs: its arguments. ``interpolation`` may be a string such as
            'bilinear'.

    Raises:
        UserError: if torchvision has no such transform, or it does not take
            these arguments.
    """

    def __init__(self, name: str, **kwargs: Any) -> None:
        if 'interpolation' in kwargs:
            kwargs['interpolation'] = InterpolationMode(kwargs['interpolation'])
        try:
            self.apply = getattr(v2, name)(**kwargs)
        except (AttributeError, TypeError) as error:
            raise UserError(f'TorchvisionTransform(name={name!r}) can not be made: {error}; the '
                            'names and arguments are those of torchvision.transforms.v2') from error

    def transform(self, results: Dict[str, Any]) -> Dict[str, Any]:
        rgb = np.ascontiguousarray(results['img'][..., ::-1].transpose(2, 0, 1))
        image = self.apply(torch.from_numpy(rgb)).numpy()
        results['img'] = np.ascontiguousarray(image.transpose(1, 2, 0)[..., ::-1])
        results['img_shape'] = results['img'].shape[:2]
        return results

    def __repr__(self) -> str:
        return f'TorchvisionTransform({self.apply})'


@register(TRANSFORMS)
class LoadFeatures(BaseTransform):
    """Load what ``asl-det data features`` computed, in the place of an image.

    Features are found by the content of the image file, so those of another
    image of the same name are never used.

    Args:
        folder: the folder that the command wrote.
        mirror: probability of the features of the mirrored image.

    Raises:
        UserError: if an image has no features there, or a file is broken.
    """

    def __init__(self, folder: str, mirror: float = 0.0) -> None:
        self.folder = folder
        self.mirror = mirror

    def transform(self, results: Dict[str, Any]) -> Dict[str, Any]:
        path = feature_path(self.folder, results['img_path'])
        try:
            as_is, mirrored = np.load(path, mmap_mode='r')
        except FileNotFoundError:
            raise UserError(f'{results["img_path"]} has no features in {self.folder}: make them '
                            f'with asl-det data features CONFIG {self.folder}') from None
        except (ValueError, EOFError, OSError) as error:
            raise UserError(f'{path}, the features of {results["img_path"]}, is cut off or broken '
                            f'({error}): delete it and run asl-det data features again') from None
        chosen = mirrored if np.random.random() < self.mirror else as_is
        results['img'] = np.array(chosen).transpose(1, 2, 0)
        results['img_shape'] = results['img'].shape[:2]
        return results


def feature_path(folder: Union[str, Path], img_path: Union[str, Path]) -> Path:
    """The file of an image's features, named by a hash of the image file."""
    name = hashlib.sha256(fileio.get(img_path)).hexdigest()[:32]
    return Path(folder, name[:2], f'{name}.npy')


@register(TRANSFORMS)
class PackMultiLabel(BaseTransform):
    """The last step: ``inputs`` (``(3, H, W)`` uint8, or features) and a data sample.

    Args:
        meta_keys: what of the results goes with the sample.
    """

    def __init__(self, meta_keys: Sequence[str] = ('sample_idx', 'img_path', 'ori_shape',
                                                   'img_shape')) -> None:
        self.meta_keys = meta_keys

    def transform(self, results: Dict[str, Any]) -> Dict[str, Any]:
        image = np.ascontiguousarray(results['img'].transpose(2, 0, 1))
        sample = MultiLabelSample(metainfo={k: results[k] for k in self.meta_keys if k in results})
        if 'gt_label' in results:
            sample.gt_label = torch.from_numpy(results['gt_label'])
        return dict(inputs=torch.from_numpy(image), data_samples=sample)
