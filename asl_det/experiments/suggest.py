"""What labels and the scores of a baseline say about gamma and margin, and what they do not."""

from pathlib import Path
from statistics import NormalDist
from typing import Any, Dict, List, Optional, Sequence, Tuple, Union

import numpy as np
import torch
from matplotlib.figure import Figure
from scipy.special import expit, logit

from asl_det.analysis.style import COLOURS, LINES, save
from asl_det.errors import UserError
from asl_det.losses.functional import asymmetric_loss
from asl_det.multilabel.datasets.dataset import shorten

GAMMAS = (0.0, 1.0, 2.0, 4.0, 6.0)
MARGINS = (0.0, 0.05, 0.2)
FINE_GAMMAS = tuple(np.arange(0, 8.01, 0.25).tolist())
# Of assumed scores, in standard deviations; AUC 0.76, 0.92, 0.98, 0.998.
SEPARATIONS = (1.0, 2.0, 3.0, 4.0)
MARGIN_SHARE, GRADIENT_SHARE = 0.9, 0.8
REPORTED = ('grad_pos', 'prob_pos', 'prob_neg', 'delta_p')
MOST_ENTRIES = 1_000_000
RESAMPLES = 100


def label_statistics(dataset: Any) -> Dict[str, Any]:
    """What the labels of a multi-label data set look like.

    Args:
        dataset: :class:`~asl_det.multilabel.MultiLabelDataset`.

    Returns:
        ``images``, ``classes``, ``positives_per_image`` (mean),
        ``images_by_positives`` (how many images have 0, 1, 2, ... of them),
        and by class ``positives``, ``negatives`` and ``unknown`` (arrays).

    Raises:
        UserError: for a data set of another task.
    """
    classes = dataset.metainfo['classes']
    counts = np.zeros((3, len(classes)), np.int64)
    per_image = []
    if 'gt_label' not in dataset.get_data_info(0):
        raise UserError('the data set has no multi-label targets (gt_label): expected a config of '
                        'a multi-label classifier')
    for i in range(len(dataset)):
        label = dataset.get_data_info(i)['gt_label']
        counts += np.stack([label == 1, label == 0, label == -1])
        per_image.append(int((label == 1).sum()))
    positives, negatives, unknown = counts
    return dict(images=len(dataset), classes=classes,
                positives_per_image=float(np.mean(per_image)),
                images_by_positives=np.bincount(per_image).tolist(), positives=positives,
                negatives=negatives, unknown=unknown)


def assumed_scores(positives: np.ndarray, negatives: np.ndarray, separation: float, seed: int = 0,
                   entries: int = 50_000) -> Tuple[np.ndarray, np.ndarray]:
    """Scores of a calibrated classifier with these labels, where no baseline is there.

    Every class has normal log-likelihood ratios with a distance of
    ``separation`` standard deviations between positives and negatives. How
    well classes separate is an assumption that no label can test.

    Returns:
        Probabilities and targets, both ``(entries,)``.
    """
    rng = np.random.default_rng(seed)
    has = (positives > 0) & (negatives > 0)
    if not has.any():
        raise UserError('no class has both positives and negatives')
    prior = positives[has] / (positives + negatives)[has]
    share = (positives + negatives)[has] / (positives + negatives)[has].sum()
    chosen = rng.choice(len(prior), entries, p=share)
    target = rng.random(entries) < prior[chosen]
    ratio = separation**2 * (target - 0.5) + separation * rng.standard_normal(entries)
    return expit(ratio + logit(prior[chosen])), target.astype(np.int8)


def assumed_ranges(positives: np.ndarray, negatives: np.ndarray, *,
                   margin_share: float = MARGIN_SHARE, gradient_share: float = GRADIENT_SHARE
                   ) -> Dict[str, Any]:
    """How far everything moves with a separation of the classes that is not known.

    Args:
        positives, negatives: counts by class.
        margin_share, gradient_share: as in :func:`suggest`.

    Returns:
        ``auc``: lowest and highest that was assumed. ``clip`` and
        ``gamma_neg``: lowest and highest that :func:`suggest` gives.
        ``records``: as from :func:`compare`, each value a (lowest, highest).
    """
    scores = [assumed_scores(positives, negatives, d) for d in SEPARATIONS]
    compared = [compare(*s) for s in scores]
    found = [suggest(p[:, None], y[:, None], margin_share=margin_share,
                     gradient_share=gradient_share, resamples=0) for p, y in scores]
    # A gamma out of reach counts as the highest that was tried.
    gammas = [FINE_GAMMAS[-1] if f['gamma_neg'] is None else f['gamma_neg'] for f in found]
    margins = [f['clip'] for f in found]
    auc = [NormalDist().cdf(d / 2**0.5) for d in SEPARATIONS]
    records = [dict(gamma_neg=same[0]['gamma_neg'], clip=same[0]['clip'], **{
        name: (min(r[name] for r in same), max(r[name] for r in same)) for name in REPORTED})
        for same in zip(*compared, strict=True)]
    return dict(auc=(min(auc), max(auc)), clip=(min(margins), max(margins)),
                gamma_neg=(min(gammas), max(gammas)), records=records)


