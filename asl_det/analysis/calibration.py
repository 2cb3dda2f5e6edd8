"""Whether probabilities mean what they say, and the curves that make them."""

import math
from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit, log_expit, logit

from asl_det.analysis.claims import Claims, joined
from asl_det.errors import UserError
from asl_det.multilabel.thresholds import Points, Thresholds, along

BINS = 15
# Of classes, around the curve that all share: standard deviation of the slope's logarithm, of the
# bias.
SLOPE_SPREAD, BIAS_SPREAD = 0.5, 1.0
# What is fitted: nothing; a temperature; a bias too; a curve; and a temperature and bias of each
# class after it.
KINDS = ('none', 'temperature', 'bias', 'curve', 'classes')
KNOTS = 5  # of a curve


class Calibration(NamedTuple):
    """``sigmoid(curve(logit) / temperature + bias)``; no ranking of a class changes.

    Attributes:
        temperature, bias: numbers.
        curve: ``(logit, logit)`` of points, both rising, on a line that goes
            on beyond them; none for the logit as it is.
    """

    temperature: float = 1.0
    bias: float = 0.0
    curve: Points = ()

    def logits(self, logits: np.ndarray) -> np.ndarray:
        """Logits to those of the probabilities, any shape."""
        bent = along(self.curve, np.asarray(logits, np.float64))
        return bent / self.temperature + self.bias

    def __call__(self, logits: np.ndarray) -> np.ndarray:
        """Logits to probabilities, any shape."""
        return expit(self.logits(logits))


def logits_of(scores: np.ndarray) -> np.ndarray:
    """Logits of probabilities, float64; those of float32's 0 and 1 are finite: -103 and 17.3.

    Raises:
        UserError: if they are no probabilities.
    """
    scores = np.asarray(scores, np.float64)
    if scores.size and not (scores.min() >= 0 and scores.max() <= 1):  # NaN too
        raise UserError(f'scores go from {scores.min():g} to {scores.max():g}: expected '
                        'probabilities')
    scores = np.clip(scores, 2.0**-149, 1 - 2.0**-25)
    return logit(scores)


def box_scores(thresholds: Thresholds, classes: Sequence[str], scores: np.ndarray,
               labels: np.ndarray) -> np.ndarray:
    """Calibrated scores of boxes, float64; the order within a class stays.

    Args:
        thresholds: how to calibrate.
        classes: names.
        scores: ``(n,)``, from 0 to 1.
        labels: int ``(n,)``, places in the list of classes.
    """
    if not thresholds.calibrates:
        return np.asarray(scores, np.float64)
    temperatures, biases = map(np.array, thresholds.scales(classes))
    return expit(along(thresholds.curve, logits_of(scores)) / temperatures[labels]
                 + biases[labels])


def rounded(p: float) -> float:
    """A probability with 6 digits of itself or of what is missing to 1."""
    return round(p, 6 - math.floor(math.log10(min(p, 1 - p)))) if 0 < p < 1 else p


def fit_calibration(logits: np.ndarray, hits: np.ndarray, bias: bool) -> Optional[Calibration]:
    """The calibration with the highest likelihood (Guo et al. 2017; with a bias: Platt 1999).

    Args:
        logits: ``(M,)``.
        hits: bool ``(M,)``.
        bias: fit one too. A loss that lets negatives alone below a margin
            leaves them at that margin: no temperature moves them, as a logit
            of 0 stays where it is.

    Returns:
        None where no finite one is best: logits that separate hits from the
        rest without an error, or too far from 0 for a temperature alone.

    Raises:
        UserError: if there are only hits or none, or higher scores do not
            mean more hits.
    """
    if hits.all() or not hits.any():
        raise UserError(f'{hits.sum()} of {len(hits)} known labels are positive: a calibration '
                        'needs both')
    if logits[hits].min() > logits[~hits].max():
        return None
    slope, intercept = _logistic(logits, hits, bias)
    if slope <= 0 and (bias or _logistic(logits, hits, True)[0] <= 0):
        raise UserError(f'higher scores do not mean more hits (slope {slope:.3g}): are these the '
                        'labels of these scores?')
    return Calibration(1 / slope, intercept) if slope > 0 else None


