"""Pictures of boxes that can be read on any image. Imports mmdet's structures and matplotlib."""

import math
from typing import Any, List, Optional, Sequence, Tuple

import cv2
import mmcv
import numpy as np
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from mmdet.structures import DetDataSample
from mmdet.structures.mask import BitmapMasks, PolygonMasks
from mmdet.visualization import DetLocalVisualizer
from mmdet.visualization.palette import get_palette
from mmengine.dist import master_only
from mmengine.structures import InstanceData

from asl_det.analysis.palette import ink, palette_of
from asl_det.registry import VISUALIZERS, register

SMALL = 400  # pixels; images whose longer side is shorter are drawn enlarged
FONT = 13  # pixels, in an image of up to 800 pixels; in larger ones more
GAP = 6  # pixels between truth and prediction
LITERAL = dict(parse_math=False, usetex=False)  # class names may hold $ and _


@register(VISUALIZERS)
class BoxVisualizer(DetLocalVisualizer):
    """mmdet's visualizer with labels beside the boxes, not over the objects.

    Images of less than 400 pixels are drawn enlarged, by a whole number.
    Boxes have an outline that sets them off from dark and light images.
    Where truth and prediction stand side by side a caption says which is
    which. Semantic and panoptic segmentations are drawn as mmdet does.

    Args:
        name: of the instance.
        image: ``(H, W, 3)`` uint8 in RGB.
        vis_backends: configs of the places that pictures go to.
        save_dir: folder for those of them that are files.
    """

    def __init__(self, name: str = 'visualizer', image: Optional[np.ndarray] = None,
                 vis_backends: Any = None, save_dir: Optional[str] = None) -> None:
        super().__init__(name, image, vis_backends, save_dir)

    @master_only
    def add_datasample(self, name: str, image: np.ndarray,
                       data_sample: Optional[DetDataSample] = None, draw_gt: bool = True,
                       draw_pred: bool = True, show: bool = False, wait_time: float = 0,
                       out_file: Optional[str] = None, pred_score_thr: float = 0.3,
                       step: int = 0) -> None:
        """Draw a sample and hand it to the backends, or to ``out_file``, as mmdet does."""
        if any(key.endswith('_seg') for key in _keys(data_sample)):
            super().add_datasample(name, image, data_sample, draw_gt, draw_pred, show, wait_time,
                                   out_file, pred_score_thr, step)
            return
        whole = self.drawing(image, data_sample, draw_gt, draw_pred, pred_score_thr)
        self.set_image(whole)  # for who asks for it
        if show:
            self.show(whole, win_name=name, wait_time=wait_time)
        if out_file is None:
            self.add_image(name, whole, step)
        else:  # OpenCV's own choice makes files five times as large
            mmcv.imwrite(whole[..., ::-1], out_file, [cv2.IMWRITE_PNG_COMPRESSION, 6])

    def drawing(self, image: np.ndarray, sample: Optional[DetDataSample], draw_gt: bool = True,
                draw_pred: bool = True, threshold: float = 0.0) -> np.ndarray:
        """The objects of an image ``(H, W, 3)`` in RGB, drawn, ``(H', W', 3)``.

        Args:
            image: uint8.
            sample: with ``gt_instances`` (truth), ``pred_instances``, or both.
            draw_gt: the first.
            draw_pred: the second.
            threshold: predictions with higher scores are drawn.
        """
        factor = math.ceil(SMALL / max(image.shape[:2]))
        image = cv2.resize(image.clip(0, 255).astype(np.uint8), None, fx=factor, fy=factor,
                           interpolation=cv2.INTER_NEAREST)
        parts = {}
        if draw_gt and 'gt_instances' in _keys(sample):
            parts['truth'] = sample.gt_instances.cpu()
        if draw_pred and 'pred_instances' in _keys(sample):
            found = sample.pred_instances.cpu()
            parts['prediction'] = found[found.scores > threshold]
        classes, palette = self.dataset_meta.get('classes'), palette_of(self.dataset_meta)
        drawn = [self._draw_instances(image, _enlarged(part, factor), classes, palette)
                 for part in parts.values()]
        if len(drawn) < 2:
            return drawn[0] if drawn else image
        drawn = [self._captioned(half, caption) for half, caption in zip(drawn, parts, strict=True)]
        return np.hstack([drawn[0], np.full_like(drawn[0][:, :GAP], 255), drawn[1]])

    def _draw_instances(self, image: np.ndarray, instances: InstanceData,
                        classes: Optional[Sequence[str]], palette: Any) -> np.ndarray:
        """The image ``(H, W, 3)`` in RGB with boxes and masks."""
        self.set_image(image)
        if not len(instances):
            return self.get_image()
        labels = instances.labels.tolist()
        colours = get_palette(palette, max(labels) + 1)
        colours = [tuple(int(v) for v in colours[label]) for label in labels]
        boxes = _corners(instances)
        if 'masks' in instances:
            masks = _bool_masks(instances.masks)
            self.draw_binary_masks(masks, colors=colours, alphas=0.5)
            if not boxes.any():  # networks that find masks alone
                boxes = np.array([_around(mask) for mask in masks], float)
        texts = [_text(instances, i, classes) for i in range(len(labels))]
        self._draw_boxes(boxes, texts, colours)
        return self.get_image()

    def _draw_boxes(self, boxes: np.ndarray, texts: List[str],
                    colours: List[Tuple[int, int, int]]) -> None:
        """Boxes ``(N, 4)`` as corners in pixels, and a text beside each, where most is free."""
        unit, renderer = self._unit(), self.fig_save_canvas.get_renderer()
        taken = list(boxes)
        for (x1, y1, x2, y2), colour in zip(boxes, colours, strict=True):
            self.ax_save.add_patch(Rectangle(
                (x1, y1), x2 - x1, y2 - y1, fill=False, edgecolor=_unit_range(colour),
                linewidth=1.5 * unit, path_effects=[withStroke(
                    linewidth=3.5 * unit, foreground=_unit_range(ink(colour)))]))
        for box, text, colour in zip(boxes, texts, colours, strict=True):
            drawn = self.ax_save.text(
                0, 0, text, fontsize=FONT * unit * 72 / self.dpi, va='top', **LITERAL,
                color=_unit_range(ink(colour)), bbox=dict(
                    facecolor=_unit_range(colour), edgecolor='none', pad=unit))
            size = drawn.get_window_extent(renderer).size + 4 * unit
            place = _free_place(box, size, np.array(taken), (self.width, self.height))
            drawn.set_position(place + 2 * unit)
            taken.append(np.concatenate([place, place + size]))

    def _captioned(self, image: np.ndarray, caption: str) -> np.ndarray:
        """The drawing with a line above it."""
        unit = self._unit()
        self.set_image(np.full((round(1.8 * FONT * unit), *image.shape[1:]), 255, np.uint8))
        self.ax_save.text(self.width / 2, self.height / 2, caption, ha='center', va='center',
                          fontsize=1.1 * FONT * unit * 72 / self.dpi)
        return np.vstack([self.get_image(), image])

    def _unit(self) -> float:
        """How much larger than on a screen lines and letters are."""
        return max(1.0, max(self.width, self.height) / 800)