def compare(scores: np.ndarray, targets: np.ndarray, gammas: Sequence[float] = GAMMAS,
            margins: Sequence[float] = MARGINS) -> List[Dict[str, float]]:
    """What each pair of gamma_neg and margin does at the scores of a baseline.

    Args:
        scores: probabilities, any shape.
        targets: 1, 0 or -1 (unknown, left out), of that shape.
        gammas, margins: values to try.

    Returns:
        A record a pair: ``gamma_neg``, ``clip``, ``grad_pos`` (share of the
        positives in the absolute gradient at these scores), ``prob_pos``,
        ``prob_neg`` and ``delta_p`` (where probabilities end in a model that
        knows what a calibrated baseline knows and minimises this loss; its
        ranking of images is the baseline's at every setting).
    """
    p, y, _ = _entries(scores, targets)
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


def suggest(scores: np.ndarray, targets: np.ndarray, *, margin_share: float = MARGIN_SHARE,
            gradient_share: float = GRADIENT_SHARE, resamples: int = RESAMPLES) -> Dict[str, Any]:
    """A margin and a gamma_neg from the scores of a baseline.

    Args:
        scores: probabilities ``(N, C)`` of a baseline trained with binary
            cross-entropy, on images that it was not trained on.
        targets: 1, 0 or -1 (unknown, left out), ``(N, C)``.
        margin_share: share of the negatives that shall lie under the margin,
            in (0, 1).
        gradient_share: share of the absolute gradient at these scores that
            positives shall have, in (0, 1).
        resamples: bootstrap samples of images, for the ranges.

    Returns:
        ``clip``: that quantile of the negatives' probability;
        ``negative_gradient_under``: share of the negatives' gradient under
        cross-entropy that it removes; ``positives_under``: share of the
        positives with a probability under it. ``gamma_neg``: the smallest
        (up to 8, else None) at which positives have their share with this
        margin; ``grad_pos_before``: their share with gamma_neg 0 and this
        margin. ``clip_range`` and ``gamma_range``: 5 and 95 % of the
        bootstrap, None without or where a share is out of reach.
        ``mean_score`` and ``positive_share``: equal for a calibrated
        baseline.

    Raises:
        UserError: if scores are no probabilities, targets have other values,
            shapes differ, or there are no positives or no negatives.
    """
    p, y, image = _entries(scores, targets)
    images = int(image.max()) + 1
    negatives = np.sort(p[~y])
    clip = float(np.quantile(negatives, margin_share))
    # Sums by image, so that images can be drawn again.
    pos, neg = np.zeros((2, len(FINE_GAMMAS), images))
    for i, gamma in enumerate(FINE_GAMMAS):
        gradient = _absolute_gradient(p, y, gamma, clip)
        pos[i], neg[i] = (np.bincount(image[c], gradient[c], images) for c in (y, ~y))
    gamma = _first_gamma(pos.sum(1) / (pos + neg).sum(1), gradient_share)
    clips, gammas = [], []
    rng = np.random.default_rng(0)
    order = np.argsort(p[~y])
    sorted_p, sorted_image = p[~y][order], image[~y][order]
    for _ in range(resamples):
        weight = np.bincount(rng.integers(0, images, images), minlength=images)
        total = np.cumsum(weight[sorted_image])
        clips.append(sorted_p[np.searchsorted(total, margin_share * total[-1])])
        gammas.append(_first_gamma(pos @ weight / ((pos + neg) @ weight), gradient_share))
    reached = resamples and None not in gammas
    return dict(
        clip=clip, clip_range=_interval(clips) if resamples else None,
        negative_gradient_under=float(negatives[negatives <= clip].sum() / negatives.sum()),
        positives_under=float((p[y] <= clip).mean()), gamma_neg=gamma,
        gamma_range=_interval(gammas) if reached else None,
        grad_pos_before=float(pos[0].sum() / (pos[0] + neg[0]).sum()),
        mean_score=float(p.mean()), positive_share=float(y.mean()))


def best_probability(posterior: np.ndarray, gamma_neg: float, clip: float) -> np.ndarray:
    """The probability that minimises the expected loss where positives have this posterior.

    For cross-entropy it is the posterior itself; focusing on positives raises
    it. It grows with the posterior at every setting, so none changes a ranking.
    """
    logits = torch.linspace(-14, 14, 1401, dtype=torch.float64).unsqueeze(1)
    cost_pos, cost_neg = (asymmetric_loss(
        logits, torch.full_like(logits, y), gamma_pos=0.0, gamma_neg=gamma_neg, clip=clip
    ).squeeze(1).numpy() for y in (1.0, 0.0))
    grid = np.linspace(-16, 16, 801)
    q = expit(grid[:, None])
    best = logits[np.argmin(q * cost_pos + (1 - q) * cost_neg, axis=1), 0].sigmoid().numpy()
    return np.interp(logit(posterior), grid, best)


