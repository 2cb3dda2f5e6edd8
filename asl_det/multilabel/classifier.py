from typing import Any, Dict, List, Optional, Sequence, Union

import numpy as np
import torch
from mmengine.model import BaseModel
from mmengine.runner import CheckpointLoader
from scipy.special import logit
from torch import Tensor

from asl_det.compat.weights import load_weights, weights_of
from asl_det.errors import UserError
from asl_det.multilabel.backbones import Backbone
from asl_det.multilabel.heads import Head
from asl_det.multilabel.sample import MultiLabelSample
from asl_det.multilabel.thresholds import Points, Thresholds, along, probability
from asl_det.registry import MODELS, class_of, register


@register(MODELS)
class MultiLabelClassifier(BaseModel):
    """Backbone, optional neck and head, for mmengine's Runner.

    Args:
        backbone: config of any registered backbone: mmdet's,
            :class:`TimmBackbone`, :class:`TorchvisionBackbone`.
        head: config of :class:`LinearHead` or :class:`MLDecoderHead`; its
            ``loss`` names the loss.
        neck: config of a module between the two.
        data_preprocessor: config; ``ImgDataPreprocessor`` of mmengine
            normalises and stacks the images.
        threshold: probability from which a class is predicted; one number,
            or one a class. The metric's precision, recall and F1 follow it.
        channels_last: memory format of weights and images. The result is the
            same, convolutions are faster (two to three times for
            EfficientNet on CPU).
        checkpoint: weights of the whole network, classifier included, from a
            file, a URL or ``package://``; official files of the backbone
            (``{'model': ...}`` or a bare state dict) too. The backbone has an
            argument of this name for itself alone; ``load_from`` takes what
            fits.
        init_cfg: as in mmengine.

    Raises:
        UserError: if the width of the features is not known, the weights do
            not fit, or ``threshold`` is no probability, or one a class.
    """

    def __init__(self,
                 backbone: Dict[str, Any],
                 head: Dict[str, Any],
                 neck: Optional[Dict[str, Any]] = None,
                 data_preprocessor: Optional[Dict[str, Any]] = None,
                 threshold: Union[float, Sequence[float]] = 0.5,
                 channels_last: bool = True,
                 checkpoint: Optional[str] = None,
                 init_cfg: Optional[Dict[str, Any]] = None,
                 temperature: float = 1.0,
                 bias: float = 0.0) -> None:
        super().__init__(data_preprocessor, init_cfg)
        if neck is None and _is(backbone, Backbone) and _is(head, Head):
            self.backbone = MODELS.build(dict(dict(pooled=_class(head).pooled), **backbone))
            head = dict(dict(in_channels=self.backbone.num_features), **head)
        else:
            self.backbone = MODELS.build(backbone)
            if _is(head, Head) and 'in_channels' not in head:
                raise UserError('model.head.in_channels is needed: only TimmBackbone and '
                                'TorchvisionBackbone, without a neck, tell their channels')
        self.neck = MODELS.build(neck) if neck is not None else None
        self.head = MODELS.build(head)
        self.threshold = _checked(threshold, getattr(self.head, 'num_classes', None))
        self.least_logits: Optional[List[float]] = None  # in its place, on the network's logits
        self.temperature: Union[float, List[float]] = temperature
        self.bias: Union[float, List[float]] = bias
        self.curve: Points = ()
        self.channels_last = channels_last
        if channels_last:
            self.to(memory_format=torch.channels_last)
        if checkpoint:
            content = CheckpointLoader.load_checkpoint(checkpoint, map_location='cpu')
            load_weights(self, self.own_names(weights_of(content, checkpoint)), checkpoint,
                         take='all', hint='give weights of this network, or use load_from')
            for part in self.children():
                part.is_init = True  # or a training would initialise mmdet's backbones anew

    def use_thresholds(self, thresholds: Thresholds, classes: Sequence[str],
                       calibrate: bool = True) -> None:
        """Predict by these thresholds, on scores that are calibrated as they say.

        Args:
            thresholds: of classes by name.
            classes: names, in the order of the outputs.
            calibrate: False leaves the scores as the network gives them; the
                same classes are predicted.

        Raises:
            UserError: if they name other classes.
        """
        self.least_logits = thresholds.on_logits(classes)
        if calibrate:
            self.curve = thresholds.curve
            self.temperature, self.bias = thresholds.scales(classes)

    def own_names(self, weights: Dict[str, Tensor]) -> Dict[str, Tensor]:
        """Weights under names of the backbone's network alone, as those of this model.

        Args:
            weights: state dict of this model, which is returned as it is, or
                of a classification network as others publish it.
        """
        if any(name.startswith('backbone.') for name in weights):
            return weights
        if isinstance(self.backbone, Backbone):
            network, rest = self.backbone.split(weights)
            network = {f'backbone.model.{k}': v for k, v in network.items()}
            classifier = self.backbone.classifier
        else:  # mmdet's have the names of torchvision's, of which 'fc' is left out
            classifier = 'fc'
            rest = {k: v for k, v in weights.items() if k.startswith('fc.')}
            network = {f'backbone.{k}': v for k, v in weights.items() if k not in rest}
        for name, value in rest.items():
            own = self.head.own_name(name, classifier) if isinstance(self.head, Head) else None
            network[f'head.{own}' if own else name] = value
        return network

    def forward(self,
                inputs: Tensor,
                data_samples: Optional[List[MultiLabelSample]] = None,
                mode: str = 'tensor') -> Union[Tensor, Dict[str, Tensor], List[MultiLabelSample]]:
        """What ``mode`` asks for.

        Args:
            inputs: ``(N, 3, H, W)``, preprocessed.
            data_samples: one for every image, with ``gt_label`` for 'loss'.
            mode: 'tensor' for logits ``(N, C)``, 'loss' for ``dict(loss=...)``,
                'predict' for the samples with ``logits``, ``scores`` and
                ``pred_labels``.

        Raises:
            ValueError: for another mode.
        """
        if mode not in ('tensor', 'loss', 'predict'):
            raise ValueError(f"mode={mode!r}: expected 'tensor', 'loss' or 'predict'")
        if self.channels_last:
            inputs = inputs.contiguous(memory_format=torch.channels_last)
        features = self.backbone(inputs)
        if self.neck is not None:
            features = self.neck(features)
        if mode == 'loss':
            return self.head.loss(features, data_samples)
        logits = self.head(features)
        return logits if mode == 'tensor' else self._predict(logits, data_samples)

    def _predict(self, logits: Tensor,
                 samples: Optional[List[MultiLabelSample]]) -> List[MultiLabelSample]:
        logits = logits.float()
        calibrated = along(self.curve, logits) / logits.new_tensor(self.temperature) \
            + logits.new_tensor(self.bias)
        if self.least_logits is None:
            chosen = calibrated >= calibrated.new_tensor(list(map(logit, np.ravel(self.threshold))))
        else:
            chosen = logits >= logits.new_tensor(self.least_logits)
        samples = samples or [MultiLabelSample() for _ in logits]
        for sample, row, scores, labels in zip(samples, calibrated, calibrated.sigmoid(), chosen,
                                               strict=True):
            sample.logits, sample.scores = row, scores
            sample.pred_labels = labels.nonzero().squeeze(1)
        return samples


def is_classifier(model: Dict[str, Any]) -> bool:
    """Whether a network's config is of a :class:`MultiLabelClassifier`, not of a detector."""
    kind = class_of(MODELS, model.get('type'))
    return isinstance(kind, type) and issubclass(kind, MultiLabelClassifier)


def _checked(threshold: Any, classes: Optional[int]) -> Union[float, List[float]]:
    """A threshold, or a list of one for each of the classes."""
    if not isinstance(threshold, (list, tuple)):
        return probability(threshold, 'model.threshold')
    if classes is not None and len(threshold) != classes:
        raise UserError(f'model.threshold has {len(threshold)} numbers and the head {classes} '
                        'classes: expected one number, or one a class')
    return [probability(t, f'model.threshold[{i}]') for i, t in enumerate(threshold)]


def _class(config: Dict[str, Any]) -> Any:
    return class_of(MODELS, config['type'])


def _is(config: Dict[str, Any], base: type) -> bool:
    kind = _class(config)
    return isinstance(kind, type) and issubclass(kind, base)
