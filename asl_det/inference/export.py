"""A network as one ONNX file that says how to use it."""

import json
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple, Union

import numpy as np
import torch
from mmengine.config import Config
from mmengine.utils import digit_version
from torch import Tensor, nn

from asl_det.errors import UserError
from asl_det.files.code import versions
from asl_det.files.whole import require_output, whole_file
from asl_det.multilabel import MultiLabelClassifier
from asl_det.multilabel.thresholds import Thresholds, along
from asl_det.registry import is_type, type_name

TOLERANCE = 1e-4
LEAST = 1e-7  # of probabilities in float32 whose logits are finite
IMAGES = ('LoadImageFromFile', 'LoadImageWithPillow')
LOADING = (*IMAGES, 'LoadAnnotations', 'PackMultiLabel', 'PackDetInputs')
INSTALL = 'pip install "asl-det[export]"'


class Calibrated(nn.Module):
    """Logits ``(..., C)`` to calibrated probabilities.

    Args:
        thresholds: with the calibration.
        classes: their names, in the order of the outputs.
    """

    def __init__(self, thresholds: Thresholds, classes: Sequence[str]) -> None:
        super().__init__()
        self.curve, self.changes = thresholds.curve, thresholds.calibrates
        self.temperature: Tensor
        self.bias: Tensor
        for name, values in zip(('temperature', 'bias'), thresholds.scales(classes), strict=True):
            self.register_buffer(name, torch.tensor(values))

    def forward(self, logits: Tensor) -> Tensor:
        return (along(self.curve, logits) / self.temperature + self.bias).sigmoid()


class ClassifierNetwork(nn.Module):
    """Images ``(N, 3, H, W)`` to scores ``(N, C)``.

    Args:
        model: the classifier.
        calibrated: from logits to probabilities.
        logits: give logits, without that.
        raw: a second output, the probabilities without that.
    """

    def __init__(self, model: MultiLabelClassifier, calibrated: Calibrated, logits: bool,
                 raw: bool = False) -> None:
        super().__init__()
        self.outputs = ('scores', 'raw_scores')[:1 + raw]
        self.model = model.to(memory_format=torch.contiguous_format)
        model.channels_last = False
        self.calibrated, self.logits = calibrated, logits

    def forward(self, images: Tensor) -> Tuple[Tensor, ...]:
        logits = self.model(images)
        scores = logits if self.logits else self.calibrated(logits)
        return (scores, logits.sigmoid())[:len(self.outputs)]


class DetectorNetwork(nn.Module):
    """Images ``(N, 3, H, W)`` to boxes ``(N, P, 4)`` and scores ``(N, P, C)``, before any NMS.

    Boxes are left, top, right, bottom in pixels of the input, within it. Scores
    are those that NMS sorts by: probabilities times centerness or the like,
    where the head has it.

    Args:
        model: a single-stage detector whose head predicts as mmdet's
            ``BaseDenseHead`` does (RetinaNet, FCOS, ATSS, FSAF, VFNet, RTMDet
            and others; not those with a decoding of their own).
        size: H and W.
        calibrated: from logits of scores to probabilities.
        logits: give logits of scores, without that; not with centerness or
            softmax.
        raw: a third output, the scores without that.

    Raises:
        UserError: for another detector.
    """

    model: Any
    priors: Tensor

    def __init__(self, model: Any, size: Sequence[int], calibrated: Calibrated, logits: bool,
                 raw: bool = False) -> None:
        from mmdet.models.dense_heads.base_dense_head import BaseDenseHead
        super().__init__()
        head: Any = getattr(model, 'bbox_head', None)
        shared = ('predict_by_feat', '_predict_by_feat_single')
        if not isinstance(head, BaseDenseHead) or not all(
                getattr(type(head), name) is getattr(BaseDenseHead, name) for name in shared):
            part = type(head or model).__name__
            raise UserError(f'{part} decodes its boxes in a way of its own, which this export does '
                            "not know: it knows heads that predict as mmdet's BaseDenseHead "
                            '(RetinaNet, FCOS, ATSS, FSAF, VFNet, RTMDet); mmdeploy has others')
        if getattr(head.loss_cls, 'custom_cls_channels', False):
            raise UserError(f'{type(head.loss_cls).__name__} has channels of its own, which this '
                            'export does not know')
        self.model, self.size = model, tuple(size)
        with torch.no_grad():
            scores, _, *factors = head(model.extract_feat(torch.zeros(1, 3, *size)))
        self.factors = bool(factors) and factors[0] is not None
        if logits and (self.factors or not head.use_sigmoid_cls):
            raise UserError(f'the scores of {type(head).__name__} are products, or of a softmax, '
                            'and have no logits: leave --logits out')
        self.calibrated, self.logits = calibrated, logits
        self.outputs = ('boxes', 'scores', 'raw_scores')[:2 + raw]
        priors = head.prior_generator.grid_priors([s.shape[-2:] for s in scores], device='cpu')
        self.register_buffer('priors', torch.cat(list(priors)))

    def forward(self, images: Tensor) -> Tuple[Tensor, ...]:
        head = self.model.bbox_head
        scores, boxes, *factors = head(self.model.extract_feat(images))
        logits = scores = _one_list(scores, head.cls_out_channels)
        boxes = _one_list(boxes, head.bbox_coder.encode_size)
        # Of a softmax the last is the background.
        scores = scores.sigmoid() if head.use_sigmoid_cls else scores.softmax(-1)[..., :-1]
        if self.factors:
            scores = scores * _one_list(factors[0], 1).sigmoid()
        raw = scores
        if self.logits:
            scores = logits
        elif self.calibrated.changes:
            product = self.factors or not head.use_sigmoid_cls
            scores = self.calibrated(torch.logit(scores, LEAST) if product else logits)
        priors = self.priors.expand(boxes.size(0), -1, -1)
        decoded = head.bbox_coder.decode(priors.flatten(0, 1), boxes.flatten(0, 1),
                                         max_shape=self.size)
        return (decoded.reshape(boxes.size(0), -1, 4), scores, raw)[:len(self.outputs)]


