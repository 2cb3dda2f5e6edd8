"""Thresholds and calibrated scores, chosen on the validation that a training has anyway."""

import json
from pathlib import Path
from typing import Any, Dict, Hashable, List, NamedTuple, Optional, Sequence, Tuple, Union

import numpy as np
import torch
from mmengine.dist import all_gather_object, is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmengine.structures import BaseDataElement

from asl_det.analysis.calibration import box_scores
from asl_det.analysis.claims import Claims, claims_of_labels
from asl_det.analysis.detections import Boxes, claims_of_predictions
from asl_det.errors import UserError
from asl_det.files.whole import write_whole
from asl_det.multilabel.thresholds import Thresholds, along, span
from asl_det.training.hooks.drawing import say
from asl_det.training.hooks.raw_and_ema import RawAndEMAHook
from asl_det.training.hooks.safe_checkpoint import SafeCheckpointHook

REPORT, FIGURE = 'calibration.json', 'reliability.png'
FEWEST = 50  # objects (labels) found, for a curve and a threshold
FOLDS = 5
WHICH = ('img_path', 'img_id')  # what tells images apart


class Seen(NamedTuple):
    """What a validation predicted for an image.

    Attributes:
        key: which image it is.
        found: boxes of a detector, or logits and labels ``(2, C)`` of a
            classifier.
    """

    key: Hashable
    found: Union[Boxes, np.ndarray]


class CalibrationHook(Hook):
    """Chooses thresholds and fits calibration curves, and writes them into checkpoints.

    On the predictions of the last validation, for the last checkpoint, and
    of the best one, for the best. ``calibration.json`` in the run's folder
    says what was gained on images that did not choose (cross-validated), and
    ``reliability.png`` shows it. What can not be calibrated is said in the
    log, and ends no training.

    Args:
        usual: the threshold that is used where none is chosen, in [0, 1].
    """

    priority = 'LOW'  # before checkpoints are saved

    def __init__(self, usual: float) -> None:
        self.usual = usual
        self._passes: List[List[Seen]] = []
        self._seen: Dict[Hashable, Union[Boxes, np.ndarray]] = {}
        self._at: Optional[int] = None  # iterations before the validation
        self._report: Optional[Dict[str, Any]] = None

    def before_val_epoch(self, runner: Runner) -> None:
        self._passes = []

    def after_val_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None,
                       outputs: Optional[Sequence[Any]] = None) -> None:
        if batch_idx == 0:  # RawAndEMAValLoop has two passes in an epoch
            self._passes.append([])
        self._passes[-1] += filter(None, map(_seen, () if outputs is None else outputs))

    def after_val_epoch(self, runner: Runner, metrics: Optional[Dict[str, float]] = None) -> None:
        better = [hook.better for hook in runner.hooks if isinstance(hook, RawAndEMAHook)]
        chosen = self._passes[0 if better == ['ema'] else -1] if self._passes else []
        # An image that a sampler gave to two processes counts once.
        self._seen = {one.key: one.found for part in all_gather_object(chosen) for one in part}
        self._passes, self._report, self._at = [], None, runner.iter

    def before_save_checkpoint(self, runner: Runner, checkpoint: Dict[str, Any]) -> None:
        if self._at == runner.iter and is_main_process():
            thresholds = self._calibrate(runner)
            if thresholds is not None:
                checkpoint['meta']['thresholds'] = thresholds.to_dict()

    def after_train(self, runner: Runner) -> None:
        savers = [hook for hook in runner.hooks if isinstance(hook, SafeCheckpointHook)
                  and (hook.saved_at == runner.iter or hook.save_last)]
        if not savers or self._at != runner.iter or not is_main_process():
            return
        thresholds = self._calibrate(runner)
        if thresholds is None:
            return
        try:
            # What early stopping saves after this has them anyway.
            if savers[0].saved_at == runner.iter:
                thresholds.save_in_checkpoint(savers[0].last_ckpt)
            said = summary(self._report)
            runner.logger.info(said)
            runner.message_hub.update_info('calibration', said, resumed=False)
            folder = Path(runner.work_dir)
            write_whole(folder / REPORT, json.dumps(self._report, indent=2) + '\n')
            from asl_det.analysis.threshold_report import plot_reliability
            plot_reliability(self._report, folder / FIGURE)
        except Exception as error:
            say(runner, self, error)

    def _calibrate(self, runner: Runner) -> Optional[Thresholds]:
        if self._report is None:
            from asl_det.analysis.threshold_report import tune  # scikit-learn when it is needed
            try:
                names, claims = self._claims(runner)
                found = sum(int(c.hits.sum()) for c in claims)
                if found < FEWEST:
                    raise UserError(f'{found} objects of the validation set were found, fewer '
                                    f'than {FEWEST}')
                self._report = tune(names, claims, len(self._seen), calibrate='best',
                                    folds=FOLDS, fixed=self.usual)
            except Exception as error:
                self._report = {}
                said = f'no threshold was chosen ({error}): {self.usual:.2f} is used'
                runner.logger.info(said)
                runner.message_hub.update_info('calibration', said, resumed=False)
                if not isinstance(error, UserError):
                    say(runner, self, error)
        if not self._report:
            return None
        source = dict(chosen_on=f'{len(self._seen)} images of the validation after step {self._at}',
                      said=summary(self._report))
        return Thresholds.from_dict(dict(self._report['thresholds'], source=source), 'validation')

    def _claims(self, runner: Runner) -> Tuple[Sequence[str], List[Claims]]:
        dataset = runner.val_dataloader.dataset
        names, found = dataset.metainfo['classes'], list(self._seen.values())
        if not found:
            raise UserError('the validation predicted neither boxes nor labels')
        if isinstance(found[0], Boxes):
            truth = annotated(dataset, [name for name, _ in next(iter(self._seen))])
            return names, claims_of_predictions(found, [truth[key] for key in self._seen], names)
        logits, targets = np.stack(found, axis=1)
        return names, claims_of_labels(logits, targets)


