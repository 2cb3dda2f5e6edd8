"""Pictures of multi-label predictions, and sheets of images."""

import math
import textwrap
from itertools import zip_longest
from pathlib import Path
from typing import Any, Dict, Mapping, Optional, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from mmcv.transforms import LoadImageFromFile
from PIL import Image

from asl_det.analysis.style import literal
from asl_det.files.whole import whole_file
from asl_det.multilabel.loading import load_rgb

RIGHT, WRONG, MISSED = '#0072b2', '#d55e00', '#777777'  # told apart by colour-blind readers


@literal()
def plot_sheet(samples: Sequence[Any], classes: Sequence[str], out: Path, columns: int = 6,
               loader: Optional[LoadImageFromFile] = None) -> None:
    """A contact sheet: every image with what was predicted and what is true.

    Args:
        samples: :class:`~asl_det.multilabel.MultiLabelSample` with
            ``img_path``, ``scores``, ``pred_labels`` and ``gt_label``; without
            the last one nothing is known.
        classes: names.
        out: image file.
        columns: images in a row.
        loader: what the pipeline loads images with, so that they are shown
            as the network sees them.
    """
    rows = math.ceil(len(samples) / columns)
    figure = Figure(figsize=(2.1 * columns, 2.6 * rows + 0.3), layout='constrained')
    figure.suptitle('predicted and right (blue), predicted but wrong (red +), not predicted but '
                    'true (grey -), with the score; in brackets: predicted, truth not known')
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in grid:
        axes.axis('off')
    for axes, sample in zip(grid, samples, strict=False):
        axes.imshow(_small(load_rgb(sample.img_path, loader), 320))
        target = sample.get('gt_label')
        target = [-1] * len(classes) if target is None else target.tolist()
        predicted = set(sample.pred_labels.tolist())
        ranks = sample.get('logits', sample.scores)
        present = {c for c, value in enumerate(target) if value == 1}
        unknown = {c for c, value in enumerate(target) if value == -1}
        groups = [(RIGHT, '', predicted & present), (WRONG, '+', predicted - present - unknown),
                  (MISSED, '-', present - predicted), (MISSED, '()', predicted & unknown)]
        offset = 0.0
        for colour, mark, labels in groups:
            names = [f'{classes[c]} {sample.scores[c]:.2f}'
                     for c in sorted(labels, key=lambda c: -float(ranks[c]))[:6]]
            if not names:
                continue
            text = ', '.join(names)
            text = f'({text})' if mark == '()' else f'{mark} {text}'.strip()
            text = textwrap.fill(text, 28)
            axes.text(0, -0.03 - offset, text, color=colour, fontsize=8, va='top',
                      transform=axes.transAxes)
            offset += 0.085 * (text.count('\n') + 1)
    with whole_file(out) as file:
        figure.savefig(file, dpi=110, format='png')


@literal()
def plot_images(paths: Sequence[str], title: str, out: Path, columns: int = 4,
                loaders: Optional[Mapping[str, LoadImageFromFile]] = None,
                boxes: Sequence[Sequence[float]] = ()) -> None:
    """A contact sheet of image files under a title; one that can not be read has its error.

    Args:
        paths: image files.
        title: a sentence on all of them.
        out: image file.
        columns: images in a row.
        loaders: what the pipelines load them with, by file.
        boxes: x, y, width and height in pixels of what is marked in each;
            empty: nothing. What lies outside of the image is shown beside it.
    """
    columns = min(columns, len(paths))
    rows = math.ceil(len(paths) / columns)
    title = textwrap.fill(title, 40 * columns)
    height = 2.6 * rows + 0.2 * (title.count('\n') + 1)
    figure = Figure(figsize=(max(2.6 * columns, 4), height), layout='constrained')
    figure.suptitle(title, fontsize='small')
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in grid:
        axes.axis('off')
    for axes, path, box in zip_longest(grid[:len(paths)], paths, boxes):
        axes.set_title(Path(path).name, fontsize=6.5)
        try:
            image = load_rgb(path, (loaders or {}).get(path))
        except Exception as error:  # any decoder's
            axes.text(0.5, 0.5, textwrap.fill(str(error), 30), fontsize=6.5, ha='center',
                      transform=axes.transAxes)
        else:
            height, width = image.shape[:2]
            axes.imshow(_small(image, 480), extent=(0, width, height, 0))
            if box is not None:
                _mark(axes, box, width, height)
            axes.text(0.5, -0.06, f'{width} x {height}', fontsize=6.5,
                      ha='center', transform=axes.transAxes)
    figure.savefig(out, dpi=110)


