"""Boxes of an annotation file, all at once: sizes, places, and what they may have been meant as."""

from dataclasses import dataclass
from typing import Any, Dict, Iterator, List, Sequence, Tuple

import numpy as np

from asl_det.data.coco_json import wrong_mask
from asl_det.files.reading import MISSING, NUMBER
from asl_det.files.text import shown
from asl_det.preflight.columns import Table, rows_of
from asl_det.preflight.finding import Box, Finding

TOLERANCE = 1.0  # pixels beyond the image that are rounding
FEW = 3  # boxes from which on a pattern is no accident


@dataclass
class Boxes:
    """The boxes of a file.

    Attributes:
        rows: rows of the table that have four numbers, ``(M,)``.
        xywh: ``(M, 4)`` float64.
        sizes: width and height of their images, ``(M, 2)``, NaN if unknown.
        images: file of the image of each.
    """

    table: Table
    rows: np.ndarray
    xywh: np.ndarray
    sizes: np.ndarray
    images: Sequence[str]

    def say(self, rule: str, mask: np.ndarray, message: str, error: bool = True
            ) -> Iterator[Finding]:
        """A finding for every box of the mask; ``{box}`` and ``{size}`` stand for its own."""
        for i in rows_of(mask):
            yield self.table.finding(rule, int(self.rows[i]), message.format(
                box=_text(self.xywh[i]), size=' x '.join(f'{v:g}' for v in self.sizes[i])), error,
                (self.images[i],), (tuple(self.xywh[i].tolist()),))

    def say_of_all(self, rule: str, mask: np.ndarray, message: str) -> Iterator[Finding]:
        """One finding for many boxes, with the first as the example."""
        first = int(np.argmax(mask))
        shown: Dict[str, Box] = {}
        for i in rows_of(mask)[:50]:
            shown.setdefault(self.images[i], tuple(self.xywh[i].tolist()))
        yield Finding(rule, str(self.table.path), f'{int(mask.sum())} of {len(mask)} boxes, such '
                      f'as bbox {_text(self.xywh[first])} of {self.table.name}'
                      f'[{self.table.kept[self.rows[first]]}] in an image of '
                      f'{" x ".join(f"{v:g}" for v in self.sizes[first])}, {message}',
                      images=tuple(shown), boxes=tuple(shown.values()))


def readable_boxes(table: Table, values: Sequence[Any]) -> Tuple[List[Finding], np.ndarray]:
    """Which of the values are four numbers, and findings for those that are not."""
    findings = []
    good = np.ones(len(values), bool)
    plain = set(map(type, values)) <= {list} and set(map(len, values)) <= {4}
    if plain and set(map(type, (v for box in values for v in box))) <= set(NUMBER):
        return findings, good
    for row, value in enumerate(values):
        if (isinstance(value, list) and len(value) == 4
                and all(type(v) in NUMBER for v in value)):
            continue
        good[row] = False
        if value is not MISSING:
            findings.append(table.finding(
                'box', row, f'bbox {shown(value)}: expected four numbers, x and y of the upper '
                'left corner, width and height in pixels'))
    return findings, good


def check_boxes(boxes: Boxes) -> Iterator[Finding]:
    """Boxes that can not be, are left out by mmdet, or lie outside their image."""
    x, y, w, h = boxes.xywh.T
    finite = np.isfinite(boxes.xywh).all(1)
    yield from boxes.say('box not finite', ~finite, 'bbox {box}: expected finite numbers')
    width, height = boxes.sizes.T
    with np.errstate(invalid='ignore'):
        known = finite & (width > 2) & (height > 2)
        shares = known & (np.abs(boxes.xywh) <= 1).all(1)
        beyond = known & ((x + w > width + TOLERANCE) | (y + h > height + TOLERANCE)
                          | (x < -TOLERANCE) | (y < -TOLERANCE))
        gone = known & ~shares & (w > 0) & (h > 0) & (
            (x >= width) | (y >= height) | (x + w <= 0) | (y + h <= 0))
        as_corners = known & (w > x) & (h > y) & (w <= width + 1) & (h <= height + 1)
    rest = finite.copy()
    if shares.sum() > known.sum() / 2:
        yield from boxes.say_of_all('boxes as shares', shares, 'are shares of the image, which '
                                    'mmdet takes as pixels and leaves out as thinner than one: '
                                    'multiply x and width by the width of the image, y and height '
                                    'by its height')
        rest &= ~shares
    many = known.sum() >= FEW
    if many and as_corners[known].all() and beyond.sum() >= 0.3 * known.sum():
        yield from boxes.say_of_all('boxes as corners', beyond, 'would reach out of it, while as '
                                    'corners x1, y1, x2, y2 all lie inside: expected x, y, width, '
                                    'height')
        rest[:] = False
    elif many and beyond.sum() >= 0.5 * known.sum():
        yield from boxes.say_of_all('boxes of other sizes', beyond, 'reach out of it: they belong '
                                    'to images of another size (resized after labelling?): scale '
                                    'the boxes, or state the right sizes')
        rest &= ~beyond
    with np.errstate(invalid='ignore'):
        negative = rest & ((w < 0) | (h < 0))
        thin = rest & ~negative & ((w < 1) | (h < 1))
        partly = rest & beyond & ~gone & ~negative & ~thin
    yield from boxes.say('negative box', negative, 'bbox {box} has a negative width or height, and '
                         'mmdet leaves it out: expected x, y, width, height, with x, y the upper '
                         'left corner')
    yield from boxes.say('thin box', thin, 'bbox {box} is thinner than a pixel: mmdet leaves it '
                         'out in training, and evaluation counts it as missed', error=False)
    yield from boxes.say('box outside', rest & gone & ~thin, 'bbox {box} lies outside its image '
                         'of {size}: mmdet leaves it out in training, and evaluation counts it as '
                         'missed', error=False)
    yield from boxes.say('box beyond the image', partly, 'bbox {box} reaches out of its image of '
                         '{size}: mmdet trains on the part inside, evaluation takes the whole. If '
                         'these are corners: expected x, y, width, height', error=False)


def used_boxes(boxes: Boxes, area: np.ndarray) -> np.ndarray:
    """Which boxes mmdet's ``CocoDataset`` does not leave out for their size or place, ``(M,)``.

    Args:
        area: the annotations' own, ``(M,)``.
    """
    x, y, w, h = boxes.xywh.T
    width, height = boxes.sizes.T
    with np.errstate(invalid='ignore'):
        inside = ((np.minimum(x + w, width) > np.maximum(x, 0))
                  & (np.minimum(y + h, height) > np.maximum(y, 0)))
        return inside & ~(area <= 0) & (w >= 1) & (h >= 1)


def _text(box: np.ndarray) -> str:
    return f'[{", ".join(f"{v:g}" for v in box)}]'


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


