"""Metrics of multi-label classification."""

import csv
import io
import logging
import zipfile
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Union

import numpy as np
import torch
from mmengine.evaluator import BaseMetric
from mmengine.logging import MMLogger, print_log
from rich.table import Table

from asl_det.errors import UserError
from asl_det.files.text import plain_console
from asl_det.files.whole import whole_file, write_whole
from asl_det.multilabel.measures import Kept, KeptImages, kept, lost_order, measure
from asl_det.registry import METRICS, register


@register(METRICS)
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
    too; among equal ones the lower index is first. Everything is ranked by the
    samples' ``logits``, as scores in float32 are 1 from a logit of 17 upwards;
    of samples that have ``scores`` alone the log says where this hides much.

    A data set without any positive label, such as a test set without labels,
    has no metrics (the log says so); its scores are written all the same.

    Memory grows with the entries whose label is known, about 9 bytes each, and
    at most 5 bytes for every class of an image (measured for 125,436 images of
    9,605 classes with 10 to 50 known labels: 0.34 GB). With ``outfile_prefix``
    it is 5 bytes for every class of every image (there: 6.1 GB).

    Args:
        topk: values of k. Those above the number of classes are left out, and
            the log says so before the first image is evaluated.
        need_negatives: leave a class of which no label is known to be negative
            out of every mean over classes, as papers on Open Images do: its AP
            is 1 whatever the scores are. False averages over every class that
            has positives, as scikit-learn and papers on completely labelled
            data do, where such a class hardly occurs.
            ``classes_without_negatives`` counts them either way.
        classwise: print a table with the AP of every class.
        outfile_prefix: write ``<prefix>.classes.csv`` (counts, AP, precision,
            recall and F1 of every class) and ``<prefix>.scores.npz`` (scores,
            logits, targets, image paths, class names).
        collect_device, prefix: as in mmengine.

    Raises:
        UserError: for scores that are not finite, or do not fit the classes.
    """

    default_prefix = 'multilabel'

    def __init__(self, topk: Sequence[int] = (3,), need_negatives: bool = False,
                 classwise: bool = False, outfile_prefix: Optional[str] = None,
                 collect_device: str = 'cpu', prefix: Optional[str] = None) -> None:
        super().__init__(collect_device, prefix)
        if not isinstance(topk, (list, tuple)) or not all(type(k) is int and k > 0 for k in topk):
            raise UserError(f'topk={topk!r}: expected whole numbers from 1, such as (1, 3)')
        self.topk = tuple(topk)
        self.need_negatives = need_negatives
        self.classwise = classwise
        self.outfile_prefix = outfile_prefix
        self._kept = KeptImages()
        self._have_logits = True

    @BaseMetric.dataset_meta.setter
    def dataset_meta(self, dataset_meta: Optional[Dict[str, Any]]) -> None:
        """The Runner sets it before a training starts."""
        self._dataset_meta = dataset_meta
        if dataset_meta and dataset_meta.get('classes'):
            self._fit_topk(len(dataset_meta['classes']))

    def _fit_topk(self, num_classes: int) -> None:
        beyond = [f'top{k}' for k in self.topk if k > num_classes]
        if beyond:
            print_log(f'{", ".join(beyond)}: left out of the metrics, there are {num_classes} '
                      'classes', logger='current', level=logging.WARNING)
            self.topk = tuple(k for k in self.topk if k <= num_classes)

    def process(self, data_batch: Any, data_samples: Sequence[Dict[str, Any]]) -> None:
        classes = (self.dataset_meta or {}).get('classes')
        for sample in data_samples:
            self._have_logits = 'logits' in sample
            scores = sample['logits' if self._have_logits else 'scores'].float().cpu().numpy()
            path = sample.get('img_path', '')
            if classes and len(classes) != len(scores):
                raise UserError(f'{len(scores)} scores an image, but the data set has '
                                f'{len(classes)} classes: set num_classes of the head')
            if not np.isfinite(scores).all() and (not self._have_logits or np.isnan(scores).any()):
                raise UserError(f'{path}: its scores are not finite: the training has diverged; '
                                'lower its learning rate')
            self._fit_topk(len(scores))
            target = sample.get('gt_label')
            target = np.full(len(scores), -1) if target is None else target.cpu().numpy()
            self._kept.append(kept(
                scores, target.astype(np.int8), sample['pred_labels'].cpu().numpy(),
                max(self.topk, default=0), path, dense=self.outfile_prefix is not None))

    def evaluate(self, size: int) -> Dict[str, float]:
        self.results = self._kept.images()  # what mmengine gathers from all processes
        self._kept = KeptImages()
        return super().evaluate(size)

    def compute_metrics(self, results: List[tuple]) -> Dict[str, float]:
        images = [Kept(*r) for r in results]  # mmengine makes plain tuples of them
        num_classes = images[0].num_classes
        names = (self.dataset_meta or {}).get('classes') or list(map(str, range(num_classes)))
        if self.outfile_prefix is not None:
            write_scores(Path(f'{self.outfile_prefix}.scores.npz'), images, names,
                         self._have_logits)
        if not self._have_logits:
            lost = lost_order((i.scores, i.targets == 1) for i in images)
            if lost is not None:
                print_log(f'{lost}. The metrics would be exact if the model put its logits into '
                          'the samples beside them', logger='current', level=logging.WARNING)
        overall, by_class = measure(images, num_classes, self.topk, self.need_negatives)
        if not overall:
            print_log(f'no metrics for these {len(images)} images: no class has known positives'
                      + (' and negatives' if self.need_negatives else ''), logger='current',
                      level=logging.WARNING)
        if self.classwise:
            MMLogger.get_current_instance().info('\n' + class_table(names, by_class))
        if self.outfile_prefix is not None:
            file = io.StringIO()
            writer = csv.writer(file)
            writer.writerow(['class', *by_class])
            for name, *values in zip(names, *by_class.values(), strict=True):
                writer.writerow([name, *('' if np.isnan(v) else f'{v:g}' for v in values)])
            write_whole(f'{self.outfile_prefix}.classes.csv', file.getvalue())
        return overall


def write_scores(path: Path, images: Sequence[Kept], classes: Sequence[str],
                 logits: bool = False) -> None:
    """An npz of all scores and targets ``(N, C)``, image paths and class names.

    Written row by row, so that the whole is never in memory twice.

    Args:
        path: of the file.
        images: with all their entries.
        classes: names.
        logits: what the images have are logits: both they and their sigmoid
            are written.
    """
    with whole_file(path) as whole, zipfile.ZipFile(whole, 'w', zipfile.ZIP_DEFLATED) as archive:
        for name in ('scores', *(['logits'] if logits else []), 'targets'):
            rows = [i.targets if name == 'targets' else i.scores for i in images]
            with archive.open(f'{name}.npy', 'w', force_zip64=True) as file:
                np.lib.format.write_array_header_1_0(file, dict(
                    shape=(len(rows), *rows[0].shape), fortran_order=False,
                    descr=np.lib.format.dtype_to_descr(rows[0].dtype)))
                for row in rows:
                    if logits and name == 'scores':
                        row = torch.tensor(row).sigmoid().numpy()
                    file.write(row.tobytes())
        for name, texts in (('img_path', [i.img_path for i in images]), ('classes', classes)):
            with archive.open(f'{name}.npy', 'w', force_zip64=True) as file:
                np.lib.format.write_array(file, np.array(texts))


class Scores(NamedTuple):
    """What the metric wrote.

    Attributes:
        scores: probabilities ``(N, C)``.
        targets: 1, 0 or -1 (unknown), ``(N, C)``.
        classes: names.
        logits: ``(N, C)``; None in files of a model that has none, and in
            those of earlier versions.
    """

    scores: np.ndarray
    targets: np.ndarray
    classes: List[str]
    logits: Optional[np.ndarray]


def read_scores(path: Union[str, Path]) -> Scores:
    """A file that the metric wrote.

    Raises:
        UserError: if there is no such file, or it is none.
    """
    if not Path(path).is_file():
        raise UserError(f'{path} does not exist: write it with asl-det test CONFIG CHECKPOINT '
                        '--out results.json')
    try:
        with np.load(path) as saved:
            for name in ('scores', 'targets'):
                if saved[name].dtype.kind not in 'fiub':
                    raise TypeError(f'its {name} are no numbers ({saved[name].dtype})')
            found = Scores(saved['scores'], saved['targets'], saved['classes'].tolist(),
                           saved.get('logits', None))
    except zipfile.BadZipFile as error:
        raise UserError(f'{path} is cut off or no npz file ({error}): write it again with '
                        'asl-det test CONFIG CHECKPOINT --out results.json') from None
    except (ValueError, KeyError, OSError, EOFError, TypeError) as error:
        raise UserError(f'{path} has no scores as asl-det test writes them: {error}') from None
    if found.logits is not None and found.logits.shape != found.scores.shape:
        raise UserError(f'{path} has scores of the shape {found.scores.shape}, but logits of '
                        f'{found.logits.shape}: write it again with asl-det test')
    return found


def class_table(names: Sequence[str], by_class: Dict[str, np.ndarray]) -> str:
    """A text table, one class a line."""
    table = Table('class', *by_class)
    for name, *values in zip(names, *by_class.values(), strict=True):
        table.add_row(name, *('-' if np.isnan(v) else f'{v:.3f}' if isinstance(v, float) else str(v)
                              for v in values))
    text = io.StringIO()
    plain_console(file=text, width=100).print(table)
    return text.getvalue()
