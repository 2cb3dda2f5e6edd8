"""One training step of a detector, small and on made-up images: does a loss fit its head?"""

import copy
import math
import re
from importlib.util import find_spec
from typing import Any, Dict, Iterator, List, NamedTuple, Optional

import numpy as np
import torch
from mmengine.config import Config
from mmengine.hub import get_config
from mmengine.logging import MessageHub
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData, PixelData
from torch import Tensor, nn

from asl_det.detection.places import ancestry, find_losses
from asl_det.detection.swap import Replacement, swap_losses
from asl_det.losses import AsymmetricLoss
from asl_det.registry import MODELS, is_type
from asl_det.training.hooks.classifier_prior import set_prior

SIZE = 128
FEWER = {'num_layers': 2, 'num_queries': 30, 'num_dn_queries': 10}
# A small config of mmdet for every head class of its configs that has classes to predict by
# sigmoid (or by softmax over proposals); what the kind of its loss is, swap_losses finds out.
HEADS = {
    'ATSSHead': 'atss/atss_r50_fpn_1x_coco',
    'BBoxHead': 'faster_rcnn/faster-rcnn_r50-caffe_c4-1x_coco',
    'BoxInstBboxHead': 'boxinst/boxinst_r50_fpn_ms-90k_coco',
    'CondInstBboxHead': 'condinst/condinst_r50_fpn_ms-poly-90k_coco_instance',
    'ConditionalDETRHead': 'conditional_detr/conditional-detr_r50_8xb2-50e_coco',
    'DABDETRHead': 'dab_detr/dab-detr_r50_8xb2-50e_coco',
    'DDODHead': 'ddod/ddod_r50_fpn_1x_coco',
    'DDQDETRHead': 'ddq/ddq-detr-4scale_r50_8xb2-12e_coco',
    'DIIHead': 'sparse_rcnn/sparse-rcnn_r50_fpn_1x_coco',
    'DINOHead': 'dino/dino-4scale_r50_8xb2-12e_coco',
    'DecoupledSOLOHead': 'solo/decoupled-solo_r50_fpn_1x_coco',
    'DecoupledSOLOLightHead': 'solo/decoupled-solo-light_r50_fpn_3x_coco',
    'DeformableDETRHead': 'deformable_detr/deformable-detr_r50_16xb2-50e_coco',
    'FCOSHead': 'fcos/fcos_r50-caffe_fpn_gn-head_1x_coco',
    'FSAFHead': 'fsaf/fsaf_r50_fpn_1x_coco',
    'FoveaHead': 'foveabox/fovea_r50_fpn_4xb4-1x_coco',
    'GARPNHead': 'guided_anchoring/ga-rpn_r50-caffe_fpn_1x_coco',
    'GARetinaHead': 'guided_anchoring/ga-retinanet_r50-caffe_fpn_1x_coco',
    'GFLHead': 'gfl/gfl_r50_fpn_1x_coco',
    'LADHead': 'lad/lad_r50-paa-r101_fpn_2xb8_coco_1x',
    'LDHead': 'ld/ld_r18-gflv1-r101_fpn_1x_coco',
    'NASFCOSHead': 'nas_fcos/nas-fcos_r50-caffe_fpn_nashead-gn-head_4xb4-1x_coco',
    'PAAHead': 'paa/paa_r50_fpn_1x_coco',
    'PISARetinaHead': 'pisa/retinanet-r50_fpn_pisa_1x_coco',
    'RPNHead': 'rpn/rpn_r50_fpn_1x_coco',
    'RTMDetInsSepBNHead': 'rtmdet/rtmdet-ins_tiny_8xb32-300e_coco',
    'RTMDetSepBNHead': 'rtmdet/rtmdet_tiny_8xb32-300e_coco',
    'RepPointsHead': 'reppoints/reppoints-moment_r50_fpn-gn_head-gn_1x_coco',
    'RetinaHead': 'retinanet/retinanet_r18_fpn_1x_coco',
    'RetinaSepBNHead': 'nas_fpn/retinanet_r50_nasfpn_crop640-50e_coco',
    'SABLRetinaHead': 'sabl/sabl-retinanet_r50_fpn_1x_coco',
    'SCNetBBoxHead': 'scnet/scnet_r50_fpn_1x_coco',
    'SOLOHead': 'solo/solo_r50_fpn_1x_coco',
    'SOLOV2Head': 'solov2/solov2-light_r18_fpn_ms-3x_coco',
    'Shared2FCBBoxHead': 'faster_rcnn/faster-rcnn_r50_fpn_1x_coco',
    'Shared4Conv1FCBBoxHead': 'gn/mask-rcnn_r50_fpn_gn-all_2x_coco',
    'StageCascadeRPNHead': 'cascade_rpn/cascade-rpn_faster-rcnn_r50-caffe_fpn_1x_coco',
    'TOODHead': 'tood/tood_r50_fpn_1x_coco',
    'VFNetHead': 'vfnet/vfnet_r50_fpn_1x_coco',
    'YOLOFHead': 'yolof/yolof_r50-c5_8xb8-1x_coco',
    'YOLOV3Head': 'yolo/yolov3_mobilenetv2_8xb24-320-300e_coco',
    'YOLOXHead': 'yolox/yolox_tiny_8xb8-300e_coco',
}
# Why a step of a head's config can not be tried here.
NOT_HERE = {
    'LADHead': 'its assigner needs a trained teacher; the head is a PAAHead',
    **({} if find_spec('skimage') else {'BoxInstBboxHead': 'it needs scikit-image'}),
    'GroundingDINOHead': 'it needs a language model',
    'ATSSVLFusionHead': 'it needs a language model',
    'ConvFCBBoxHead': 'its configs need mmpretrain; Shared2FCBBoxHead is one',
}