def _mark(axes: Axes, box: Sequence[float], width: int, height: int) -> None:
    """Draw a box over an image, and make room for what reaches out of it, up to its own size."""
    if not np.isfinite(box).all():
        return
    x, y, w, h = box
    light = [withStroke(linewidth=3.5, foreground='white')]
    axes.add_patch(Rectangle((x, y), w, h, fill=False, edgecolor=WRONG, linewidth=1.5,
                             path_effects=light))
    if min(abs(w), abs(h)) < 0.02 * max(width, height):  # too small to be seen
        axes.plot(x + w / 2, y + h / 2, '+', color=WRONG, markersize=10, clip_on=False,
                  path_effects=light)
    xs, ys = np.clip([0, width, x, x + w], -width, 2 * width), np.clip([0, height, y, y + h],
                                                                       -height, 2 * height)
    axes.set(xlim=(xs.min(), xs.max()), ylim=(ys.max(), ys.min()))
    if min(x, x + w) > xs.max() or max(x, x + w) < xs.min() or min(y, y + h) > ys.max() \
            or max(y, y + h) < ys.min():
        axes.annotate('', np.clip((x + w / 2, y + h / 2), (xs.min(), ys.min()),
                                  (xs.max(), ys.max())), (width / 2, height / 2),
                      arrowprops=dict(color=WRONG, arrowstyle='->', linewidth=1.5,
                                      path_effects=light))  # it lies farther away


def _small(image: np.ndarray, side: int) -> Image.Image:
    made = Image.fromarray(image)
    made.thumbnail((side, side))
    return made


def _large(image: np.ndarray, side: int) -> np.ndarray:
    """An image that is smaller than ``side`` pixels, enlarged by a whole number."""
    factor = math.ceil(side / max(image.shape[:2]))
    return image.repeat(factor, 0).repeat(factor, 1)


def draw_ranked(image: np.ndarray, ranked: Sequence[Dict[str, Any]], side: int = 640) -> np.ndarray:
    """A picture with a bar for every class beside it, predicted ones in colour.

    Args:
        image: ``(H, W, 3)`` uint8 in RGB. It is shrunk to ``side`` pixels, or
            enlarged where it is smaller than 240.
        ranked: ``dict(label=name, score=probability, predicted=bool)``, in
            the order of the bars.
        side: longest side of the picture that is drawn.

    Returns:
        ``(H', W', 3)`` uint8 in RGB; the size depends on that of the picture
        and the number of bars alone.
    """
    small = _small(_large(np.ascontiguousarray(image), 240), side)
    panel, row, margin, dots = 360, 22, 8, 100
    width, height = small.width + panel, max(small.height, row * len(ranked) + 2 * margin)
    figure = Figure(figsize=(width / dots, height / dots), dpi=dots)
    figure.figimage(np.asarray(small), 0, height - small.height)
    axes = figure.add_axes((small.width / width, 0, panel / width, 1), xlim=(0, panel),
                           ylim=(height, 0))
    axes.axis('off')
    for i, entry in enumerate(ranked):
        top = margin + i * row
        colour = RIGHT if entry['predicted'] else MISSED
        axes.barh(top + row - 4, (panel - 3 * margin) * entry['score'], height=3, left=2 * margin,
                  color=colour)
        axes.text(2 * margin, top + 15, _shorten(entry['label']),
                  color=colour, fontsize=9, weight='bold' if entry['predicted'] else 'normal',
                  parse_math=False)
        axes.text(panel - margin, top + 15, f"{entry['score']:.2f}", color=colour, fontsize=9,
                  ha='right')
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def _shorten(name: str, width: int = 40) -> str:
    """A name in one line of at most ``width`` characters."""
    name = ' '.join(name.split())
    return name if len(name) <= width else f'{name[:width - 3]}...'