def try_calibration(logits: np.ndarray, hits: np.ndarray, bias: bool) -> Optional[Calibration]:
    """:func:`fit_calibration` of a part of the data, None too where that raises."""
    try:
        return fit_calibration(logits, hits, bias)
    except UserError:
        return None


def _logistic(logits: np.ndarray, hits: np.ndarray, bias: bool) -> Tuple[float, float]:
    """Slope and intercept; far from 0, or of a large spread, logits would be solved badly."""
    from sklearn.linear_model import LogisticRegression
    middle, spread = (logits.mean() if bias else 0.0), logits.std() or 1.0
    model = LogisticRegression(C=np.inf, fit_intercept=bias, tol=1e-8, max_iter=1000)
    model.fit(((logits - middle) / spread)[:, None], hits)
    slope = float(model.coef_[0, 0]) / spread
    return slope, float(model.intercept_[0]) - slope * middle if bias else 0.0


def reliability(scores: np.ndarray, hits: np.ndarray, bins: int = BINS) -> Dict[str, List[float]]:
    """Mean score, share of hits and number of entries, of each bin of equal width that has any."""
    from sklearn.calibration import calibration_curve
    share, mean = calibration_curve(hits, scores, n_bins=bins)
    inner = np.linspace(0, 1, bins + 1)[1:-1]
    entries = np.bincount(np.searchsorted(inner, scores), minlength=bins)
    return dict(score=mean.tolist(), share=share.tolist(), entries=entries[entries > 0].tolist())


def calibration_errors(scores: np.ndarray, hits: np.ndarray) -> Dict[str, float]:
    """How far probabilities are from what happens.

    Returns:
        ``ece``: expected calibration error, the mean over entries of the
        distance between mean score and share of hits of their bin (15 of equal
        width); ``nll``: mean negative log-likelihood of an entry.
    """
    from sklearn.metrics import log_loss
    curve = {k: np.array(v) for k, v in reliability(scores, hits).items()}
    distance = np.abs(curve['score'] - curve['share'])
    return dict(ece=float(np.average(distance, weights=curve['entries'])),
                nll=float(log_loss(hits, np.clip(scores, 2.0**-149, 1 - 2.0**-25), labels=[0, 1])))


def bent_curve(line: Calibration, logits: np.ndarray, hits: np.ndarray) -> Calibration:
    """The most probable rising curve of straight pieces, near a straight line.

    A loss with a margin squeezes what is unsure into few logits, and spreads
    what is sure over many: no line fits both. The knots lie where the line is
    unsure. Slopes of neighbours are held near each other, by a normal prior of
    their difference (standard deviation: the line's slope).

    Args:
        line: without a curve.
        logits: ``(M,)``.
        hits: bool ``(M,)``.
    """
    order = np.argsort(logits)
    sure = line(logits[order])
    weight = np.cumsum(sure * (1 - sure))
    knots = np.unique(np.interp(np.arange(1, KNOTS + 1) / (KNOTS + 1) * weight[-1], weight,
                                logits[order]))
    ends = np.concatenate([[min(logits.min(), knots[0] - 1)], knots,
                           [max(logits.max(), knots[-1] + 1)]])
    pieces = np.stack([np.clip(logits, a, b) - a
                       for a, b in zip(ends, ends[1:], strict=False)], axis=1) / line.temperature
    start = line.logits(ends[0])

    def cost(found: np.ndarray) -> Tuple[float, np.ndarray]:
        at = start + found[0] + pieces @ found[1:]
        value = -(log_expit(at) - (1 - hits) * at).sum()
        wrong = expit(at) - hits
        slope = np.concatenate([[wrong.sum()], pieces.T @ wrong])
        step = np.diff(found[1:])
        slope[2:] += step
        slope[1:-1] -= step
        return (value + (step**2).sum() / 2) / len(hits), slope / len(hits)

    first = np.concatenate([[0.0], np.ones(len(ends) - 1)])
    found = minimize(cost, first, jac=True, method='L-BFGS-B',
                     bounds=[(None, None)] + [(0.01, None)] * (len(ends) - 1)).x
    rise = np.cumsum(np.diff(ends) * found[1:]) / line.temperature
    heights = start + found[0] + np.concatenate([[0.0], rise])
    return Calibration(curve=tuple((float(x), float(y))
                                   for x, y in zip(ends, heights, strict=True)))


