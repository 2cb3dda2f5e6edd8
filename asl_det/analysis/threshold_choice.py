"""Score thresholds that suit a model: one for all classes, and one a class."""

from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from asl_det.analysis.calibration import calibrated, own_curve, try_calibration, try_curves
from asl_det.analysis.claims import Claims, splits
from asl_det.errors import UserError
from asl_det.multilabel.measures import precision_recall

OBJECTIVES = ('macro-f1', 'micro-f1', 'precision', 'recall')
SHRINKS = (np.inf, 1000.0, 300.0, 100.0, 30.0, 10.0, 0.0)
INNER_FOLDS = 5
MOST_CUTS = 5000  # for one threshold over many classes
ENOUGH = 1000  # hits from which the labels of a class say more than its curve


class Objective(NamedTuple):
    """What thresholds are chosen for.

    Attributes:
        name: of :data:`OBJECTIVES`. 'macro-f1': mean F1 of the classes.
            'micro-f1': F1 of all entries together. 'precision' and
            'recall': the highest other one where this one reaches ``target``,
            in every class for thresholds of classes, in all entries
            together for the global one.
        target: of precision or recall, in (0, 1].
    """

    name: str = 'macro-f1'
    target: Optional[float] = None


class Chosen(NamedTuple):
    """Thresholds on the logits as they came.

    Attributes:
        one: for all classes.
        classes: ``(C,)``, one for each.
        share: ``(C,)``, weight of what the class alone would choose in that.
        shrink: where the shares come from.
    """

    one: float
    classes: np.ndarray
    share: np.ndarray
    shrink: float


def choose(claims: Sequence[Claims], images: np.ndarray, objective: Objective,
           shrink: Optional[float] = None, seed: int = 0) -> Chosen:
    """Choose thresholds.

    A class with ``n`` positives uses the threshold that is best for it with the weight
    ``n / (n + shrink)`` and the global one with the rest, between their
    logits; one without any (or with a target out of reach) uses the global one.

    A threshold lies halfway between the lowest logit that shall be claimed
    and the next lower one. F1 is that which calibrated probabilities promise
    (:func:`expected`): the best threshold for a few labels is chance, and jumps.
    Targets are met on the labels; a part of a cross-validation that can not
    reach one takes the threshold that comes nearest.

    Args:
        claims: of every class.
        images: bool ``(N,)``, those that choose.
        objective: what for.
        shrink: 0 for none, infinity for the global threshold everywhere. None
            for the largest of :data:`SHRINKS` which is, in a cross-validation
            within these images, within a standard error of the best: by the
            objective, or for a target by how near the classes come to it.
        seed: of that cross-validation.

    Raises:
        UserError: if there are no positives, or all entries together do not
            reach the target.
    """
    _require_reachable([c.of(images) for c in claims], objective)
    return _choose(claims, images, objective, shrink, seed)


def _choose(claims: Sequence[Claims], images: np.ndarray, objective: Objective,
            shrink: Optional[float], seed: int) -> Chosen:
    if shrink is None:
        shrink = _best_shrink(claims, images, objective, seed)
    chosen = [c.of(images) for c in claims]
    return _shrunk(*best_cuts(_entries(chosen, objective), objective),
                   [len(c.positives) for c in chosen], shrink)


def _require_reachable(claims: Sequence[Claims], objective: Objective) -> None:
    together = _together(_as_labelled(claims))
    if not together.hits.any():
        raise UserError('nothing that is there has a score, so no threshold finds anything: are '
                        'these the labels of these scores?')
    if objective.target is None:
        return
    reached = float(_values(_curve(together), together, objective)[0].max())
    if reached < objective.target - 1e-9:
        raise UserError(f'no threshold reaches a {objective.name} of {objective.target:g} over all '
                        f'classes: the highest is {reached:.3f}; ask for less')


def _best_shrink(claims: Sequence[Claims], images: np.ndarray, objective: Objective,
                 seed: int) -> float:
    folds = splits(images, min(INNER_FOLDS, int(images.sum())), seed)
    values = np.zeros((len(SHRINKS), len(folds)))
    for column, fold in zip(values.T, folds, strict=True):
        chosen = [c.of(images & ~fold) for c in claims]
        found = best_cuts(_entries(chosen, objective), objective)
        rest = [c.of(fold) for c in claims]
        for i, shrink in enumerate(SHRINKS):
            mixed = _shrunk(*found, [len(c.positives) for c in chosen], shrink)
            column[i] = _worth(rest, mixed.classes, objective)
    behind = values[np.argmax(values.mean(1))] - values
    # The strongest of those that are no worse, by a standard error (Breiman et al. 1984).
    error = behind.std(1, ddof=1) / np.sqrt(len(folds))
    return SHRINKS[int(np.argmax(behind.mean(1) <= error))]