class Trial(NamedTuple):
    """A training step of a model with a loss.

    Attributes:
        swaps: the losses that were replaced.
        losses: name -> value, of the whole model.
        reached: share of the negatives that have gradient, over the replaced
            losses that are asymmetric; NaN where there is none.
    """

    swaps: List[Replacement]
    losses: Dict[str, float]
    reached: float


def try_head(cfg: Config, loss: Optional[str], where: Optional[List[str]] = None,
             **options: Any) -> Trial:
    """Train one step, forward and backward, from the start that a training has.

    Args:
        cfg: of a detector. It is not changed.
        loss: as in :func:`asl_det.detection.swap_losses`; None: the config's.
        where: kinds of heads; None: all that the config has.
        **options: of the loss.

    Raises:
        RuntimeError: if a replaced loss is 0 or a gradient is not finite.
    """
    cfg = copy.deepcopy(cfg)
    swaps = []
    if loss is not None:
        kinds = {place.kind for place in find_losses(cfg.model)} - {None}
        swaps = swap_losses(cfg, loss, where or sorted(kinds), **options)
    model = build_model(cfg)
    start_as_trained(model, cfg)
    found = [m for m in model.modules() if isinstance(m, AsymmetricLoss)]
    counts = []
    for module in found:
        module.want_statistics = True
        module.register_forward_hook(lambda m, args, out: counts.append(m.statistics))
    losses = training_step(model, masks=_has_masks(cfg.get('train_dataloader')))
    for name, parameter in model.named_parameters():
        if parameter.grad is not None and not parameter.grad.isfinite().all():
            raise RuntimeError(f'the gradient of {name} is not finite')
    values = [v for k, v in losses.items() if re.search(r'loss(_rpn|_anchor)?_cls$', k)]
    if swaps and not (values and all(map(math.isfinite, values)) and sum(values) > 0):
        raise RuntimeError(f'the losses of classes are {values}')
    negatives = sum(float(s.n_neg) for s in counts)
    under = sum(float(s.n_under) for s in counts)
    return Trial(swaps, losses, 1 - under / negatives if negatives else math.nan)


def head_config(name: str) -> Config:
    """A config of mmdet with a small model."""
    cfg = get_config(f'mmdet::{name}.py')
    make_small(cfg.model)
    return cfg


