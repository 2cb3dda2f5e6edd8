"""Score thresholds that suit a model: one for all classes, and one a class."""

from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from asl_det.errors import UserError
from asl_det.multilabel.measures import precision_recall

OBJECTIVES = ('macro-f1', 'micro-f1', 'precision', 'recall')
MOST_CUTS = 2000  # for one threshold over many classes


class Claims(NamedTuple):
    """What could be predicted of one class, in any set of images.

    Attributes:
        scores: ``(M,)``, of every entry with known label, or every box.
        hits: bool ``(M,)``, which of them are right.
        images: int ``(M,)``, the image of each.
        positives: int ``(P,)``, the image of everything that is there to be
            found; more than the hits where a detector missed some.
    """

    scores: np.ndarray
    hits: np.ndarray
    images: np.ndarray
    positives: np.ndarray

    def of(self, chosen: np.ndarray) -> 'Claims':
        """Those of the images that a bool array ``(N,)`` chooses."""
        kept = chosen[self.images]
        return Claims(self.scores[kept], self.hits[kept], self.images[kept],
                      self.positives[chosen[self.positives]])


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
    """Thresholds on the scores as they came.

    Attributes:
        one: for all classes.
        classes: ``(C,)``, one for each.
        share: ``(C,)``, weight of what the class alone would choose in that.
    """

    one: float
    classes: np.ndarray
    share: np.ndarray


def claims_of_labels(scores: np.ndarray, targets: np.ndarray) -> List[Claims]:
    """From scores and targets ``(N, C)`` (1, 0, or -1 for unknown) to a list of C."""
    claims = []
    for column, target in zip(scores.T, targets.T, strict=True):
        images = np.flatnonzero(target >= 0)
        hits = target[images] == 1
        claims.append(Claims(column[images].astype(np.float64), hits, images, images[hits]))
    return claims


def choose(claims: Sequence[Claims], objective: Objective, min_positives: int) -> Chosen:
    """Choose thresholds.

    A class with ``n`` positives uses its own threshold with the weight
    ``min(1, n / min_positives)`` and the global one with the rest, between
    their logits: one with few positives shrinks to the global threshold, one
    without any (or with a target out of reach) uses it.

    A threshold lies halfway between the lowest score that shall be claimed
    and the next lower one.

    Raises:
        UserError: if there are no positives, or all entries together do not
            reach the target.
    """
    together = Claims(*(np.concatenate(values) for values in zip(*claims, strict=True)))
    if not together.hits.any():
        raise UserError('nothing that is there has a score, so no threshold finds anything: are '
                        'these the labels of these scores?')
    one = _macro_cut(claims) if objective.name == 'macro-f1' else _cut(together, objective)
    if one is None:
        best = _curve(together)
        reached = (best.hits / best.claims).max() if objective.name == 'precision' else \
            best.hits.max() / len(together.positives)
        raise UserError(f'no threshold reaches a {objective.name} of {objective.target:g} over all '
                        f'classes: the highest is {reached:.3f}; ask for less')
    cost = 1.0  # of a claim against half of it for a hit: F1 of each class
    own = [_cut(c, objective, cost) for c in claims]
    while objective.name == 'micro-f1':
        # Dinkelbach: F1 is at its best where 2 hits - F1 (claims + positives) can not be above 0.
        hits, made = count(claims, [2.0 if t is None else t for t in own])
        better = 2 * hits.sum() / (made.sum() + len(together.positives))
        if abs(better - cost) < 1e-12:
            break
        cost = better
        own = [_cut(c, objective, cost) for c in claims]
    own = np.array([np.nan if t is None else t for t in own])
    share = np.minimum(1, [len(c.positives) / max(min_positives, 1) for c in claims])
    share = np.where(np.isnan(own), 0, share)
    mixed = _sigmoid(share * _logit(np.where(share, own, one)) + (1 - share) * _logit(one))
    return Chosen(one, np.where(share == 1, own, np.where(share == 0, one, mixed)), share)


def count(claims: Sequence[Claims], thresholds: Sequence[float]) -> Tuple[np.ndarray, np.ndarray]:
    """Hits and claims of every class from its threshold upwards."""
    made = [c.scores >= t for c, t in zip(claims, thresholds, strict=True)]
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