def _free_place(box: np.ndarray, size: np.ndarray, taken: np.ndarray,
                picture: Tuple[int, int]) -> np.ndarray:
    """Upper left corner of a label: above, below or beside its box, where it covers the least.

    Args:
        box: x1, y1, x2, y2.
        size: width and height of the label.
        taken: what should stay free, ``(N, 4)``.
        picture: width and height; the label stays inside.
    """
    (x1, y1, x2, y2), (w, h) = box, size
    places = np.array([(x1, y1 - h), (x1, y2), (x2 - w, y1 - h), (x2 - w, y2), (x2, y1),
                       (x1 - w, y1), (x2, y2 - h), (x1 - w, y2 - h)])
    places = places.clip(0, np.maximum(0, np.array(picture) - size))
    ends = np.minimum((places + size)[:, None], taken[None, :, 2:])
    shared = (ends - np.maximum(places[:, None], taken[None, :, :2])).clip(0)
    return places[shared.prod(2).sum(1).argmin()]


def _keys(sample: Optional[DetDataSample]) -> Sequence[str]:
    return () if sample is None else sample.all_keys()


def _enlarged(instances: InstanceData, factor: int) -> InstanceData:
    made = instances.clone()
    if 'bboxes' in made:
        made.bboxes = _corners(made) * factor
    if 'masks' in made:
        made.masks = _bool_masks(made.masks).repeat(factor, 1).repeat(factor, 2)
    return made


def _corners(instances: InstanceData) -> np.ndarray:
    """``(N, 4)``; zeros where there are no boxes."""
    boxes = instances.get('bboxes')
    return np.zeros((len(instances), 4)) if boxes is None else np.asarray(
        getattr(boxes, 'tensor', boxes), dtype=float)


def _text(instances: InstanceData, i: int, classes: Optional[Sequence[str]]) -> str:
    label = int(instances.labels[i])
    if 'label_names' in instances:
        name = instances.label_names[i]
    else:
        name = f'class {label}' if classes is None else classes[label]
    return f'{name} {float(instances.scores[i]):.2f}' if 'scores' in instances else name


def _bool_masks(masks: Any) -> np.ndarray:
    """``(N, H, W)`` of any of mmdet's masks."""
    if isinstance(masks, (BitmapMasks, PolygonMasks)):
        masks = masks.to_ndarray()
    return np.asarray(masks).astype(bool)


def _around(mask: np.ndarray) -> Tuple[int, int, int, int]:
    x, y, width, height = cv2.boundingRect(mask.astype(np.uint8))
    return x, y, x + width, y + height


def _unit_range(colour: Tuple[int, int, int]) -> Tuple[float, ...]:
    return tuple(v / 255 for v in colour)