def _worth(claims: Sequence[Claims], thresholds: np.ndarray, objective: Objective) -> float:
    overall, by_class = metrics(claims, *count(claims, thresholds))
    if not overall:
        return 0.0  # nothing to be found in this fold, whatever the thresholds
    if objective.target is None:
        return overall['mean_class_F1' if objective.name == 'macro-f1' else 'OF1']
    return -float(np.nanmean(np.abs(by_class[objective.name] - objective.target)))


class Entries(NamedTuple):
    """A class for the search of a threshold.

    Attributes:
        logits: ``(M,)``.
        hits: ``(M,)``, from 0 to 1.
        present: everything that is there to be found, at least the hits.
    """

    logits: np.ndarray
    hits: np.ndarray
    present: float


def _entries(claims: Sequence[Claims], objective: Objective) -> List[Entries]:
    known = _as_labelled(claims)
    return known if objective.target else expected(known)


def _as_labelled(claims: Sequence[Claims]) -> List[Entries]:
    return [Entries(c.logits, c.hits.astype(float), len(c.positives)) for c in claims]


def _together(classes: Sequence[Entries]) -> Entries:
    return Entries(*(np.concatenate([c[i] for c in classes]) for i in (0, 1)),
                   sum(c.present for c in classes))


def expected(classes: Sequence[Entries]) -> List[Entries]:
    """The same with the probability of a hit for each hit.

    By the curve of the class (:func:`~asl_det.analysis.calibration.own_curve`).
    As no such curve fits every class, its labels themselves have the weight
    ``n / (n + 1000)`` in a class with ``n`` hits. Where nothing can be fitted,
    the labels stay.
    """
    logits, hits, _ = _together(classes)
    calibration = try_calibration(logits, hits == 1, bias=True)
    if calibration is None:
        return list(classes)
    found = []
    for c in classes:
        n = c.hits.sum()
        # A class without any hit is not known to the network, or not in these images.
        likely = own_curve(calibration, c.logits, c.hits)(c.logits) if n else c.hits
        likely = (ENOUGH * likely + n * c.hits) / (ENOUGH + n)
        found.append(Entries(c.logits, likely, c.present + likely.sum() - n))
    return found


def best_cuts(classes: Sequence[Entries], objective: Objective) -> Tuple[float, np.ndarray]:
    """What is best on these very scores.

    Returns:
        One threshold for all classes (where a target is out of reach, the one
        that comes nearest; infinity if there are no hits), and those of
        classes ``(C,)``, NaN where a class has no hits or its target is out of
        reach.
    """
    together = _together(classes)
    if not together.hits.any():
        return np.inf, np.full(len(classes), np.nan)
    one = _macro_cut(classes) if objective.name == 'macro-f1' else \
        _cut(together, objective, nearest=True)
    cost = 1.0  # of a claim against half of it for a hit
    own = [_cut(c, objective, cost) for c in classes]
    while objective.name == 'micro-f1':
        # Dinkelbach: F1 is at its best where 2 hits - F1 (claims + positives) can not be above 0.
        made = [c.logits >= (np.inf if t is None else t) for c, t in zip(classes, own, strict=True)]
        hits = sum(c.hits[m].sum() for c, m in zip(classes, made, strict=True))
        better = 2 * hits / (sum(m.sum() for m in made) + together.present)
        if abs(better - cost) < 1e-9:
            break
        cost = better
        own = [_cut(c, objective, cost) for c in classes]
    return one, np.array([np.nan if t is None else t for t in own])


def _shrunk(one: float, own: np.ndarray, positives: Sequence[int], shrink: float) -> Chosen:
    n = np.where(np.isnan(own), 0, positives)
    share = np.zeros(len(n)) if np.isinf(shrink) else n / np.maximum(n + shrink, 1)
    mixed = share * np.where(share > 0, own, 0.0) + (1 - share) * (one if share.any() else 0.0)
    return Chosen(one, np.where(share == 0, one, mixed), share, shrink)


def count(claims: Sequence[Claims], thresholds: Sequence[float]) -> Tuple[np.ndarray, np.ndarray]:
    """Hits and claims of every class from its threshold upwards."""
    made = [c.logits >= t for c, t in zip(claims, thresholds, strict=True)]
    return (np.array([int(c.hits[m].sum()) for c, m in zip(claims, made, strict=True)]),
            np.array([int(m.sum()) for m in made]))


def metrics(claims: Sequence[Claims], hits: np.ndarray, made: np.ndarray
            ) -> Tuple[Dict[str, float], Dict[str, np.ndarray]]:
    """``CP, CR, CF1, mean_class_F1, OP, OR, OF1``, and precision, recall, F1 of every class.

    Classes without positives are left out, see
    :class:`~asl_det.multilabel.MultiLabelMetric`.
    """
    positives = np.array([len(c.positives) for c in claims])
    overall, by_class = precision_recall(hits, made, positives, positives > 0)
    return {name: float(v) for name, v in overall.items()}, by_class


