"""Masks of a COCO json: polygons and run lengths, as mmdet and pycocotools read them."""

from typing import Any, List, Optional, Sequence, Tuple

import numpy as np
from pycocotools import mask as rle

from asl_det.preflight.finding import Finding
from asl_det.preflight.table import MISSING, NUMBERS, Table, shown

EXPECTED = 'expected a list of polygons [x1, y1, x2, y2, x3, y3, ...], or run lengths with size '\
    'and counts'
FARTHEST = 1_000_000  # pycocotools takes memory for each pixel of an outline, and may crash


def check_masks(table: Table, rows: np.ndarray, sizes: np.ndarray, split: str) -> List[Finding]:
    """What is wrong with ``segmentation``, for runs that use masks.

    Args:
        table: the annotations.
        rows: which of them are learned from or evaluated, ``(M,)``.
        sizes: width and height of their images, ``(M, 2)``.
        split: 'train', or whose objects are evaluated.
    """
    findings = []
    for row, size in zip(rows.tolist(), sizes, strict=True):
        wrong = wrong_mask(table.records[row].get('segmentation', MISSING), size, split)
        if wrong is not None:
            message, error = wrong
            findings.append(table.finding('mask', row, message, error))
    return findings


def wrong_mask(mask: Any, size: Sequence[float], split: str) -> Optional[Tuple[str, bool]]:
    """What pycocotools can not read of a ``segmentation``, and whether a run ends there.

    Args:
        mask: the value.
        size: width and height of the image; NaN if not known.
        split: as in :func:`check_masks`.
    """
    if isinstance(mask, list) and mask:
        return _wrong_polygons(mask, split)
    if isinstance(mask, dict):
        return _wrong_run_lengths(mask, size)
    if mask is MISSING or not mask:
        what = 'has no segmentation' if mask is MISSING else f'segmentation {shown(mask)} is empty'
        return f'{what}, and masks are asked for: give it one, remove the object, or leave ' \
               'masks out (with_mask of LoadAnnotations, the mask head, segm of the metric)', True
    return f'segmentation {shown(mask)}: {EXPECTED}', True


def _wrong_polygons(mask: List[Any], split: str) -> Optional[Tuple[str, bool]]:
    if not all(isinstance(polygon, list) for polygon in mask):
        flat = all(type(v) in NUMBERS for v in mask)
        return (f'segmentation {shown(mask)} is a polygon without a list around it: write '
                '[[...]]' if flat else f'segmentation {shown(mask)}: {EXPECTED}'), True
    if not all(type(v) in NUMBERS and abs(v) <= FARTHEST for polygon in mask for v in polygon):
        return f'segmentation {shown(mask)}: expected pixels, numbers up to {FARTHEST:,}', True
    short = [polygon for polygon in mask if len(polygon) < 6 or len(polygon) % 2]
    if not short:
        return None
    what = f'segmentation has a polygon of {len(short[0])} numbers, {shown(short[0])}: expected ' \
           'x and y of three points or more'
    if split != 'train':
        return f'{what}; evaluation stops at it', True
    return f'{what}; mmdet leaves {"it" if len(short) < len(mask) else "the object"} out', False


def _wrong_run_lengths(mask: Any, size: Sequence[float]) -> Optional[Tuple[str, bool]]:
    given, counts = mask.get('size'), mask.get('counts')
    if not (isinstance(given, list) and len(given) == 2 and isinstance(counts, (list, str))
            and all(type(v) in NUMBERS and 0 < v <= FARTHEST and v % 1 == 0 for v in given)):
        return f'segmentation {shown(mask)}: {EXPECTED}', True
    if np.isfinite(size).all() and [float(v) for v in given] != [size[1], size[0]]:
        return (f'segmentation has the size {given} (height, width), but its image is '
                f'{size[0]:g} x {size[1]:g} (width x height)'), True
    height, width = given
    if isinstance(counts, list):
        fills = all(type(v) is int and v >= 0 for v in counts) and sum(counts) == height * width
    else:
        try:
            fills = rle.decode(mask).shape == (height, width)
        except Exception:  # whatever the compiled code raises
            fills = False
    return None if fills else (f'segmentation has run lengths {shown(counts)} that do not fill its '
                               f'{height} x {width} pixels', True)