def own_curve(shared: Calibration, logits: np.ndarray, hits: np.ndarray) -> Calibration:
    """The most probable curve of a class, near the one that all classes share.

    ``sigmoid(slope * shared + bias)``. Slope and bias are held near 1 and 0 by
    normal priors (standard deviation 0.5 of the slope's logarithm, 1 of the
    bias): a few labels of a class change little, many decide.

    Args:
        shared: curve of all classes.
        logits: ``(M,)``, of the class.
        hits: ``(M,)``, from 0 to 1.
    """
    common = shared.logits(logits)

    def cost(own: np.ndarray) -> Tuple[float, np.ndarray]:
        log_slope, bias = own
        rise = np.exp(log_slope) * common
        wrong = expit(rise + bias) - hits
        value = -(log_expit(rise + bias) - (1 - hits) * (rise + bias)).sum()
        held = own / np.array([SLOPE_SPREAD, BIAS_SPREAD])**2
        slope = np.array([(wrong * rise).sum(), wrong.sum()]) + held
        return (value + (own * held).sum() / 2) / len(hits), slope / len(hits)

    log_slope, bias = minimize(cost, np.zeros(2), jac=True, method='L-BFGS-B',
                               bounds=[(-4, 4), (None, None)]).x
    slope = float(np.exp(log_slope))
    return shared._replace(temperature=shared.temperature / slope,
                           bias=slope * shared.bias + float(bias))


def fit_curves(claims: Sequence[Claims], kind: str) -> List[Calibration]:
    """A curve for each class; that of all where a class has no hits.

    Args:
        claims: of each class.
        kind: of :data:`KINDS`.

    Raises:
        UserError: as :func:`fit_calibration` does.
    """
    identity = [Calibration()] * len(claims)
    if kind == 'none':
        return identity
    together = joined(claims)
    shared = fit_calibration(together.logits, together.hits, bias=kind != 'temperature')
    if shared is None:
        return identity
    if kind in ('curve', 'classes'):
        shared = bent_curve(shared, together.logits, together.hits)
    if kind != 'classes':
        return [shared] * len(claims)
    return [own_curve(shared, c.logits, c.hits) if c.hits.any() else shared for c in claims]


def try_curves(claims: Sequence[Claims], kind: str) -> List[Calibration]:
    """:func:`fit_curves` of a part of the data; logits stay where that raises."""
    try:
        return fit_curves(claims, kind)
    except UserError:
        return fit_curves(claims, 'none')


def calibrated(claims: Sequence[Claims], curves: Sequence[Calibration]) -> List[Claims]:
    """The same with the logits of probabilities."""
    return [c._replace(logits=curve.logits(c.logits))
            for c, curve in zip(claims, curves, strict=True)]


def cross_validated_scores(claims: Sequence[Claims], held_out: Sequence[np.ndarray],
                           kind: str) -> np.ndarray:
    """Every entry of all classes as a probability, by curves that were fitted without its image.

    Args:
        claims: of each class.
        held_out: bool arrays ``(N,)`` that choose each image once.
        kind: of :data:`KINDS`.

    Returns:
        In the order of :func:`~asl_det.analysis.claims.joined`.
    """
    scores = [expit(c.logits) for c in claims]
    for fold in held_out:
        curves = try_curves([c.of(~fold) for c in claims], kind)
        for own, c, curve in zip(scores, claims, curves, strict=True):
            chosen = fold[c.images]
            own[chosen] = curve(c.logits[chosen])
    return np.concatenate(scores)
