"""A pipeline whose steps know where they stand in the config, and say so when one fails."""

import traceback
from collections import Counter
from typing import Any, List, Optional, Sequence

from mmcv.transforms import BaseTransform

from asl_det.registry import TRANSFORMS, type_name

# Which earlier step makes a key of the results.
MAKES = {'img': 'LoadImageFromFile', 'img_shape': 'LoadImageFromFile',
         'ori_shape': 'LoadImageFromFile', 'gt_bboxes': 'LoadAnnotations(with_bbox=True)',
         'gt_bboxes_labels': 'LoadAnnotations(with_bbox=True)',
         'gt_ignore_flags': 'LoadAnnotations(with_bbox=True)',
         'gt_masks': 'LoadAnnotations(with_bbox=True, with_mask=True)',
         'gt_seg_map': 'LoadAnnotations(with_seg=True)', 'proposals': 'LoadProposals'}


class StepError(Exception):
    """A step that can not be built, or fails on an image.

    Attributes:
        place: dotted key of the step.
        error: what it raised.
        transform: the step, None if it can not be built.
    """

    def __init__(self, place: str, text: str, error: Exception, transform: Any = None) -> None:
        super().__init__(text)
        self.place, self.error, self.transform = place, error, transform


class Step:
    """A transform in a pipeline; otherwise as the transform itself.

    Args:
        place: its dotted key.
        transform: the transform.
        dropped: counts by place how often a step returned None.
    """

    def __init__(self, place: str, transform: Any, dropped: 'Counter[str]') -> None:
        self.place, self.transform_, self.dropped = place, transform, dropped

    def __getattr__(self, name: str) -> Any:
        if name.startswith('__') or name == 'transform_':  # of a copy that is being made
            raise AttributeError(name)
        return getattr(self.transform_, name)

    def __call__(self, data: Any) -> Any:
        keys = set(data) if isinstance(data, dict) else set()
        try:
            result = self.transform_(data)
        except StepError:
            raise
        except Exception as error:
            name = type_name(type(self.transform_))
            raise StepError(self.place, f'{name} fails{_inside(error, name)} on an image '
                            f'({describe(error)}){_advice(self.transform_, error, keys)}',
                            error, self.transform_) from error
        self.dropped[self.place] += result is None
        return result


def build_steps(place: str, pipeline: Optional[Sequence[Any]], dropped: 'Counter[str]'
                ) -> List[Step]:
    """The steps of a pipeline of the config.

    Raises:
        StepError: if one can not be built.
    """
    steps = []
    for i, node in enumerate(pipeline or ()):
        where = f'{place}.{i}'
        try:
            steps.append(Step(where, TRANSFORMS.build(node) if isinstance(node, dict) else node,
                              dropped))
        except Exception as error:
            name = type_name(node)
            raise StepError(where, f'{name} can not be built ({describe(error)})',
                            error) from error
    return steps


def describe(error: Exception) -> str:
    """Kind and text of an error, in a line."""
    text = ' '.join(str(error).split())
    return f'{type(error).__name__}: {text}' if text else type(error).__name__


def _inside(error: Exception, outer: str) -> str:
    """The innermost transform that was at work, of those that hold others."""
    names = [type(frame.f_locals['self']).__name__
             for frame, _ in traceback.walk_tb(error.__traceback__)
             if isinstance(frame.f_locals.get('self'), BaseTransform)]
    return f' in its {names[-1]}' if names and names[-1] != outer else ''


def _advice(transform: Any, error: Exception, keys: Any) -> str:
    """What to do, where an error says it."""
    if hasattr(transform, 'get_indexes') and 'mix_results' not in keys:
        return (f": {type(transform).__name__} mixes several images: put it into the pipeline of a "
                "MultiImageMixDataset(dataset=...) around the data set, or use Cached"
                f'{type(transform).__name__}, where there is one')
    key = error.args[0] if isinstance(error, KeyError) and error.args else None
    if key in MAKES and key not in keys:
        return f': no step before it makes {key!r}: put {MAKES[key]} before it'
    return ''

