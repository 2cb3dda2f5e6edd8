"""Metrics of multi-label classification."""

import csv
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence

import numpy as np
from mmengine.evaluator import BaseMetric
from mmengine.logging import MMLogger

from asl_det.errors import UserError
from asl_det.registry import METRICS


@METRICS.register_module()
class MultiLabelMetric(BaseMetric):
    """mAP and precision, recall and F1, per class and overall.

    All values lie in [0, 1]. Entries whose label is unknown (-1) are left out
    of everything.

    ==================  ====================================================
    ``mAP``             average precision (AP) of every class, their mean
    ``mAP_weighted``    the same, weighted by the positives of a class
    ``mAP_pooled``      AP of all entries of all classes in one list (micro)
    ``CP, CR``          mean over classes of precision and of recall
    ``CF1``             F1 of ``CP`` and ``CR``: what papers print
    ``mean_class_F1``   mean over classes of F1: the reference's script
    ``OP, OR, OF1``     of all entries together (micro)
    ``top3_...``        the same where the 3 classes of an image with the
                        highest scores are predicted, whatever the threshold
    ==================  ====================================================

    Conventions. AP is the sum over thresholds of precision times the gain in
    recall, not interpolated; equal scores share one threshold (scikit-learn's
    ``average_precision_score``). A class without predictions has precision 0.
    Classes without positives have no AP and no recall: they are left out of
    every mean over classes, and ``classes_without_positives`` counts them.
    Predictions are the samples' ``pred_labels``, so the threshold is the
    classifier's. Top k ranks all classes of an image, those with unknown label
    too; among equal scores the lower index is first.

    Args:
        topk: values of k.
        classwise: print a table with the AP of every class.
        outfile_prefix: write ``<prefix>.classes.csv`` (counts, AP, precision,
            recall and F1 of every class) and ``<prefix>.scores.npz`` (scores,
            targets, image paths, class names).
        collect_device, prefix: as in mmengine.
    """

    default_prefix = 'multilabel'

    def __init__(self, topk: Sequence[int] = (3,), classwise: bool = False,
                 outfile_prefix: Optional[str] = None, collect_device: str = 'cpu',
                 prefix: Optional[str] = None) -> None:
        super().__init__(collect_device, prefix)
        self.topk = tuple(topk)
        self.classwise = classwise
        self.outfile_prefix = outfile_prefix

    def process(self, data_batch: Any, data_samples: Sequence[Dict[str, Any]]) -> None:
        for sample in data_samples:
            self.results.append((sample['scores'].cpu().numpy(),
                                 sample['gt_label'].cpu().numpy().astype(np.int8),
                                 sample['pred_labels'].cpu().numpy(),
                                 sample.get('img_path', '')))

    def compute_metrics(self, results: List[tuple]) -> Dict[str, float]:
        scores = np.stack([r[0] for r in results])
        targets = np.stack([r[1] for r in results])
        predicted = np.zeros(targets.shape, bool)
        for row, result in zip(predicted, results, strict=True):
            row[result[2]] = True
        overall, by_class = multilabel_metrics(scores, targets, predicted, self.topk)
        names = (self.dataset_meta or {}).get('classes') or list(map(str, range(len(scores[0]))))
        if self.classwise:
            MMLogger.get_current_instance().info('\n' + class_table(names, by_class))
        if self.outfile_prefix is not None:
            self._write(names, scores, targets, [r[3] for r in results], by_class)
        return overall

    def _write(self, names: Sequence[str], scores: np.ndarray, targets: np.ndarray,
               paths: List[str], by_class: Dict[str, np.ndarray]) -> None:
        prefix = Path(self.outfile_prefix)
        prefix.parent.mkdir(parents=True, exist_ok=True)
        with open(f'{prefix}.classes.csv', 'w', newline='') as file:
            writer = csv.writer(file)
            writer.writerow(['class', *by_class])
            for name, *values in zip(names, *by_class.values(), strict=True):
                writer.writerow([name, *('' if np.isnan(v) else f'{v:g}' for v in values)])
        np.savez_compressed(f'{prefix}.scores.npz', scores=scores, targets=targets,
                            img_path=np.array(paths), classes=np.array(names))