def make_small(model: Dict[str, Any]) -> None:
    """Make the config of a model narrow, if on a ResNet, and free of files, in place."""
    for key in ('teacher_ckpt', 'pretrained'):
        model.pop(key, None)
    if isinstance(model.get('teacher_config'), str):
        teacher = model.teacher_config.removeprefix('configs/')
        model.teacher_config = dict(model=get_config(f'mmdet::{teacher}').model)
    _without_files(model)
    for stage in ('rpn', 'rpn_proposal'):
        for part in (model.get('train_cfg') or {}, model.get('test_cfg') or {}):
            if 'max_per_img' in (part.get(stage) or {}):
                part[stage].max_per_img = 30
    if is_type(model.backbone, 'ResNet') and 'shared_head' not in model.get('roi_head', {}):
        neck = model.neck[0] if isinstance(model.neck, list) else model.neck
        if 'DETRHead' in ancestry(model.get('bbox_head', {})):
            model.backbone.base_channels = 16
            neck.in_channels = [w // 4 for w in neck.in_channels]
            _fewer(model)
        else:
            _narrow(model)


def _without_files(node: Any) -> None:
    """Leave out weights that would be downloaded, in place."""
    if isinstance(node, dict) and (node.get('init_cfg') or {}).get('checkpoint'):
        node['init_cfg'] = None
    for value in node.values() if isinstance(node, dict) else node:
        if isinstance(value, (dict, list)):
            _without_files(value)


def _fewer(node: Any) -> None:
    """Few layers and queries of a DETR, in place."""
    for key, value in node.items():
        if key in FEWER and isinstance(value, int):
            node[key] = min(value, FEWER[key])
        elif isinstance(value, dict):
            _fewer(value)


def _narrow(node: Any) -> None:
    """A quarter of all widths, in place."""
    if isinstance(node, (list, tuple)):
        for item in node:
            _narrow(item)
    if not isinstance(node, dict):
        return
    if is_type(node, 'ResNet'):
        node['base_channels'] = 64
    for key, value in node.items():
        if re.search(r'(^|_)(channels?|num_groups)$', str(key)):
            node[key] = ([_quarter(v) for v in value] if isinstance(value, (list, tuple))
                         else _quarter(value))
        else:
            _narrow(value)


def _quarter(width: Any) -> Any:
    return width // 4 if isinstance(width, int) and width >= 32 else width


def build_model(config: Config) -> nn.Module:
    """The model of a config, in training mode, as it is built (not initialised)."""
    init_default_scope('mmdet')
    torch.manual_seed(0)
    model = MODELS.build(config.model)
    model.train()  # that of detectors with a teacher returns nothing
    return model


def start_as_trained(model: nn.Module, cfg: Config) -> None:
    """Initialise the weights as a training does: mmdet's way, then the priors of the config."""
    model.init_weights()
    for hook in cfg.get('custom_hooks') or []:
        if is_type(hook, 'ClassifierPriorHook'):
            for head in hook['heads']:
                set_prior(model, head, hook['prior'])
    for name in ('epoch', 'iter'):  # the Runner keeps them; TOOD and YOLOX read them
        MessageHub.get_current_instance().update_info(name, 0)


def training_step(model: nn.Module, size: int = SIZE, masks: bool = False) -> Dict[str, float]:
    """Forward and backward in mode 'loss' on two images of noise with three boxes.

    Returns:
        The losses as numbers.
    """
    losses = model(**model.data_preprocessor(made_up_batch(size, masks), True), mode='loss')
    total, numbers = model.parse_losses(losses)
    total.backward()
    return {name: float(value.detach()) for name, value in numbers.items()}


def made_up_batch(size: int = SIZE, masks: bool = False) -> Dict[str, Any]:
    """Two images of noise ``(3, size, size)`` with three boxes, and the masks of these.

    With masks there is a map of classes too, as detectors with a semantic
    branch want it.
    """
    from mmdet.structures import DetDataSample
    from mmdet.structures.mask import BitmapMasks

    shape = (size, size)
    sample = DetDataSample(metainfo=dict(
        img_shape=shape, ori_shape=shape, pad_shape=shape, batch_input_shape=shape,
        scale_factor=(1.0, 1.0)))
    boxes = torch.tensor([[10.0, 10, 60, 60], [50, 50, 120, 110], [70, 5, 90, 30]])
    sample.gt_instances = InstanceData(bboxes=boxes, labels=torch.tensor([1, 4, 4]))
    if masks:
        drawn = np.zeros((len(boxes), *shape), np.uint8)
        for mask, (left, top, right, bottom) in zip(drawn, boxes.int().tolist(), strict=True):
            mask[top:bottom, left:right] = 1
        sample.gt_instances.masks = BitmapMasks(drawn, *shape)
        sample.gt_sem_seg = PixelData(sem_seg=torch.zeros(1, *shape, dtype=torch.uint8))
    images: Tensor = torch.randint(0, 255, (2, 3, *shape), dtype=torch.uint8)
    return dict(inputs=list(images), data_samples=[sample.clone(), sample.clone()])


def _has_masks(node: Any) -> bool:
    """Whether the annotations that a data loader's config loads have masks."""
    if isinstance(node, dict):
        return bool(node.get('with_mask')) or any(map(_has_masks, node.values()))
    return isinstance(node, (list, tuple)) and any(map(_has_masks, node))


def check_heads(loss: str = 'asl') -> Iterator[Dict[str, Any]]:
    """Try every head class with the loss of its config and with another.

    Yields:
        ``head``, ``config``, ``kind``, ``reached`` (share of the negatives with
        gradient at the first iteration) and ``why``: what went wrong, '' if
        nothing did.
    """
    for head, name in [*HEADS.items(), *dict.fromkeys(set(NOT_HERE) - set(HEADS), '').items()]:
        row = dict(head=head, config=name, kind='', reached=math.nan, why=NOT_HERE.get(head, ''))
        if not row['why']:
            cfg = head_config(name)
            try:
                try_head(cfg, None)
                trial = try_head(cfg, loss)
                # A detector with proposals has heads of both stages.
                other = 'roi' if 'RPN' in head else 'rpn'
                row.update(reached=trial.reached, kind=', '.join(dict.fromkeys(
                    swap.kind for swap in trial.swaps if swap.kind != other)))
            except Exception as error:  # whatever a head of mmdet raises is the answer here
                row['why'] = f'{type(error).__name__}: {" ".join(str(error).split())}'
        yield row