class DecideHook(Hook):
    """Leaves what a test predicts, with calibrated scores, for those who draw.

    Of boxes only those that are predicted stay. Metrics have seen all scores before,
    as the network gives them.

    Args:
        thresholds: how scores are calibrated, and from which on a box is
            predicted.
        classes: names.
    """

    priority = 'HIGH'

    def __init__(self, thresholds: Thresholds, classes: Sequence[str]) -> None:
        self.thresholds, self.classes = thresholds, classes
        self.least = np.array(thresholds.of(classes))
        self.boxes = self.predicted = 0

    def after_test_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None,
                        outputs: Optional[Sequence[Any]] = None) -> None:
        for sample in () if outputs is None else outputs:
            if not isinstance(sample, BaseDataElement):  # of another task
                continue
            if 'logits' in sample:
                scale, shift = map(sample.logits.new_tensor, self.thresholds.scales(self.classes))
                sample.logits = along(self.thresholds.curve, sample.logits) / scale + shift
                sample.scores = sample.logits.sigmoid()
            found = sample.get('pred_instances')
            if found is None or 'scores' not in found or 'labels' not in found:
                continue
            labels = found.labels.cpu().numpy()
            scores = box_scores(self.thresholds, self.classes, found.scores.cpu().numpy(), labels)
            chosen = scores >= self.least[labels]
            found.scores = torch.from_numpy(scores).to(found.scores)
            sample.pred_instances = found[torch.from_numpy(chosen).to(found.labels.device)]
            self.boxes += len(chosen)
            self.predicted += int(chosen.sum())

    def after_test(self, runner: Runner) -> None:
        if self.boxes:
            runner.logger.info(f'{self.predicted} of {self.boxes} boxes are predicted')


def _seen(sample: Any) -> Optional[Seen]:
    if not isinstance(sample, BaseDataElement):  # of another task
        return None
    key = tuple((name, sample.get(name)) for name in WHICH if name in sample)
    if 'logits' in sample:
        logits = sample.logits.float().cpu().numpy()
        labels = sample.get('gt_label')
        return Seen(key, np.stack([logits, np.full(len(logits), -1) if labels is None
                                   else labels.cpu().numpy()]))
    found = sample.get('pred_instances')
    if found is None or any(name not in found for name in ('bboxes', 'scores', 'labels')):
        return None
    corners = getattr(found.bboxes, 'tensor', found.bboxes).cpu().numpy()
    if corners.shape[-1] != 4:  # turned boxes
        return None
    return Seen(key, Boxes(corners, found.labels.cpu().numpy(), found.scores.float().cpu().numpy()))


def annotated(dataset: Any, names: Sequence[str]) -> Dict[Hashable, Boxes]:
    """The annotated boxes of a data set by what tells its images apart.

    Args:
        dataset: one of mmengine's ``BaseDataset``, or a wrapper of such.
        names: of :data:`WHICH`, those that predictions have.

    Raises:
        UserError: if two images are the same by these.
    """
    truth: Dict[Hashable, Boxes] = {}
    for i in range(len(dataset)):
        info = dataset.get_data_info(i)
        objects = info.get('instances') or []
        key = tuple((name, info.get(name)) for name in names)
        if key in truth:
            then = 'it is there twice' if 'img_id' in names else \
                'add img_id to meta_keys of PackDetInputs'
            raise UserError(f'two images of the validation set have the same {" and ".join(names)} '
                            f'({info.get("img_path")}): {then}')
        truth[key] = Boxes(
            np.array([one['bbox'] for one in objects], float).reshape(-1, 4),
            np.array([one['bbox_label'] for one in objects], int),
            np.array([not one.get('ignore_flag', 0) for one in objects], float))
    return truth


def summary(report: Dict[str, Any]) -> str:
    """What was chosen, and what it gains on images that did not choose, in a sentence."""
    found, before = (report['metrics']['cross_validated'][k] for k in ('classes', 'fixed'))
    errors = [report['calibration'][k]['ece'] for k in ('none', report['calibrate'])]
    chosen = span(report['thresholds']['classes'].values())
    return (f'predicted from the score {chosen} on: precision {found["OP"]:.3f}, recall '
            f'{found["OR"]:.3f}, F1 {found["OF1"]:.3f} (as it came, from {report["fixed"]:.2f} on: '
            f'{before["OF1"]:.3f}); calibration error {errors[0]:.3f} -> {errors[1]:.3f}; all on '
            'validation images that did not choose')
