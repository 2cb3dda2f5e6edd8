"""A small COCO data set of real handwritten digits, made on the spot.

The digits are the 1,797 scans of scikit-learn's ``load_digits`` (8 x 8 px, UCI
Optical Recognition of Handwritten Digits), enlarged and placed on cluttered
canvases. Training and validation images never share a scan.
"""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Dict, List, Tuple, Union

import cv2
import numpy as np

from asl_det.data.coco_json import hide_boxes as without_hidden
from asl_det.errors import UserError, check_seed
from asl_det.files.reading import read_json
from asl_det.files.whole import require_output, whole_file, write_whole

SPLITS = ('train', 'val')
MOST_SIZE, MOST_CLUTTER = 4096, 1000  # of a canvas
DESCRIPTION = 'asl_det digits'  # in the json of every data set that this makes
PRESETS = {  # arguments of make_digits for the configs of each task
    'detection': dict(root='data/digits'),
    'multilabel': dict(root='data/digits_multilabel', num_train=4000, num_val=1000, size=64,
                       digits_per_image=(1, 3), digit_size=(20, 32), clutter=2),
}


def make_digits(root: Union[str, Path],
                *,
                num_train: int = 1000,
                num_val: int = 300,
                size: int = 160,
                digits_per_image: Tuple[int, int] = (2, 6),
                digit_size: Tuple[int, int] = (20, 56),
                max_overlap: float = 0.1,
                clutter: int = 6,
                hide_labels: float = 0.0,
                hide_boxes: float = 0.0,
                tuning: bool = False,
                seed: int = 0) -> bool:
    """Write the data set once: PNG files and COCO json.

    Args:
        root: folder that gets ``train/``, ``val/``, ``instances_train.json``
            and ``instances_val.json``.
        num_train: number of training images.
        num_val: number of validation images.
        size: side of the square canvas in pixels.
        digits_per_image: fewest and most digits; fewer appear where no free
            place is found.
        digit_size: smallest and largest height of a digit in pixels.
        max_overlap: share of a digit's box that another box may cover, in
            [0, 1].
        clutter: most distracting strokes on a canvas.
        hide_labels: share of the labels that the training set does not tell,
            in [0, 1): every digit that an image has loses its boxes with this
            probability. Images and validation set stay the same.
        hide_boxes: share of the boxes that the training set does not tell, in
            [0, 1), each by itself, see
            :func:`asl_det.data.coco_json.hide_boxes`.
        tuning: both sets are of training scans, the validation set of every
            fifth: settings can be chosen there and the validation scans stay
            unseen.
        seed: image ``i`` of a split depends on the seed and ``i`` alone.

    Returns:
        Whether anything was written; False if the same data is there already.

    Raises:
        UserError: for arguments out of range, or if ``root`` holds a data
            set made with other arguments, or files of another one.
    """
    settings = dict(size=size, digits_per_image=list(digits_per_image),
                    digit_size=list(digit_size), max_overlap=max_overlap, clutter=clutter,
                    seed=seed)
    require_output(root, folder=True)
    check_seed(seed)
    _check(dict(settings, hide_labels=hide_labels), num_train, num_val)
    without_hidden([], hide_boxes)  # a share out of range is said before anything is drawn
    root = Path(root)
    infos = {}
    for split, count in zip(SPLITS, (num_train, num_val), strict=True):
        target = root / f'instances_{split}.json'
        hidden = hide_labels if split == 'train' else 0.0
        info = dict(description=DESCRIPTION, split=split, images=count, **settings)
        if hidden:
            info['hide_labels'] = hidden
        if hide_boxes and split == 'train':
            info['hide_boxes'] = hide_boxes
        if tuning:
            info['tuning'] = True
        infos[target] = info
        if target.is_file():
            _check_made_here(target, info)
        else:
            _check_free(target, root / split)
    written = False
    for target, info in infos.items():
        if target.is_file():
            continue
        # Before the images, to tell an interrupted run, which is made again, from other files.
        partial = target.with_suffix('.partial')
        write_whole(partial, json.dumps(dict(info=info)))
        coco = _write_split(root, info['split'], info['images'], settings,
                            info.get('hide_labels', 0.0), tuning)
        coco['annotations'] = without_hidden(coco['annotations'], info.get('hide_boxes', 0.0), seed)
        # Last and at once.
        write_whole(partial, json.dumps(dict(info=info, **coco)))
        partial.replace(target)
        written = True
    return written


