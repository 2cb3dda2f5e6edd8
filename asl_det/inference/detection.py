"""Detection on pictures: mmdet's inferencer, with what a checkpoint says read as data.

Imported where a detector is used: mmdet's inferencer imports its models.
"""

from typing import Any, Dict, Iterable, List, Optional, Union

import numpy as np
import torch
from mmdet.apis import DetInferencer as MMDetInferencer
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.structures import InstanceData
from torch import nn

from asl_det.analysis.calibration import box_scores, rounded
from asl_det.analysis.visualizer import BoxVisualizer
from asl_det.errors import UserError
from asl_det.inference.opening import ConfigLike, FromCheckpoint
from asl_det.multilabel import MultiLabelClassifier
from asl_det.multilabel.thresholds import Thresholds


class DetInferencer(FromCheckpoint, MMDetInferencer):
    """mmdet's ``DetInferencer``, with another way to the network.

    The config in a checkpoint is not executed, weights have to fit, none are
    fetched, and no data set has to be there.

    Args:
        model: config (file, ``mmdet::`` name, ``Config`` or dict). None for
            the one that travels in the checkpoint.
        weights: the checkpoint, a file or a URL.
        device: e.g. 'cuda:0'; by default a GPU if there is one.
        thresholds: from which score a box is drawn and counts as predicted: a
            number, or :class:`Thresholds` with a calibration of their own. By
            default those in the checkpoint, or else those of its loss.
        show_progress: a progress bar during a call.

    Raises:
        UserError: if the checkpoint does not fit, or is no detector.
    """

    units = 'boxes'

    def __init__(self, model: Optional[ConfigLike] = None, weights: Optional[str] = None,
                 device: Optional[str] = None,
                 thresholds: Union[Thresholds, float, None] = None,
                 show_progress: bool = True) -> None:
        self._open(model, weights, thresholds)
        self._least = torch.tensor(self.thresholds.of(self.classes), dtype=torch.float64)
        super().__init__(self.opened.cfg, self.opened.source, device, 'mmdet',
                         show_progress=show_progress)

    def _init_model(self, cfg: Config, weights: Optional[str], device: str = 'cpu') -> nn.Module:
        model = self.opened.build(device)
        if isinstance(model, MultiLabelClassifier):
            raise UserError(f'checkpoint {weights} is of a MultiLabelClassifier, not of a detector:'
                            ' MultiLabelInferencer is for classifiers')
        return model

    def _init_visualizer(self, cfg: Config) -> BoxVisualizer:
        # Not the config's, whose backends may send pictures to a server.
        visualizer = BoxVisualizer()
        visualizer.dataset_meta = self.opened.metainfo
        return visualizer

    def forward(self, inputs: Any, **kwargs: Any) -> List[DetDataSample]:
        """Predictions whose ``scores`` are calibrated, float64; ``raw_scores`` are as they came."""
        samples = super().forward(inputs, **kwargs)
        for sample in samples:
            found = sample.pred_instances
            labels = found.labels.cpu().numpy()
            if len(labels) and labels.max() >= len(self.classes):
                raise UserError(f'checkpoint {self.opened.source} names {len(self.classes)} '
                                f'classes, but the network predicts number {labels.max()}')
            found.raw_scores = found.scores
            found.scores = torch.from_numpy(box_scores(
                self.thresholds, self.classes, found.scores.cpu().numpy(), labels)
            ).to(found.scores.device)
        return samples

    def result(self, sample: DetDataSample, top_k: Optional[int] = None,
               threshold: Optional[float] = None) -> List[Dict[str, Any]]:
        """All boxes, the highest score first.

        Args:
            sample: a prediction.
            top_k: at most so many of them are ``predicted``.
            threshold: in the place of the thresholds of all classes.

        Returns:
            ``dict(category_id, label, bbox, score, predicted)``: place in
            ``classes``, name, ``[x, y, width, height]`` in pixels of the
            picture, and whether the score reaches the threshold.
        """
        found = sample.pred_instances.cpu()
        order = torch.argsort(found.scores, descending=True, stable=True)
        chosen = self._chosen(sample, top_k, threshold)
        boxes = found.bboxes if isinstance(found.bboxes, torch.Tensor) else found.bboxes.tensor
        results = []
        for i in order.tolist():
            x1, y1, x2, y2 = boxes[i].tolist()
            label = int(found.labels[i])
            results.append(dict(category_id=label, label=self.classes[label],
                                bbox=[round(v, 3) for v in (x1, y1, x2 - x1, y2 - y1)],
                                score=rounded(float(found.scores[i])),
                                predicted=bool(chosen[i])))
        return results

    def kept(self, sample: DetDataSample) -> Dict[str, Any]:
        """What is kept of a sample beside its :meth:`result`, to draw it again."""
        return dict(masks=True) if 'masks' in sample.pred_instances else {}

    def restore(self, record: Dict[str, Any]) -> Optional[DetDataSample]:
        """The sample of a kept result; None where it had masks, which are not kept."""
        if record.get('masks'):
            return None
        boxes = record['result']
        corners = torch.tensor([box['bbox'] for box in boxes]).reshape(-1, 4)
        corners[:, 2:] += corners[:, :2]
        labels = torch.tensor([box['category_id'] for box in boxes], dtype=torch.int64)
        return DetDataSample(pred_instances=InstanceData(
            bboxes=corners, labels=labels,
            scores=torch.tensor([box['score'] for box in boxes], dtype=torch.float64)))

    def picture(self, image: np.ndarray, sample: DetDataSample,
                top_k: Optional[int] = None, threshold: Optional[float] = None) -> np.ndarray:
        """A picture ``(H, W, 3)`` in BGR with its predicted boxes (and masks), in RGB.

        A small one is enlarged (:class:`~asl_det.analysis.visualizer.BoxVisualizer`).
        ``threshold`` takes the place of the thresholds of all classes.
        """
        sample = sample.cpu()
        drawn = DetDataSample(metainfo=sample.metainfo)
        drawn.pred_instances = sample.pred_instances[self._chosen(sample, top_k, threshold)]
        return self.visualizer.drawing(np.ascontiguousarray(image[..., ::-1]), drawn, threshold=-1)

    def _chosen(self, sample: DetDataSample, top_k: Optional[int],
                threshold: Optional[float] = None) -> torch.Tensor:
        """Which boxes are predicted, bool ``(N,)``."""
        found = sample.pred_instances.cpu()
        least = self._least[found.labels] if threshold is None else threshold
        chosen = found.scores >= least
        if top_k is not None:
            order = torch.argsort(found.scores, descending=True, stable=True)
            chosen[order[top_k:]] = False
        return chosen

    @staticmethod
    def as_json(records: Iterable[Dict[str, Any]]) -> List[Dict[str, Any]]:
        """Kept results in COCO's result format: all boxes of all pictures.

        ``image_id`` counts pictures from 0, ``category_id`` is the place in
        the list of classes from 0; ``file``, ``frame`` and ``label`` name
        them.
        """
        return [dict(image_id=number, category_id=box['category_id'], bbox=box['bbox'],
                     score=box['score'], label=box['label'], file=r['file'],
                     **({'frame': r['frame']} if 'frame' in r else {}))
                for number, r in enumerate(records) for box in r['result']]

    @staticmethod
    def as_rows(records: Iterable[Dict[str, Any]]) -> List[List[Any]]:
        """Kept results as csv: a row for every box that is predicted."""
        return [['file', 'frame', 'label', 'score', 'x', 'y', 'width', 'height'],
                *([r['file'], r.get('frame', ''), box['label'], box['score'], *box['bbox']]
                  for r in records for box in r['result'] if box['predicted'])]
