"""Whether probabilities mean what they say, and a temperature that makes them."""

from typing import Dict, List, NamedTuple, Optional, Sequence

import numpy as np

from asl_det.errors import UserError

BINS = 15


class Calibration(NamedTuple):
    """``sigmoid(logit / temperature + bias)``; no ranking changes."""

    temperature: float = 1.0
    bias: float = 0.0

    def __call__(self, scores: np.ndarray) -> np.ndarray:
        """Probabilities to probabilities, any shape."""
        return 1 / (1 + np.exp(-(logits_of(scores) / self.temperature + self.bias)))


def logits_of(scores: np.ndarray) -> np.ndarray:
    """Logits, float64; those of float32's 0 and 1 are finite: -103 and 17.3."""
    scores = np.clip(np.asarray(scores, np.float64), 2.0**-149, 1 - 2.0**-25)
    return np.log(scores) - np.log1p(-scores)


def fit_calibration(scores: np.ndarray, hits: np.ndarray, bias: bool) -> Optional[Calibration]:
    """The calibration with the highest likelihood (Guo et al. 2017; with a bias: Platt 1999).

    Args:
        scores: probabilities ``(M,)``.
        hits: bool ``(M,)``.
        bias: fit one too. A loss that lets negatives alone below a margin
            leaves them at that margin: no temperature moves them, as a logit
            of 0 stays where it is.

    Returns:
        None where no finite one is best: scores that separate hits from the
        rest without an error.

    Raises:
        UserError: if there are only hits or none, or higher scores do not
            mean more hits.
    """
    from sklearn.linear_model import LogisticRegression
    if hits.all() or not hits.any():
        raise UserError(f'{hits.sum()} of {len(hits)} known labels are positive: a calibration '
                        'needs both')
    if scores[hits].min() > scores[~hits].max():
        return None
    model = LogisticRegression(C=np.inf, fit_intercept=bias, tol=1e-8, max_iter=1000)
    model.fit(logits_of(scores)[:, None], hits)
    slope = float(model.coef_[0, 0])
    if slope <= 0:
        raise UserError(f'higher scores do not mean more hits (slope {slope:.3g}): are these the '
                        'labels of these scores?')
    return Calibration(1 / slope, float(model.intercept_[0]) if bias else 0.0)


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


def cross_validated_scores(scores: np.ndarray, hits: np.ndarray, images: np.ndarray,
                           held_out: Sequence[np.ndarray], bias: bool) -> np.ndarray:
    """Every entry calibrated by what was fitted without its image.

    Args:
        scores, hits, images: ``(M,)``, entries of known label.
        held_out: bool arrays ``(N,)`` that choose each image once.
        bias: as in :func:`fit_calibration`.
    """
    calibrated = scores.copy()
    for fold in held_out:
        test = fold[images]
        found = fit_calibration(scores[~test], hits[~test], bias)
        if found is not None:
            calibrated[test] = found(scores[test])
    return calibrated
