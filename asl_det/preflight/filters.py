"""Images that a data set leaves out by ``filter_cfg`` and ``indices``, and a few of the others."""

import os
from typing import Any, Dict, List, Optional, Sequence, Tuple

import numpy as np

from asl_det.files.text import shown
from asl_det.preflight.finding import Finding

FEW = 6  # images that stand for a data set


def kept_images(place: str, dataset: Dict[str, Any], sizes: np.ndarray, annotated: np.ndarray
                ) -> Tuple[List[Finding], np.ndarray]:
    """Which images mmdet's ``CocoDataset`` and ``XMLDataset`` do not leave out.

    Args:
        place: dotted key of the data set.
        dataset: its config.
        sizes: width and height, ``(N, 2)``.
        annotated: whether an image has an annotation of the classes, ``(N,)``.

    Returns:
        A finding if there is none, and ``(N,)``.
    """
    kept = np.ones(len(annotated), bool)
    filters = dataset.get('filter_cfg')
    if isinstance(filters, dict) and not dataset.get('test_mode'):
        if filters.get('filter_empty_gt', False):
            kept &= annotated
        least = filters.get('min_size', 0)
        if isinstance(least, (int, float)) and least:
            with np.errstate(invalid='ignore'):
                kept &= ~(sizes.min(1) < least)
        if annotated.any() and not kept.any():
            largest = np.nanmax(sizes.min(1))
            return [Finding('no image is left', f'{place}.filter_cfg', f'{shown(dict(filters))} '
                            f'leaves none of the {len(kept)} images: the shorter side of the '
                            f'largest has {largest:g} pixels; lower min_size')], kept
    rows = np.flatnonzero(kept)
    found, chosen = by_indices(place, dataset, len(rows))
    kept[:] = False
    kept[rows[chosen]] = True
    return found, kept


def by_indices(place: str, dataset: Dict[str, Any], count: int
               ) -> Tuple[List[Finding], List[int]]:
    """Positions that ``indices`` chooses of ``count`` images, as mmengine reads it."""
    indices = dataset.get('indices')
    everything = list(range(count))
    if indices is None or not count:
        return [], everything
    where = f'{place}.indices'
    if isinstance(indices, int) and not isinstance(indices, bool):
        chosen = everything[:indices] if indices >= 0 else everything[indices:]
        return ([] if chosen else [Finding(
            'no image is left', where, f'{indices} leaves none of the {count} images: give how '
            'many of the first are used, or leave it out')]), chosen
    if not isinstance(indices, (list, tuple)) or not all(isinstance(i, int) for i in indices):
        return [Finding('indices', where, f'{shown(indices)}: expected how many of the first '
                        'images are used, or a list of positions')], everything
    beyond = [i for i in indices if not -count <= i < count]
    if beyond or not indices:
        return [Finding('no image is left' if not indices else 'indices', where,
                        (f'{beyond[0]} is no position' if beyond else 'an empty list: there is '
                         'nothing to choose') + f' of the {count} images that are left')], []
    return [], sorted({everything[i] for i in indices})


def choose_few(files: Sequence[str], kept: np.ndarray, objects: np.ndarray,
               sizes: Optional[np.ndarray] = None, most: int = FEW) -> List[int]:
    """Positions of a few images of a data set that exist, in their order.

    Args:
        files: all images.
        kept: which of them are used, ``(N,)``.
        objects: how many objects each has, ``(N,)``.
        sizes: width and height, ``(N, 2)``.
        most: how many.

    Returns:
        Spread over those with objects, the widest and the highest shape among
        them, and one without objects.
    """
    having, empty = np.flatnonzero(kept & (objects > 0)), np.flatnonzero(kept & (objects == 0))
    shapes: List[int] = []
    if sizes is not None and len(having):
        with np.errstate(all='ignore'):
            ratio = sizes[having, 0] / sizes[having, 1]
        if np.isfinite(ratio).all():
            shapes = [int(having[ratio.argmin()]), int(having[ratio.argmax()])]
    spread = having[np.linspace(0, len(having) - 1, min(len(having), 4 * most)).astype(int)]
    there = [i for i in dict.fromkeys([*shapes, *spread.tolist()])
             if os.path.exists(files[i])][:most - 1]
    return sorted(there + [i for i in empty[:20].tolist() if os.path.exists(files[i])][:1])
