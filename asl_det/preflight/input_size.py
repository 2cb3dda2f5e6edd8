"""The check of networks of a fixed size: that the pipelines give it."""

from typing import Any, Dict, Iterator, Optional, Set, Tuple

import numpy as np
import torch
from mmcv.transforms import LoadImageFromFile
from mmengine.registry import init_default_scope

from asl_det.multilabel.backbones import Backbone, TimmBackbone
from asl_det.preflight.finding import Finding
from asl_det.preflight.model import build_part
from asl_det.preflight.run import Run
from asl_det.registry import MODELS, TRANSFORMS, is_type, lookup

Size = Tuple[int, int]
PHOTOS = ((480, 640), (600, 450))  # height and width of images that go through the pipelines


def check_input_size(run: Run) -> Iterator[Finding]:
    """Backbones of timm and torchvision that may be of a fixed size take what they will get."""
    model = run.cfg.get('model') or {}
    node = model.get('backbone') if is_type(model, 'MultiLabelClassifier') else None
    own = node and not node.get('skip') and _own_size(node)
    if not own:
        return
    backbone = None
    for place, dataset in run.splits():
        sizes = _sizes(run, dataset)
        for height, width in sorted(sizes - {own}):
            backbone = backbone or build_part(dict(node, pooled=True))
            error = backbone and _refusal(backbone, (height, width))
            if error:
                name = 'img_size' if isinstance(backbone, TimmBackbone) else 'image_size'
                size = height if height == width else (height, width)
                yield Finding(
                    'size of the network', f'{run.config}: {place}.pipeline', f'gives images of '
                    f'{height} x {width}, which {node["model_name"]}, made for {own[0]} x {own[1]},'
                    f' does not take ({error}): resize to its size'
                    + (f', or set model.backbone.{name}={size}' if len(sizes) == 1 else ''))


def _own_size(node: Dict[str, Any]) -> Optional[Size]:
    """What a backbone is made for if others may be refused; None for networks of any size."""
    kind, name = lookup(MODELS, node), str(node.get('model_name'))
    if not isinstance(kind, type) or not issubclass(kind, Backbone):
        return None
    if issubclass(kind, TimmBackbone):
        import timm
        known = timm.models.get_pretrained_cfg(name) if timm.is_model(name) else None
        if known is None or not (known.fixed_input_size or 'vit' in name):
            return None
        size = node.get('img_size') or known.input_size[1:]
    elif name.startswith(('vit', 'maxvit')):
        size = node.get('image_size') or node.get('input_size') or 224
    else:
        return None
    return (size, size) if isinstance(size, int) else tuple(size)


def _sizes(run: Run, dataset: Dict[str, Any]) -> Set[Size]:
    """Heights and widths that a pipeline makes of two photos; none where it makes no image."""
    init_default_scope(run.cfg.get('default_scope') or 'mmdet')
    found = set()
    for height, width in PHOTOS:
        results = dict(img=np.zeros((height, width, 3), np.uint8), img_path='', sample_idx=0,
                       img_shape=(height, width), ori_shape=(height, width),
                       gt_label=np.zeros(1, np.int8))
        try:
            steps = [TRANSFORMS.build(step) for step in dataset.get('pipeline') or ()]
            if not any(isinstance(step, LoadImageFromFile) for step in steps):
                return set()
            for step in steps:
                if not isinstance(step, LoadImageFromFile):
                    results = step(results)
            found.add(tuple(results['inputs'].shape[-2:]))
        except Exception:  # other checks say what is wrong with a pipeline
            return set()
    return found


def _refusal(backbone: Backbone, size: Size) -> str:
    """What a network says of images of this size, or ''."""
    try:
        with torch.no_grad():
            backbone.eval()(torch.zeros(1, 3, *size))
    except Exception as error:
        return ' '.join(str(error).split()) or type(error).__name__
    return ''
