"""A starting point for gamma and margin, from labels and the scores of a baseline."""

from typing import Any, Dict, List, Optional, Sequence

import numpy as np
import torch

from asl_det.losses.functional import asymmetric_loss

GAMMAS = (0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0)
MARGINS = (0.0, 0.05, 0.1)
SEPARATION = 3.0  # of the assumed scores, in standard deviations; AUC 0.983
MOST_ENTRIES = 2_000_000


def label_statistics(dataset: Any) -> Dict[str, Any]:
    """What the labels of a multi-label data set look like.

    Args:
        dataset: :class:`~asl_det.multilabel.MultiLabelDataset`.

    Returns:
        ``images``, ``classes``, ``positives_per_image`` (mean), and by class
        ``positives``, ``negatives`` and ``unknown`` (arrays).
    """
    classes = dataset.metainfo['classes']
    counts = np.zeros((3, len(classes)), np.int64)
    for i in range(len(dataset)):
        label = dataset.get_data_info(i)['gt_label']
        counts += np.stack([label == 1, label == 0, label == -1])
    positives, negatives, unknown = counts
    return dict(images=len(dataset), classes=classes,
                positives_per_image=float(positives.sum() / len(dataset)), positives=positives,
                negatives=negatives, unknown=unknown)


def assumed_scores(positives: np.ndarray, negatives: np.ndarray, seed: int = 0,
                   entries: int = 200_000) -> tuple:
    """Scores of a calibrated classifier with these labels, where no baseline is there.

    Every class has normal log-likelihood ratios with a distance of
    ``SEPARATION`` between positives and negatives.

    Returns:
        Probabilities and targets, both ``(M,)``.
    """
    rng = np.random.default_rng(seed)
    has = (positives > 0) & (negatives > 0)
    prior = positives[has] / (positives + negatives)[has]
    share = (positives + negatives)[has] / (positives + negatives)[has].sum()
    chosen = rng.choice(len(prior), entries, p=share)
    target = rng.random(entries) < prior[chosen]
    ratio = SEPARATION**2 * (target - 0.5) + SEPARATION * rng.standard_normal(entries)
    logit = ratio + np.log(prior[chosen] / (1 - prior[chosen]))
    return 1 / (1 + np.exp(-logit)), target.astype(np.int8)


def compare(scores: np.ndarray, targets: np.ndarray, gammas: Sequence[float] = GAMMAS,
            margins: Sequence[float] = MARGINS) -> List[Dict[str, float]]:
    """What each pair of gamma_neg and margin would do to a calibrated baseline.

    Args:
        scores: probabilities, any shape.
        targets: 1, 0 or -1 (unknown, left out), of that shape.
        gammas, margins: values to try.

    Returns:
        A record a pair: ``gamma_neg``, ``clip``, ``grad_pos`` (share of the
        positives in the absolute gradient at the baseline's scores),
        ``prob_pos``, ``prob_neg`` and ``delta_p`` (where a model ends that
        knows what the baseline knows and minimises this loss).
    """
    known = np.asarray(targets).ravel() >= 0
    p = np.asarray(scores, dtype=np.float64).ravel()[known]
    y = np.asarray(targets).ravel()[known] == 1
    if len(p) > MOST_ENTRIES:
        chosen = np.random.default_rng(0).choice(len(p), MOST_ENTRIES, replace=False)
        p, y = p[chosen], y[chosen]
    p = np.clip(p, 1e-7, 1 - 1e-7)
    records = []
    for clip in margins:
        for gamma in gammas:
            gradient = _absolute_gradient(p, y, gamma, clip)
            best = best_probability(p, gamma, clip)
            pos, neg = float(best[y].mean()), float(best[~y].mean())
            records.append(dict(gamma_neg=gamma, clip=clip,
                                grad_pos=float(gradient[y].sum() / gradient.sum()),
                                prob_pos=pos, prob_neg=neg, delta_p=pos - (1 - neg)))
    return records


def best_probability(posterior: np.ndarray, gamma_neg: float, clip: float) -> np.ndarray:
    """The probability that minimises the expected loss where positives have this posterior.

    For cross-entropy it is the posterior itself; focusing on positives raises it.
    """
    logits = torch.linspace(-14, 14, 1401, dtype=torch.float64).unsqueeze(1)
    cost_pos, cost_neg = (asymmetric_loss(
        logits, torch.full_like(logits, y), gamma_pos=0.0, gamma_neg=gamma_neg, clip=clip
    ).squeeze(1).numpy() for y in (1.0, 0.0))
    grid = 1 / (1 + np.exp(-np.linspace(-16, 16, 801)))
    best = np.array([logits[np.argmin(q * cost_pos + (1 - q) * cost_neg), 0].sigmoid().item()
                     for q in grid])
    return np.interp(np.log(posterior / (1 - posterior)), np.linspace(-16, 16, 801), best)


def suggest(records: Sequence[Dict[str, float]], target: float = 0.0, clip: float = 0.05
            ) -> Optional[Dict[str, float]]:
    """The smallest gamma_neg with which delta_p reaches ``target``, at one margin; or None."""
    fits = [r for r in records if r['clip'] == clip and r['delta_p'] >= target]
    return min(fits, key=lambda r: r['gamma_neg'], default=None)


def _absolute_gradient(p: np.ndarray, y: np.ndarray, gamma_neg: float, clip: float) -> np.ndarray:
    logits = torch.logit(torch.from_numpy(p)).unsqueeze(1).requires_grad_()
    loss = asymmetric_loss(logits, torch.from_numpy(y).unsqueeze(1), gamma_pos=0.0,
                           gamma_neg=gamma_neg, clip=clip)
    return torch.autograd.grad(loss.sum(), logits)[0].abs().squeeze(1).numpy()
