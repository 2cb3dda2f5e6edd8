"""Average precision, precision, recall and F1 of images whose labels are known in part."""

from array import array
from typing import Dict, Iterable, Iterator, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

BLOCK = 4_000_000  # entries that are worked on at once; bounds the temporaries


class Kept(NamedTuple):
    """What is kept of an image with C classes: all its entries, or those of known label.

    Attributes:
        labels: int32 ``(M,)``, the classes of the entries; empty if all C are
            kept.
        scores: float32 ``(M,)`` or ``(C,)``, by which entries are ranked:
            logits, or probabilities where there are none.
        targets: int8, of that shape: 1 present, 0 absent, -1 unknown.
        predicted, predicted_targets: int32 and int8 ``(P,)``, the predicted
            classes of known label.
        top, top_targets: int32 and int8 ``(k,)``, the classes with the
            highest scores, best first.
        num_classes: C.
        img_path: the image.
    """

    labels: np.ndarray
    scores: np.ndarray
    targets: np.ndarray
    predicted: np.ndarray
    predicted_targets: np.ndarray
    top: np.ndarray
    top_targets: np.ndarray
    num_classes: int
    img_path: str

    @property
    def complete(self) -> bool:
        """Whether all C entries are there."""
        return len(self.scores) > len(self.labels)

    def compact(self) -> 'Kept':
        """The entries of known label only, unless most labels are known."""
        if not self.complete:
            return self
        labels = np.flatnonzero(self.targets >= 0)
        if 2 * len(labels) > len(self.targets):  # an index costs about as much as an entry
            return self
        return self._replace(labels=labels, scores=self.scores[labels],
                             targets=self.targets[labels])


class KeptImages:
    """A list of :class:`Kept` in a few growing buffers.

    Small arrays, an image each, would lie between the model's outputs and keep
    the heap from reusing the room of those: the whole of them stayed in memory.
    """

    def __init__(self) -> None:
        self._values = [array(code) for code in 'ifbibib']  # the arrays of Kept, in order
        self._ends = [array('q', [0]) for _ in self._values]
        self._rest: List[Tuple[int, str]] = []

    def append(self, image: Kept) -> None:
        *parts, num_classes, img_path = image
        for values, ends, part in zip(self._values, self._ends, parts, strict=True):
            values.frombytes(part.astype(values.typecode).tobytes())
            ends.append(len(values))
        self._rest.append((num_classes, img_path))

    def images(self) -> List[Kept]:
        """All of them; their arrays are views."""
        values = [np.frombuffer(v, v.typecode) for v in self._values]
        return [Kept._make([*(v[e[i]:e[i + 1]] for v, e in zip(values, self._ends, strict=True)),
                            *rest]) for i, rest in enumerate(self._rest)]


def kept(scores: np.ndarray, targets: np.ndarray, predicted: np.ndarray, k: int,
         img_path: str = '', dense: bool = False) -> Kept:
    """Keep what the metrics need.

    Args:
        scores: float32 ``(C,)``, higher is likelier.
        targets: int8 ``(C,)``: 1 present, 0 absent, -1 unknown.
        predicted: indices of the predicted classes.
        k: the largest k of the top-k metrics, at most C.
        img_path: the image.
        dense: keep all entries even if few labels are known.
    """
    predicted = predicted[targets[predicted] >= 0]
    top = top_k(scores, k)
    image = Kept(np.empty(0, np.int32), scores, targets, predicted, targets[predicted], top,
                 targets[top], len(scores), img_path)
    return image if dense else image.compact()