def splits(num_images: int, folds: int, seed: int) -> List[np.ndarray]:
    """Bool arrays ``(N,)`` of the images that are held out, each image once."""
    from sklearn.model_selection import KFold
    if not 2 <= folds <= num_images:
        raise UserError(f'--folds {folds}: expected 2 to {num_images}, the number of images')
    held_out = np.zeros((folds, num_images), bool)
    for row, (_, test) in zip(held_out, KFold(folds, shuffle=True, random_state=seed).split(
            np.empty(num_images)), strict=True):
        row[test] = True
    return list(held_out)


def cross_validate(claims: Sequence[Claims], held_out: Sequence[np.ndarray], objective: Objective,
                   min_positives: int, fixed: float
                   ) -> Dict[str, Tuple[Dict[str, float], Dict[str, np.ndarray]]]:
    """:func:`metrics` where no image is judged by a threshold that it helped to choose.

    Hits and claims are summed over the folds before they are measured.

    Args:
        claims: of all images.
        held_out: of :func:`splits`.
        objective, min_positives: as in :func:`choose`.
        fixed: the threshold that nobody chose.

    Returns:
        By 'fixed', 'global' and 'classes'.
    """
    total = {name: np.zeros((2, len(claims)), np.int64) for name in ('fixed', 'global', 'classes')}
    for fold in held_out:
        chosen = choose([c.of(~fold) for c in claims], objective, min_positives)
        rest = [c.of(fold) for c in claims]
        for name, thresholds in (('fixed', [fixed] * len(claims)),
                                 ('global', [chosen.one] * len(claims)),
                                 ('classes', chosen.classes)):
            total[name] += np.stack(count(rest, thresholds))
    return {name: metrics(claims, *counts) for name, counts in total.items()}


class _Curve(NamedTuple):
    """Hits and claims at every cut, rising cuts."""

    cuts: np.ndarray
    hits: np.ndarray
    claims: np.ndarray


def _curve(claims: Claims) -> _Curve:
    """For a class with hits; cuts that claim no hit have infinitely many claims."""
    from sklearn.metrics import precision_recall_curve
    precision, recall, cuts = precision_recall_curve(claims.hits, claims.scores,
                                                     drop_intermediate=True)
    hits = np.rint(recall[:-1] * claims.hits.sum())
    with np.errstate(divide='ignore', invalid='ignore'):
        return _Curve(cuts, hits, np.where(hits > 0, np.rint(hits / precision[:-1]), np.inf))


def _cut(claims: Claims, objective: Objective, cost: Optional[float] = None) -> Optional[float]:
    """The best threshold of a class (or of all in one), None if there is none."""
    if not claims.hits.any():
        return None
    curve = _curve(claims)
    precision, recall = curve.hits / curve.claims, curve.hits / len(claims.positives)
    if objective.name in ('precision', 'recall'):
        wanted, other = (precision, recall)[::1 if objective.name == 'precision' else -1]
        value = np.where(wanted >= objective.target, other, -1)
        if value.max() < 0:
            return None
    elif objective.name == 'micro-f1' and cost is not None:
        value = 2 * curve.hits - cost * curve.claims
    else:
        value = 2 * curve.hits / (curve.claims + len(claims.positives))
    return _below(curve.cuts[np.argmax(value)], claims.scores)


def _macro_cut(claims: Sequence[Claims]) -> float:
    """The one threshold with the highest mean F1 of the classes; only at a hit can it be."""
    cuts = np.unique(np.concatenate([c.scores[c.hits] for c in claims]))
    if len(cuts) > MOST_CUTS:
        cuts = np.quantile(cuts, np.linspace(0, 1, MOST_CUTS), method='nearest')
    total = np.zeros(len(cuts))
    for c in claims:
        if len(c.positives):
            found, made = (len(s) - np.searchsorted(np.sort(s), cuts)
                           for s in (c.scores[c.hits], c.scores))
            total += 2 * found / (made + len(c.positives))
    return _below(cuts[np.argmax(total)], np.concatenate([c.scores for c in claims]))


def _below(cut: float, scores: np.ndarray) -> float:
    """Halfway to the next lower score, if there is one."""
    lower = scores[scores < cut]
    return float((cut + lower.max()) / 2) if len(lower) else float(cut)


def _logit(p: np.ndarray) -> np.ndarray:
    p = np.clip(p, 1e-12, 1 - 1e-12)
    return np.log(p / (1 - p))


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))