def cross_validate(claims: Sequence[Claims], held_out: Sequence[np.ndarray], objective: Objective,
                   fixed: float, shrink: Optional[float] = None, seed: int = 0,
                   calibrate: str = 'none'
                   ) -> Dict[str, Tuple[Dict[str, float], Dict[str, np.ndarray]]]:
    """:func:`metrics` where no image is judged by a threshold that it helped to choose.

    Nor by a curve that it helped to fit.

    Hits and claims are summed over the folds before they are measured.

    Args:
        claims: of all images.
        held_out: of :func:`splits`.
        objective, shrink, seed: as in :func:`choose`.
        fixed: the logit of a threshold that nobody chose.
        calibrate: of :data:`~asl_det.analysis.calibration.KINDS`; thresholds
            are chosen on logits that are calibrated so.

    Returns:
        By 'fixed', 'global' and 'classes'.
    """
    total = {name: np.zeros((2, len(claims)), np.int64) for name in ('fixed', 'global', 'classes')}
    for fold in held_out:
        curves = try_curves([c.of(~fold) for c in claims], calibrate)
        chosen = _choose(calibrated(claims, curves), ~fold, objective, shrink, seed)
        rest = [c.of(fold) for c in claims]
        total['fixed'] += np.stack(count(rest, [fixed] * len(claims)))
        rest = calibrated(rest, curves)
        for name, thresholds in (('global', [chosen.one] * len(claims)),
                                 ('classes', chosen.classes)):
            total[name] += np.stack(count(rest, thresholds))
    return {name: metrics(claims, *counts) for name, counts in total.items()}


class _Curve(NamedTuple):
    """Hits and claims at every cut, rising cuts."""

    cuts: np.ndarray
    hits: np.ndarray
    claims: np.ndarray


def _curve(entries: Entries) -> _Curve:
    """For a class with hits; cuts that claim no hit have infinitely many claims."""
    from sklearn.metrics import precision_recall_curve
    logits, hits = entries.logits, entries.hits
    # An entry that is a hit by half counts half as a hit and half as none.
    precision, recall, cuts = precision_recall_curve(
        np.repeat([1, 0], len(hits)), np.tile(logits, 2),
        sample_weight=np.concatenate([hits, 1 - hits]), drop_intermediate=True)
    found = recall[:-1] * hits.sum()
    with np.errstate(divide='ignore', invalid='ignore'):
        return _Curve(cuts, found, np.where(found > 0, found / precision[:-1], np.inf))


def _values(curve: _Curve, entries: Entries, objective: Objective) -> Tuple[np.ndarray, np.ndarray]:
    """What a target is of, and the other of precision and recall, at every cut."""
    precision, recall = curve.hits / curve.claims, curve.hits / entries.present
    return (precision, recall) if objective.name == 'precision' else (recall, precision)


def _cut(entries: Entries, objective: Objective, cost: Optional[float] = None,
         nearest: bool = False) -> Optional[float]:
    """The best threshold of a class (or of all in one), None if there is none.

    Args:
        entries: where it is sought.
        objective: what for.
        cost: of a claim, for the F1 of all entries.
        nearest: take the one that comes nearest to a target out of reach.
    """
    if not entries.hits.any():
        return None
    curve = _curve(entries)
    if objective.target is not None:
        wanted, other = _values(curve, entries, objective)
        target = min(objective.target, wanted.max()) if nearest else objective.target
        value = np.where(wanted >= target - 1e-9, other, -1)
        if value.max() < 0:
            return None
    elif objective.name == 'micro-f1' and cost is not None:
        value = 2 * curve.hits - cost * curve.claims
    else:
        value = 2 * curve.hits / (curve.claims + entries.present)
    return _below(curve.cuts[np.argmax(value)], entries.logits)


def _macro_cut(classes: Sequence[Entries]) -> float:
    """The one threshold with the highest mean F1 of the classes."""
    logits = np.concatenate([c.logits for c in classes])
    cuts = np.unique(np.concatenate([c.logits[c.hits > 0] for c in classes]))
    if len(cuts) > MOST_CUTS:
        cuts = np.quantile(cuts, np.linspace(0, 1, MOST_CUTS), method='nearest')
    total = np.zeros(len(cuts))
    for c in classes:
        if c.present:
            order = np.argsort(c.logits)
            start = np.searchsorted(c.logits[order], cuts)
            found = np.append(np.cumsum(c.hits[order][::-1])[::-1], 0.0)[start]
            total += 2 * found / (len(order) - start + c.present)
    return _below(cuts[np.argmax(total)], logits)


def _below(cut: float, logits: np.ndarray) -> float:
    """Halfway to the next lower logit; if there is none, a little below."""
    lower = logits[logits < cut]
    return float((cut + lower.max()) / 2) if len(lower) else float(cut) - 1e-3