def measure(images: Sequence[Kept], num_classes: int, topk: Sequence[int] = (3,),
            need_negatives: bool = False) -> Tuple[Dict[str, float], Dict[str, np.ndarray]]:
    """The metrics of :class:`MultiLabelMetric`.

    Args:
        images: what :func:`kept` returns, with its ``k`` at least the highest of ``topk``.
        num_classes: C.
        topk, need_negatives: as in :class:`MultiLabelMetric`.

    Returns:
        Metrics by name, none if no class can be measured, and by name an array
        ``(C,)`` of every class: ``positives, negatives, unknown, AP,
        precision, recall, F1``; NaN where a class can not be measured.
    """
    positives = np.zeros(num_classes, np.int64)
    negatives = np.zeros(num_classes, np.int64)
    ap = np.full(num_classes, np.nan)
    hits = []
    for c, (scores, positive) in enumerate(_columns(images, num_classes)):
        hits.append(scores[positive])
        positives[c] = len(hits[c])
        negatives[c] = len(scores) - positives[c]
        if positives[c] and (negatives[c] or not need_negatives):
            ap[c] = average_precision(hits[c], [scores])
    has = ~np.isnan(ap)

    def claims(name: str, stop: Optional[int] = None) -> tuple:
        classes = np.concatenate([getattr(i, name)[:stop] for i in images])
        targets = np.concatenate([getattr(i, f'{name}_targets')[:stop] for i in images])
        made, right = (np.bincount(classes[targets >= least], minlength=num_classes)
                       for least in (0, 1))
        return precision_recall(right, made, positives, has)

    at_threshold, of_class = claims('predicted')
    by_class = dict(positives=positives, negatives=negatives,
                    unknown=len(images) - positives - negatives, AP=ap, **of_class)
    if not has.any():
        return {}, by_class
    step = max(1, BLOCK // num_classes)
    known = (np.concatenate([i.scores[i.targets >= 0] for i in images[start:start + step]])
             for start in range(0, len(images), step))
    overall = dict(mAP=ap[has].mean(), mAP_weighted=np.average(ap[has], weights=positives[has]),
                   mAP_pooled=average_precision(np.concatenate(hits), known), **at_threshold)
    for k in topk:
        overall.update({f'top{k}_{name}': v for name, v in claims('top', k)[0].items()})
    overall = {name: float(value) for name, value in overall.items()}
    overall['classes_without_positives'] = int((positives == 0).sum())
    overall['classes_without_negatives'] = int(((positives > 0) & (negatives == 0)).sum())
    return overall, by_class


def _columns(images: Sequence[Kept], num_classes: int) -> Iterator[Tuple[np.ndarray, np.ndarray]]:
    """For every class the scores of the entries of known label, and which are positive."""
    images = [i.compact() for i in images]
    full = [i for i in images if i.complete]
    few = [i for i in images if not i.complete]
    labels, scores, targets = (np.concatenate([getattr(i, name) for i in few] or [np.empty(0)])
                               for name in ('labels', 'scores', 'targets'))
    order = np.argsort(labels, kind='stable')
    ends = np.searchsorted(labels[order], np.arange(num_classes + 1))
    scores, targets = scores[order], targets[order]
    width = max(1, BLOCK // max(1, len(full)))
    for start in range(0, num_classes, width):
        stop = min(start + width, num_classes)
        block = [np.stack([getattr(i, name)[start:stop] for i in full], 1) if full
                 else np.empty((stop - start, 0)) for name in ('scores', 'targets')]
        for c, column, target in zip(range(start, stop), *block, strict=True):
            known = target >= 0
            part = slice(ends[c], ends[c + 1])
            yield (np.concatenate([column[known], scores[part]]),
                   np.concatenate([target[known], targets[part]]) == 1)


def average_precision(hits: np.ndarray, chunks: Iterable[np.ndarray]) -> float:
    """AP of a list; every positive counts with the precision at its score.

    Args:
        hits: the scores of the positives ``(P,)``, P > 0.
        chunks: the scores of all entries, in any number of parts.
    """
    hits = np.sort(hits)
    reached = np.zeros(len(hits) + 1, np.int64)  # entries by the number of hits not above them
    for scores in chunks:
        reached += np.bincount(np.searchsorted(hits, np.sort(scores), side='right'),
                               minlength=len(hits) + 1)
    rank = reached[:0:-1].cumsum()[::-1]
    hit_rank = len(hits) - np.searchsorted(hits, hits)
    return float(np.mean(hit_rank / rank))


def top_k(scores: np.ndarray, k: int) -> np.ndarray:
    """int32 ``(k,)``: the classes with the highest scores, best first; of equal scores the first.

    Args:
        scores: ``(C,)``.
        k: from 0 to C.
    """
    if k == 0:
        return np.empty(0, np.int32)
    border = np.partition(scores, -k)[-k]
    above = np.flatnonzero(scores > border)
    above = above[np.argsort(-scores[above], kind='stable')]
    return np.concatenate([above, np.flatnonzero(scores == border)])[:k].astype(np.int32)


def lost_order(parts: Iterable[Tuple[np.ndarray, np.ndarray]]) -> Optional[str]:
    """What probabilities of exactly 0 or 1 hide: a sentence, None if it is little.

    It is little up to 1 % of the hits: hits at 0, or others at 1, that are
    tied with something else.

    Args:
        parts: probabilities and whether they are hits, ``(M,)``, in any number
            of parts.
    """
    entries, hits, at, hits_at = 0, 0, np.zeros(2, int), np.zeros(2, int)
    for scores, hit in parts:
        entries, hits = entries + len(hit), hits + int(hit.sum())
        for end in (0, 1):
            there = scores == end
            at[end] += int(there.sum())
            hits_at[end] += int(hit[there].sum())
    said = [f'{at[end]} are exactly {end} ({hits_at[end]} of them hits)'
            for end, lost in ((0, hits_at[0]), (1, at[1] - hits_at[1]))
            if at[end] > 1 and lost > hits / 100]
    return f'of {entries} scores {" and ".join(said)}: their order is lost' if said else None


def precision_recall(hits: np.ndarray, claims: np.ndarray, positives: np.ndarray,
                     has: np.ndarray) -> Tuple[Dict[str, float], Dict[str, np.ndarray]]:
    """Precision, recall and F1 from counts ``(C,)``.

    Args:
        hits, claims, positives: of every class, what was predicted rightly,
            what was predicted, and what is there.
        has: bool, the classes that count.

    Returns:
        ``CP, CR, CF1, mean_class_F1, OP, OR, OF1``, none where no class counts,
        and arrays of every class, NaN where it does not.
    """
    with np.errstate(invalid='ignore', divide='ignore'):
        by_class = dict(precision=hits / np.maximum(claims, 1), recall=hits / positives,
                        F1=2 * hits / (claims + positives))
    by_class = {name: np.where(has, values, np.nan) for name, values in by_class.items()}
    if not has.any():
        return {}, by_class
    cp, cr, mean_f1 = (values[has].mean() for values in by_class.values())
    op, orr = hits.sum() / max(claims.sum(), 1), hits.sum() / positives.sum()
    return dict(CP=cp, CR=cr, CF1=_f1(cp, cr), mean_class_F1=mean_f1, OP=op, OR=orr,
                OF1=_f1(op, orr)), by_class


def _f1(precision: float, recall: float) -> float:
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0
