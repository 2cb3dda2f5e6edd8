"""What could be predicted of each class, and the images that are held out."""

from typing import List, NamedTuple, Sequence

import numpy as np

from asl_det.errors import UserError


class Claims(NamedTuple):
    """What could be predicted of one class, in any set of images.

    Attributes:
        logits: ``(M,)``, of every entry with known label, or every box.
        hits: bool ``(M,)``, which of them are right.
        images: int ``(M,)``, the image of each.
        positives: int ``(P,)``, the image of everything that is there to be
            found; more than the hits where a detector missed some.
    """

    logits: np.ndarray
    hits: np.ndarray
    images: np.ndarray
    positives: np.ndarray

    def of(self, chosen: np.ndarray) -> 'Claims':
        """Those of the images that a bool array ``(N,)`` chooses."""
        kept = chosen[self.images]
        return Claims(self.logits[kept], self.hits[kept], self.images[kept],
                      self.positives[chosen[self.positives]])


def claims_of_labels(logits: np.ndarray, targets: np.ndarray) -> List[Claims]:
    """From logits and targets ``(N, C)`` (1, 0, or -1 for unknown) to a list of C.

    Infinite logits, of classes that a model masks, count as the outermost of the others.
    """
    finite = logits[np.isfinite(logits)]
    if len(finite) < logits.size:
        logits = np.clip(logits, finite.min(initial=0), finite.max(initial=0))
    claims = []
    for column, target in zip(logits.T, targets.T, strict=True):
        images = np.flatnonzero(target >= 0)
        hits = target[images] == 1
        claims.append(Claims(column[images].astype(np.float64), hits, images, images[hits]))
    return claims


def joined(claims: Sequence[Claims]) -> Claims:
    """All classes as one."""
    return Claims(*(np.concatenate(parts) for parts in zip(*claims, strict=True)))


def splits(images: np.ndarray, folds: int, seed: int) -> List[np.ndarray]:
    """Bool arrays ``(N,)`` of the images that are held out, each of ``images`` once."""
    from sklearn.model_selection import KFold
    among = np.flatnonzero(images)
    if not 2 <= folds <= len(among):
        raise UserError(f'{folds} folds: expected 2 to {len(among)}, the number of images')
    held_out = np.zeros((folds, len(images)), bool)
    for row, (_, test) in zip(held_out, KFold(folds, shuffle=True, random_state=seed).split(among),
                              strict=True):
        row[among[test]] = True
    return list(held_out)