Network = Union[ClassifierNetwork, DetectorNetwork]


def _one_list(levels: List[Tensor], channels: int) -> Tensor:
    """Maps ``(N, A * channels, h, w)`` of all levels to ``(N, P, channels)``."""
    return torch.cat([m.permute(0, 2, 3, 1).reshape(m.size(0), -1, channels) for m in levels], 1)


def preprocessing(cfg: Config, model: nn.Module, size: Optional[Tuple[int, int]] = None
                  ) -> Dict[str, Any]:
    """What is to be done to a picture, in the order of the keys.

    Args:
        cfg: with a test pipeline.
        model: with its data preprocessor.
        size: H and W of the input; None for that of the pipeline's Resize.

    Returns:
        ``size`` (H, W), ``keep_ratio`` (then the rest of the input, right and
        below, is filled after normalising), ``interpolation`` (None: nothing is
        resized), ``antialias`` (Pillow's resizing, not OpenCV's), ``channels``
        ('RGB' or 'BGR'), ``mean`` and ``std`` of values from 0 to 255, ``fill``.

    Raises:
        UserError: if the pipeline does anything else to a picture.
    """
    steps = cfg.test_dataloader.dataset.pipeline
    if not is_type(steps[0], *IMAGES):
        raise UserError(f'the test pipeline begins with {type_name(steps[0])}, not with an image: '
                        'give the config of the whole network')
    change = [step for step in steps if not is_type(step, *LOADING)]
    if len(change) > 1 or any(not is_type(step, 'Resize') or not step.get('scale')
                              for step in change):
        raise UserError('the file says how a picture is resized and normalised, but the test '
                        f'pipeline has {", ".join(map(type_name, change))}: expected one '
                        'Resize with scale at most')
    resize: Dict[str, Any] = dict(interpolation=None, backend='cv2', keep_ratio=False, scale=None)
    if change:
        resize = {**resize, 'interpolation': 'bilinear', **change[0]}
    normalise: Any = model.data_preprocessor
    if size is None:
        if not change:
            raise UserError('the test pipeline does not resize: give the size of the pictures with '
                            '--image-size HEIGHT WIDTH')
        scale = resize['scale']
        width, height = (scale, scale) if isinstance(scale, int) else scale
        divisor = getattr(normalise, 'pad_size_divisor', 1) if resize['keep_ratio'] else 1
        size = -(-height // divisor) * divisor, -(-width // divisor) * divisor
    enabled = getattr(normalise, '_enable_normalize', False)
    flipped = getattr(normalise, '_channel_conversion', False)
    return dict(
        size=list(size), keep_ratio=resize['keep_ratio'], interpolation=resize['interpolation'],
        antialias=resize['backend'] == 'pillow',
        channels='RGB' if flipped else 'BGR',
        mean=normalise.mean.flatten().tolist() if enabled else [0.0] * 3,
        std=normalise.std.flatten().tolist() if enabled else [1.0] * 3,
        fill=float(getattr(normalise, 'pad_value', 0)))


def export_onnx(model: nn.Module, cfg: Config, classes: Tuple[str, ...], out: Union[str, Path], *,
                thresholds: Optional[Thresholds] = None, logits: bool = False, raw: bool = False,
                size: Optional[Tuple[int, int]] = None, source: str = '') -> Dict[str, float]:
    """Write a network, and compare the file with it.

    The first dimension of the input, the batch, is free. Metadata, as json:
    ``task``, ``classes``, ``thresholds`` (as a thresholds.json), ``scores``
    ('probabilities', calibrated as the thresholds say, or 'logits', not),
    ``least`` (from which of these scores on a class is predicted, a list),
    ``preprocessing`` (see :func:`preprocessing`), ``nms`` (the detector's
    ``test_cfg``), ``source``.

    Args:
        model: classifier, or dense detector, with its weights.
        cfg: its config, with the test pipeline.
        classes: their names.
        out: file.
        thresholds: that travel with it, whose calibration is in the graph;
            None for 0.5.
        logits: of scores, in the place of probabilities, not calibrated.
        raw: one more output, ``raw_scores``: probabilities, not calibrated.
        size: H and W of the input; None for that of the pipeline.
        source: name of the checkpoint, for the metadata.

    Returns:
        The largest difference to torch of every output, at two batch sizes.

    Raises:
        UserError: if a package is missing, the network can not be exported, or
            the file gives other results: beyond ``1e-4 + 1e-4 |x|``.
    """
    require_output(out)
    try:
        import onnxruntime
        import onnxscript  # noqa: F401  torch's exporter needs it
    except ImportError as error:
        raise UserError(f'{error.name} is missing, which the export needs: {INSTALL}') from error
    if digit_version(torch.__version__) < digit_version('2.6'):
        raise UserError(f'torch {torch.__version__} does not write ONNX from torch.export: it '
                        'needs torch 2.6 or later')
    model = model.cpu().eval()
    picture = preprocessing(cfg, model, size)
    thresholds = thresholds or Thresholds(0.5)
    network: Network
    least = thresholds.on_logits(classes) if logits else thresholds.of(classes)
    calibrated = Calibrated(thresholds, classes)
    if isinstance(model, MultiLabelClassifier):
        task, network = 'multi-label', ClassifierNetwork(model, calibrated, logits, raw)
    else:
        task, network = 'detection', DetectorNetwork(model, picture['size'], calibrated, logits,
                                                     raw)
    metadata = dict(
        task=task, classes=list(classes), thresholds=thresholds.to_dict(), least=least,
        scores='logits' if logits else 'probabilities', preprocessing=picture,
        nms=dict(cfg.model.get('test_cfg') or {}) if task == 'detection' else None,
        source=dict(checkpoint=source, versions=versions()))
    program = _program(network, picture['size'])
    program.model.metadata_props.update({k: json.dumps(v) for k, v in metadata.items()})
    with whole_file(out) as file:
        program.save(file.name, external_data=False)
        session = onnxruntime.InferenceSession(file.name, providers=['CPUExecutionProvider'])
        return _compare(network, session, picture['size'])


def _program(network: Network, size: List[int]) -> Any:
    example = torch.zeros(2, 3, *size)
    batch = torch.export.Dim('batch', min=1)
    try:
        with torch.no_grad():
            # First without ONNX: mmdet's coders take a way that is broken where ONNX is asked for.
            exported = torch.export.export(network, (example,), strict=False,
                                           dynamic_shapes=({0: batch},))
            return torch.onnx.export(exported, input_names=['images'], dynamo=True, verbose=False,
                                     output_names=list(network.outputs))
    except Exception as error:  # of many kinds, in torch and onnxscript
        reason = str(error).strip().splitlines() or ['']
        raise UserError(f'torch can not export {type(network.model).__name__}: '
                        f'{type(error).__name__}: {reason[0][:200]}') from error


def _compare(network: Network, session: Any, size: List[int]) -> Dict[str, float]:
    generator = torch.Generator().manual_seed(0)
    differences = dict.fromkeys(network.outputs, 0.0)
    for batch in (1, 3):
        images = torch.randn(batch, 3, *size, generator=generator)
        with torch.no_grad():
            expected = network(images)
        for name, one, other in zip(network.outputs, expected, session.run(
                None, {'images': images.numpy()}), strict=True):
            one = one.numpy()
            differences[name] = max(differences[name], float(np.abs(one - other).max()))
            if not np.allclose(one, other, rtol=TOLERANCE, atol=TOLERANCE):
                raise UserError(f'the file gives {name} up to {differences[name]:.2g} away from '
                                'torch: it is not kept')
    return differences
