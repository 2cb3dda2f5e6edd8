from typing import Any, Dict, List, Optional, Sequence, Union

import torch
from mmengine.model import BaseModel
from torch import Tensor

from asl_det.multilabel.sample import MultiLabelSample
from asl_det.registry import MODELS


@MODELS.register_module()
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
        init_cfg: as in mmengine.
    """

    def __init__(self,
                 backbone: Dict[str, Any],
                 head: Dict[str, Any],
                 neck: Optional[Dict[str, Any]] = None,
                 data_preprocessor: Optional[Dict[str, Any]] = None,
                 threshold: Union[float, Sequence[float]] = 0.5,
                 channels_last: bool = True,
                 init_cfg: Optional[Dict[str, Any]] = None) -> None:
        super().__init__(data_preprocessor, init_cfg)
        self.backbone = MODELS.build(backbone)
        self.neck = MODELS.build(neck) if neck is not None else None
        self.head = MODELS.build(head)
        self.threshold = threshold
        self.channels_last = channels_last
        if channels_last:
            self.to(memory_format=torch.channels_last)

    def forward(self,
                inputs: Tensor,
                data_samples: Optional[List[MultiLabelSample]] = None,
                mode: str = 'tensor') -> Union[Tensor, Dict[str, Tensor], List[MultiLabelSample]]:
        """What ``mode`` asks for.

        Args:
            inputs: ``(N, 3, H, W)``, preprocessed.
            data_samples: one for every image, with ``gt_label`` for 'loss'.
            mode: 'tensor' for logits ``(N, C)``, 'loss' for ``dict(loss=...)``,
                'predict' for the samples with ``scores`` and ``pred_labels``.

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
        scores = logits.float().sigmoid()
        chosen = scores >= torch.as_tensor(self.threshold, device=scores.device)
        samples = samples or [MultiLabelSample() for _ in scores]
        for sample, row, labels in zip(samples, scores, chosen, strict=True):
            sample.scores = row
            sample.pred_labels = labels.nonzero().squeeze(1)
        return samples