def multilabel_metrics(scores: np.ndarray, targets: np.ndarray, predicted: np.ndarray,
                       topk: Sequence[int] = (3,)) -> tuple:
    """The metrics of :class:`MultiLabelMetric` from arrays.

    Args:
        scores: float ``(N, C)``, higher is likelier.
        targets: ``(N, C)``: 1 present, 0 absent, -1 unknown.
        predicted: bool ``(N, C)``.
        topk: values of k, from 1 to C.

    Returns:
        Metrics by name, and by name an array ``(C,)`` of every class:
        ``positives, negatives, unknown, AP, precision, recall, F1``; NaN where
        a class has no positives.

    Raises:
        UserError: if scores are not finite, shapes differ or no label is
            positive.
    """
    if not scores.shape == targets.shape == predicted.shape:
        raise UserError(f'shapes differ: scores {scores.shape}, targets {targets.shape}, '
                        f'predicted {predicted.shape}')
    if not np.isfinite(scores).all():
        raise UserError('scores are not finite: the training has diverged; lower its learning rate')
    positive, negative = targets == 1, targets == 0
    positives = positive.sum(0)
    has = positives > 0
    if not has.any():
        raise UserError('no label is positive: check the annotation file')

    ap = np.full(len(has), np.nan)
    by_class = np.ascontiguousarray(scores.T)
    for c in np.flatnonzero(has):
        if positives[c] + negative[:, c].sum() == len(scores):
            ap[c] = average_precision(by_class[c], positive[:, c])
        else:
            known = targets[:, c] >= 0
            ap[c] = average_precision(by_class[c][known], positive[known, c])
    del by_class
    known = targets >= 0
    overall = dict(mAP=ap[has].mean(), mAP_weighted=np.average(ap[has], weights=positives[has]),
                   mAP_pooled=average_precision(scores[known], positive[known]))
    del known
    counts, classes = _precision_recall(predicted, positive, negative, positives, has)
    overall.update(counts)
    for k in topk:
        counts, _ = _precision_recall(top_k(scores, k), positive, negative, positives, has)
        overall.update({f'top{k}_{name}': value for name, value in counts.items()})
    overall = {name: float(value) for name, value in overall.items()}
    overall['classes_without_positives'] = int((~has).sum())
    return overall, dict(positives=positives, negatives=negative.sum(0),
                         unknown=(targets < 0).sum(0), AP=ap, **classes)


def average_precision(scores: np.ndarray, positive: np.ndarray) -> float:
    """AP of a list; every positive counts with the precision at its score.

    Args:
        scores: ``(M,)``.
        positive: bool ``(M,)``, at least one True.
    """
    hits = np.sort(scores[positive])
    rank = len(scores) - np.searchsorted(np.sort(scores), hits)
    hit_rank = len(hits) - np.searchsorted(hits, hits)
    return float(np.mean(hit_rank / rank))


def top_k(scores: np.ndarray, k: int) -> np.ndarray:
    """Mask of the k highest scores of every row; of equal scores the first."""
    if not 1 <= k <= scores.shape[1]:
        raise UserError(f'topk: {k}, but there are {scores.shape[1]} classes')
    mask = np.empty(scores.shape, bool)
    for start in range(0, len(scores), 1024):  # bounds the temporaries
        chunk = scores[start:start + 1024]
        border = np.partition(chunk, -k, axis=1)[:, -k, None]
        above, equal = chunk > border, chunk == border
        room = k - above.sum(1, keepdims=True)
        mask[start:start + 1024] = above | (equal & (equal.cumsum(1) <= room))
    return mask


def _precision_recall(predicted: np.ndarray, positive: np.ndarray, negative: np.ndarray,
                      positives: np.ndarray, has: np.ndarray) -> tuple:
    """Overall values, and arrays of every class."""
    hits = (predicted & positive).sum(0)
    claims = hits + (predicted & negative).sum(0)
    with np.errstate(invalid='ignore'):
        precision = np.where(has, hits / np.maximum(claims, 1), np.nan)
        recall = hits / positives
        f1 = 2 * hits / (claims + positives)
    f1 = np.where(has, f1, np.nan)
    cp, cr = precision[has].mean(), recall[has].mean()
    op, orr = hits.sum() / max(claims.sum(), 1), hits.sum() / positives.sum()
    overall = dict(CP=cp, CR=cr, CF1=_f1(cp, cr), mean_class_F1=f1[has].mean(),
                   OP=op, OR=orr, OF1=_f1(op, orr))
    return overall, dict(precision=precision, recall=recall, F1=f1)


def _f1(precision: float, recall: float) -> float:
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def class_table(names: Sequence[str], by_class: Dict[str, np.ndarray]) -> str:
    """A text table, one class a line."""
    from io import StringIO

    from rich.console import Console
    from rich.table import Table
    table = Table('class', *by_class)
    for name, *values in zip(names, *by_class.values(), strict=True):
        table.add_row(name, *('-' if np.isnan(v) else f'{v:.3f}' if isinstance(v, float) else str(v)
                              for v in values))
    text = StringIO()
    Console(file=text, width=100).print(table)
    return text.getvalue()
