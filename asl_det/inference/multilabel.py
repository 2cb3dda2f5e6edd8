"""Multi-label classification of pictures, with the interface of mmengine's inferencers."""

from typing import Any, Dict, Iterable, Iterator, List, Optional, Sequence, Union

import numpy as np
import torch
from mmengine.config import Config
from mmengine.infer import BaseInferencer
from scipy.special import logit
from torch import nn

from asl_det.errors import UserError
from asl_det.inference.opening import ConfigLike, FromCheckpoint
from asl_det.inference.pipeline import Source, batches
from asl_det.multilabel import MultiLabelClassifier, MultiLabelSample
from asl_det.multilabel.thresholds import Thresholds

TOP_K = 10  # classes that are told, predicted or not
MOST_KEPT = 1000  # classes whose logits are kept


class MultiLabelInferencer(FromCheckpoint, BaseInferencer):
    """Labels of pictures: ``MultiLabelInferencer(config, checkpoint)(images)``.

    Images are paths, folders, arrays ``(H, W, 3)`` in BGR (uint8, as mmcv and
    OpenCV load them), or lists of those. Images of one shape are computed
    ``batch_size`` at a time; others are not padded to each other.

    The result is a dict with ``predictions``, one a picture: of its
    ``top_k`` classes and of all that are predicted, the highest score first,
    ``dict(label=name, score=probability, predicted=bool, logit=number)``, the
    last for comparisons, as scores are rounded and near 1 all the same; with
    ``return_datasamples=True`` the :class:`MultiLabelSample` itself. With
    ``return_vis=True``, ``visualization`` holds pictures with their labels
    and scores beside them, ``(H, W, 3)`` uint8 in RGB; else it is empty.

    Args:
        model: config (file, ``Config`` or dict). None for the one that
            travels in the checkpoint; it is read as data, not executed.
        weights: the checkpoint, a file or a URL.
        device: e.g. 'cuda:0'; by default a GPU if there is one.
        thresholds: from which score a class is predicted: a number, or
            :class:`Thresholds` with a calibration of their own. By default
            those in the checkpoint, or else ``model.threshold`` of the config.
        show_progress: a progress bar during a call.

    Raises:
        UserError: if the checkpoint does not fit, is no classifier, or an
            image can not be read.
    """

    units = 'labels'
    visualize_kwargs = {'return_vis', 'draw_top_k'}
    postprocess_kwargs = {'top_k'}

    def __init__(self, model: Optional[ConfigLike] = None, weights: Optional[str] = None,
                 device: Optional[str] = None,
                 thresholds: Union[Thresholds, float, None] = None,
                 show_progress: bool = True) -> None:
        self._open(model, weights, thresholds)
        super().__init__(self.opened.cfg, self.opened.source, device, 'mmdet', show_progress)
        if self.model.head.num_classes != len(self.classes):
            raise UserError(f'checkpoint {self.opened.source} names {len(self.classes)} classes, '
                            f'but the network has {self.model.head.num_classes}')
        self.model.use_thresholds(self.thresholds, self.classes)

    def _init_model(self, cfg: Config, weights: Optional[str], device: str = 'cpu') -> nn.Module:
        model = self.opened.build(device)
        if not isinstance(model, MultiLabelClassifier):
            raise UserError(f'checkpoint {weights} is of a {type(model).__name__}, not of a '
                            'MultiLabelClassifier: DetInferencer is for detectors')
        return model

    def _init_visualizer(self, cfg: Config) -> None:
        return None

    def preprocess(self, inputs: Iterable[Source], batch_size: int = 1,
                   **kwargs: Any) -> Iterator[Dict[str, Any]]:
        """Batches of images of one shape."""
        yield from map(self.collate_fn, batches(map(self.pipeline, inputs), batch_size))

    def visualize(self, inputs: Sequence[Source], preds: Sequence[MultiLabelSample],
                  return_vis: bool = False, draw_top_k: Optional[int] = None) -> List[np.ndarray]:
        """Pictures with ``draw_top_k`` classes beside them."""
        if not return_vis:
            return []
        return [self.picture(self.pipeline.load(source)['img'], sample, draw_top_k)
                for source, sample in zip(inputs, preds, strict=True)]

    def postprocess(self, preds: Sequence[MultiLabelSample], visualization: List[np.ndarray],
                    return_datasamples: bool = False,
                    top_k: Optional[int] = None) -> Dict[str, Any]:
        """The result of a call."""
        predictions = preds if return_datasamples else [self.result(p, top_k) for p in preds]
        return dict(predictions=list(predictions), visualization=visualization)

    def result(self, sample: MultiLabelSample, top_k: Optional[int] = None,
               threshold: Optional[float] = None) -> List[Dict[str, Any]]:
        """The ``top_k`` classes and all that are predicted, the highest score first.

        ``threshold`` takes the place of the thresholds of all classes.
        """
        if threshold is not None:
            sample = sample.clone()
            sample.pred_labels = (sample.logits >= logit(threshold)).nonzero().squeeze(1)
        top_k = TOP_K if top_k is None else top_k
        scores, logits = sample.scores.tolist(), sample.logits.nan_to_num().tolist()
        predicted = set(sample.pred_labels.tolist())
        order = sorted(range(len(logits)), key=lambda c: -logits[c])
        return [dict(label=self.classes[c], score=round(scores[c], 6), predicted=c in predicted,
                     logit=round(logits[c], 4))
                for rank, c in enumerate(order) if rank < top_k or c in predicted]

    def kept(self, sample: MultiLabelSample) -> Dict[str, Any]:
        """What is kept of a sample beside its :meth:`result`, to draw it again."""
        few = len(sample.logits) <= MOST_KEPT
        # Nine digits are those of float32.
        return dict(logits=[float(f'{v:.9g}') for v in sample.logits.nan_to_num().tolist()]) \
            if few else {}

    def restore(self, record: Dict[str, Any]) -> Optional[MultiLabelSample]:
        """The sample of a kept result; None where there are too many classes to keep all."""
        if 'logits' not in record:
            return None
        logits = torch.tensor(record['logits'])
        chosen = logits.double() >= torch.from_numpy(logit(self.thresholds.of(self.classes)))
        return MultiLabelSample(logits=logits, scores=logits.sigmoid(),
                                pred_labels=chosen.nonzero().squeeze(1))

    def picture(self, image: np.ndarray, sample: MultiLabelSample, top_k: Optional[int] = None,
                threshold: Optional[float] = None) -> np.ndarray:
        """A picture ``(H, W, 3)`` in BGR with the result beside it, in RGB.

        ``threshold`` takes the place of the thresholds of all classes.
        """
        from asl_det.analysis.pictures import draw_ranked  # matplotlib only when it is needed
        return draw_ranked(image[..., ::-1], self.result(sample, top_k, threshold))

    @staticmethod
    def as_json(records: Iterable[Dict[str, Any]]) -> List[Dict[str, Any]]:
        """Kept results as ``predictions.json``: an object a picture, its classes ranked."""
        return [dict(file=r['file'], **({'frame': r['frame']} if 'frame' in r else {}),
                     predictions=r['result']) for r in records]

    @staticmethod
    def as_rows(records: Iterable[Dict[str, Any]]) -> List[List[Any]]:
        """Kept results as csv: a row for every class that is predicted."""
        return [['file', 'frame', 'label', 'score', 'logit'],
                *([r['file'], r.get('frame', ''), entry['label'], entry['score'], entry['logit']]
                  for r in records for entry in r['result'] if entry['predicted'])]