def plot_balance(records: List[Dict[str, Any]], out: Union[str, Path],
                 gradient_share: float = GRADIENT_SHARE) -> List[Path]:
    """Draw the balance of gradient and of probabilities over gamma_neg, a line a margin.

    Args:
        records: of :func:`compare`, or with ranges of :func:`assumed_ranges`.
        out: file without suffix.
        gradient_share: drawn as a line.

    Returns:
        PNG and PDF.
    """
    figure = Figure(figsize=(8.4, 3.4), layout='constrained')
    panels = figure.subplots(1, 2)
    labels = dict(grad_pos='share of positives in the gradient', delta_p='Δp where a model ends')
    for axes, (name, label) in zip(panels, labels.items(), strict=True):
        margins = sorted({r['clip'] for r in records})
        for clip, colour, line in zip(margins, COLOURS, LINES, strict=False):
            same = [r for r in records if r['clip'] == clip]
            edges = np.array([np.broadcast_to(r[name], 2) for r in same]).T
            gammas = [r['gamma_neg'] for r in same]
            axes.fill_between(gammas, *edges, color=colour, alpha=0.2, linewidth=0)
            for values, text in zip(edges, (f'margin {clip:g}', None), strict=True):
                axes.plot(gammas, values, color=colour, linestyle=line, label=text)
        axes.axhline(gradient_share if name == 'grad_pos' else 0, color='grey', linewidth=0.8)
        axes.set(xlabel='γ-', ylabel=label)
    panels[0].legend(frameon=False, fontsize='small')
    return save(figure, out)


def _entries(scores: np.ndarray, targets: np.ndarray
             ) -> Tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Probabilities, whether positive, and the row, of the known entries; of many rows a part."""
    scores, targets = np.asarray(scores, np.float64), np.asarray(targets)
    if scores.shape != targets.shape:
        raise UserError(f'shapes differ: scores {scores.shape}, targets {targets.shape}')
    if not scores.size:
        raise UserError(f'there are no scores (shape {scores.shape})')
    wrong = np.argwhere(~np.isfinite(scores))
    if len(wrong):
        raise UserError(f'{len(wrong)} of {scores.size} scores are NaN or infinite, the first at '
                        f'{tuple(wrong[0].tolist())}: a network whose weights are not finite gives '
                        'these')
    if not (scores.min() >= 0 and scores.max() <= 1):
        raise UserError(f'scores go from {scores.min():g} to {scores.max():g}: expected '
                        'probabilities; of logits take the sigmoid first')
    values = np.unique(targets)
    if not np.isin(values, (-1, 0, 1)).all():
        raise UserError(f'targets have the values {shorten(values.tolist())}: expected 1, 0 and -1 '
                        '(unknown)')
    scores, targets = (a.reshape(len(a), -1) for a in (scores, targets))
    if scores.size > MOST_ENTRIES:
        rows = max(1, MOST_ENTRIES // scores.shape[1])
        chosen = np.random.default_rng(0).choice(len(scores), rows, replace=False)
        scores, targets = scores[chosen], targets[chosen]
    known = targets >= 0
    y = targets[known] == 1
    if y.all() or not y.any():
        raise UserError(f'{y.sum()} of {len(y)} known labels are positive: the balance needs both')
    return np.clip(scores[known], 1e-7, 1 - 1e-7), y, np.nonzero(known)[0]


def _absolute_gradient(p: np.ndarray, y: np.ndarray, gamma_neg: float, clip: float) -> np.ndarray:
    logits = torch.logit(torch.from_numpy(p)).unsqueeze(1).requires_grad_()
    loss = asymmetric_loss(logits, torch.from_numpy(y).unsqueeze(1), gamma_pos=0.0,
                           gamma_neg=gamma_neg, clip=clip)
    return torch.autograd.grad(loss.sum(), logits)[0].abs().squeeze(1).numpy()


def _first_gamma(shares: np.ndarray, wanted: float) -> Optional[float]:
    """Where the shares at ``FINE_GAMMAS`` first reach what is wanted, between two linearly."""
    reached = np.flatnonzero(shares >= wanted)
    if not len(reached):
        return None
    i = int(reached[0])
    if i == 0:
        return FINE_GAMMAS[0]
    return float(np.interp(wanted, shares[i - 1:i + 1], FINE_GAMMAS[i - 1:i + 1]))


def _interval(values: List[float]) -> Tuple[float, float]:
    return tuple(map(float, np.quantile(values, (0.05, 0.95))))