def draw_canvas(rng: np.random.Generator, scans: np.ndarray, labels: np.ndarray, *, size: int,
                digits_per_image: Tuple[int, int], digit_size: Tuple[int, int],
                max_overlap: float, clutter: int) -> Tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One canvas of digits.

    Args:
        rng: source of every choice.
        scans: ``(M, 8, 8)`` in [0, 1], to draw from.
        labels: ``(M,)`` in 0..9.
        size, digits_per_image, digit_size, max_overlap, clutter: as in
            :func:`make_digits`.

    Returns:
        The image ``(size, size, 3)`` uint8, boxes ``(K, 4)`` as x, y, width,
        height in pixels around the strokes, and labels ``(K,)``.
    """
    background = rng.uniform(0, 110, 3)
    gradient = np.linspace(0, rng.uniform(-40, 40), size)[None, :, None]
    image = np.empty((size, size, 3), np.float32)
    image[:] = np.clip(background + gradient, 0, 255)
    for _ in range(rng.integers(0, clutter + 1)):
        _draw_stroke(rng, image)

    boxes: List[Tuple[int, int, int, int]] = []
    classes: List[int] = []
    for _ in range(rng.integers(digits_per_image[0], digits_per_image[1] + 1)):
        index = rng.integers(len(scans))
        height = int(rng.integers(digit_size[0], digit_size[1] + 1))
        alpha = _enlarge(scans[index], height)
        for _ in range(20):  # tries to find a free place
            x, y = rng.integers(0, size - np.array(alpha.shape[::-1]) + 1)
            box = (int(x), int(y), alpha.shape[1], alpha.shape[0])
            if all(_covered(box, other) <= max_overlap for other in boxes):
                colour = background + rng.uniform(90, 145, 3)
                region = image[y:y + alpha.shape[0], x:x + alpha.shape[1]]
                region += alpha[..., None] * (colour - region)
                boxes.append(box)
                classes.append(int(labels[index]))
                break
    image += 6 * rng.standard_normal(image.shape, dtype=np.float32)
    return (image.clip(0, 255).astype(np.uint8), np.array(boxes).reshape(-1, 4),
            np.array(classes, dtype=np.int64))


def _check_made_here(target: Path, info: Dict[str, Any]) -> None:
    """Raise UserError for a json that is not of this data set, or of other settings."""
    content = read_json(target)
    found = content.get('info') if isinstance(content, dict) else None
    if not isinstance(found, dict) or found.get('description') != DESCRIPTION:
        raise UserError(f'{target} is there and is not of a digits data set: choose another folder')
    if found != info:
        changed = [k for k in {**info, **found} if found.get(k) != info.get(k)]
        raise UserError(
            f'{target} was made with other settings ('
            + ', '.join(f'{k}={found.get(k)}, asked {info.get(k)}' for k in changed)
            + f'): choose another folder, or delete {target} and the folder {info["split"]} beside '
            'it to make it anew')


def _check_free(target: Path, folder: Path) -> None:
    """Raise UserError if images would be written among files of others."""
    if target.with_suffix('.partial').is_file():
        return
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f'{folder} holds files that are not of a digits data set (there is no '
                        f'{target.name}): choose another folder')


def _check(settings: Dict[str, Any], num_train: int, num_val: int) -> None:
    smallest, largest = settings['digit_size']
    fewest, most = settings['digits_per_image']
    problems = [
        (num_train < 1 or num_val < 1, f'num_train={num_train}, num_val={num_val}: '
         'expected at least 1 each'),
        (not 8 <= smallest <= largest <= settings['size'],
         f'digit_size={smallest, largest}: expected 8 <= smallest <= largest <= size '
         f'({settings["size"]})'),
        (not 1 <= fewest <= most, f'digits_per_image={fewest, most}: '
         'expected 1 <= fewest <= most'),
        (not 0 <= settings['max_overlap'] <= 1,
         f'max_overlap={settings["max_overlap"]}: expected a share in [0, 1]'),
        (not 0 <= settings['hide_labels'] < 1,
         f'hide_labels={settings["hide_labels"]}: expected a share in [0, 1)'),
        (settings['size'] > MOST_SIZE, f'size={settings["size"]}: expected at most {MOST_SIZE} '
         'pixels'),
        (not 0 <= settings['clutter'] <= MOST_CLUTTER,
         f'clutter={settings["clutter"]}: expected 0 to {MOST_CLUTTER}'),
    ]
    for wrong, message in problems:
        if wrong:
            raise UserError(message)


def _write_split(root: Path, split: str, count: int, settings: Dict[str, Any],
                 hide_labels: float, tuning: bool) -> Dict[str, Any]:
    scans, labels = load_scans(split, tuning)
    drawing = {k: v for k, v in settings.items() if k != 'seed'}

    def write_image(i: int) -> Tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng([settings['seed'], SPLITS.index(split), i])
        canvas, boxes, classes = draw_canvas(rng, scans, labels, **drawing)
        with whole_file(root / split / f'{i:06d}.png', sync=False) as file:
            file.write(cv2.imencode('.png', canvas)[1])
        return boxes, classes

    with ThreadPoolExecutor() as pool:
        contents = list(pool.map(write_image, range(count)))
    images, annotations = [], []
    for i, (boxes, classes) in enumerate(contents):
        images.append(dict(id=i + 1, file_name=f'{i:06d}.png', width=settings['size'],
                           height=settings['size']))
        rng = np.random.default_rng([settings['seed'], len(SPLITS), i])
        hidden = np.flatnonzero(rng.random(10) < hide_labels)
        for box, label in zip(boxes.tolist(), classes.tolist(), strict=True):
            if label in hidden:
                continue
            annotations.append(dict(id=len(annotations) + 1, image_id=i + 1, category_id=label + 1,
                                    bbox=box, area=box[2] * box[3], iscrowd=0))
    categories = [dict(id=d + 1, name=str(d)) for d in range(10)]
    return dict(images=images, annotations=annotations, categories=categories)


def load_scans(split: str, tuning: bool = False) -> Tuple[np.ndarray, np.ndarray]:
    """The scans ``(M, 8, 8)`` in [0, 1] and labels ``(M,)`` of a split; every fifth is 'val'.

    With ``tuning`` the scans of 'train' are split again in the same way.
    """
    from sklearn.datasets import load_digits
    digits = load_digits()
    chosen = np.arange(len(digits.target))
    if tuning:
        chosen = chosen[chosen % 5 != 0]
    chosen = chosen[(np.arange(len(chosen)) % 5 == 0) == (split == 'val')]
    return (digits.images[chosen] / 16).astype(np.float32), digits.target[chosen]


def _enlarge(scan: np.ndarray, height: int) -> np.ndarray:
    """The scan as an opacity map, cut to its strokes, ``height`` pixels high."""
    smooth = cv2.resize(scan, (96, 96), interpolation=cv2.INTER_CUBIC).clip(0, 1)
    rows, columns = np.where((smooth > 0.3).any(1))[0], np.where((smooth > 0.3).any(0))[0]
    cut = smooth[rows[0]:rows[-1] + 1, columns[0]:columns[-1] + 1]
    width = max(3, min(height, round(height * cut.shape[1] / cut.shape[0])))
    return cv2.resize(cut, (width, height), interpolation=cv2.INTER_AREA)


def _covered(a: Tuple[int, ...], b: Tuple[int, ...]) -> float:
    """The intersection of two boxes as a share of the smaller one."""
    w = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    h = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    return max(w, 0) * max(h, 0) / min(a[2] * a[3], b[2] * b[3])


def _draw_stroke(rng: np.random.Generator, image: np.ndarray) -> None:
    """A line or an arc of random colour, as a distraction."""
    size = image.shape[0]
    colour = tuple(rng.uniform(0, 200, 3).tolist())
    start, end = rng.integers(0, size, 2).tolist(), rng.integers(0, size, 2).tolist()
    thickness = int(rng.integers(1, 4))
    if rng.random() < 0.5:
        cv2.line(image, start, end, colour, thickness, cv2.LINE_AA)
    else:
        axes = rng.integers(5, size // 4 + 6, 2).tolist()
        cv2.ellipse(image, start, axes, float(rng.uniform(0, 360)), 0,
                    float(rng.uniform(60, 360)), colour, thickness, cv2.LINE_AA)
