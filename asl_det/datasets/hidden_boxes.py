"""Boxes that nobody annotated: a part of the boxes of a COCO json taken away."""

import json
from pathlib import Path
from typing import Any, Dict, List, Union

import numpy as np

from asl_det.errors import UserError


def hide_boxes(annotations: List[Dict[str, Any]], share: float, seed: int = 0
               ) -> List[Dict[str, Any]]:
    """The annotations that are left when a share of them is hidden.

    Which ones depends on the seed and on the ids alone, whatever their order,
    and what is hidden at a share is hidden at every larger one. Crowd regions
    are not boxes of objects: they stay and do not count.

    Args:
        annotations: those of a COCO json, with different ids.
        share: of the boxes to hide, in [0, 1); the number is rounded.
        seed: of the choice.

    Raises:
        UserError: for a share out of range or an id that stands twice.
    """
    if isinstance(share, bool) or not isinstance(share, (int, float)) or not 0 <= share < 1:
        raise UserError(f'hide_boxes={share!r}: expected a share in [0, 1)')
    ids = sorted(a['id'] for a in annotations if not a.get('iscrowd'))
    if len(set(ids)) != len(ids):
        raise UserError('hide_boxes: an annotation id stands twice: ids have to differ')
    order = np.random.default_rng(seed).permutation(len(ids))
    hidden = {ids[i] for i in order[:round(share * len(ids))]}
    return [a for a in annotations if a.get('iscrowd') or a['id'] not in hidden]


def write_hidden(source: Union[str, Path], target: Union[str, Path], share: float,
                 seed: int = 0) -> int:
    """Write a COCO json without a share of its boxes; images stay, with and without boxes.

    Its ``info.hide_boxes`` says what was done.

    Returns:
        How many boxes were hidden.

    Raises:
        UserError: if ``source`` is no COCO json, ``target`` is the same file,
            and as :func:`hide_boxes`.
    """
    source, target = Path(source), Path(target)
    try:
        coco = json.loads(source.read_text())
        annotations = coco['annotations']
        ids = [a['id'] for a in annotations]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f'{source} can not be read as COCO json, with annotations that have ids: '
                        f'{type(error).__name__}: {error}') from error
    if target.resolve() == source.resolve():
        raise UserError(f'{target} is the file to read: give another one to write')
    left = hide_boxes(annotations, share, seed)
    info = dict(coco.get('info') or {}, hide_boxes=dict(source=source.name, share=share, seed=seed))
    partial = target.with_suffix('.partial')
    partial.write_text(json.dumps(dict(coco, info=info, annotations=left)))
    partial.replace(target)
    return len(ids) - len(left)
