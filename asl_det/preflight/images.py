"""The checks of image files: that they are there, decode, and are as large as the labels say."""

import os
import warnings
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Dict, Iterable, Iterator, List, Optional, Sequence, Tuple

import numpy as np
from mmcv.transforms import LoadImageFromFile
from PIL import ExifTags, Image, UnidentifiedImageError
from rich.progress import track

from asl_det.errors import UserError
from asl_det.multilabel.datasets.base import shorten
from asl_det.multilabel.datasets.files import HEAD, what_it_is
from asl_det.multilabel.loading import LoadImageWithPillow
from asl_det.preflight.annotations import in_config
from asl_det.preflight.finding import Finding
from asl_det.preflight.inspect import image_files, image_folder, inspect, is_local
from asl_det.preflight.run import Run
from asl_det.registry import TRANSFORMS

SAMPLE = 64  # images of a data set that the quick check decodes
DARK = 32  # brightest of 256 levels in an image of 16 bits that uses fewer of them

Wrong = Tuple[str, str, bool]  # rule, message, whether it is an error
NO_IMAGE: Wrong = ('broken image', 'is no image: replace the file, or remove its entry', True)


def check_images(run: Run) -> Iterator[Finding]:
    """Image files of all data sets: whether each is there, and of a sample whether it loads.

    The sample is spread evenly over a data set and always the same;
    ``run.thorough`` decodes all.
    """
    for place, dataset in run.splits():
        if not is_local(dataset) or not os.path.isdir(image_folder(dataset) or '.'):
            continue  # said by the check of places
        contents = inspect(place, dataset)
        yield from in_config(run, check_image_files(
            place, image_files(contents), _sizes(contents), loader=build_loader(dataset),
            thorough=run.thorough, left_out=dataset.get('broken_images') == 'skip'))


def check_image_files(place: str, images: Sequence[str], sizes: Optional[np.ndarray] = None, *,
                      loader: Optional[LoadImageFromFile] = None, thorough: bool = False,
                      left_out: bool = False) -> Iterator[Finding]:
    """What is wrong with the image files of a data set.

    Args:
        place: dotted key of the data set, for messages.
        images: files.
        sizes: width and height that the labels were made at, ``(N, 2)``, NaN
            where not known; None where labels do not depend on it.
        loader: what the pipeline loads images with.
        thorough: decode all, not a sample.
        left_out: the data set leaves broken images out.
    """
    missing = find_missing(images)
    yield from _say_missing(place, images, missing, left_out)
    there = [i for i in range(len(images)) if i not in missing]
    chosen = there if thorough else [there[i] for i in spread(len(there), SAMPLE)]

    def look(i: int) -> List[Wrong]:
        return check_image(images[i], None if sizes is None else tuple(sizes[i]), loader)

    with ThreadPoolExecutor() as pool:
        results: Iterable[List[Wrong]] = pool.map(look, chosen)
        if thorough:
            results = track(results, f'images of {place}', len(chosen))
        for i, wrong in zip(chosen, results, strict=True):
            for rule, message, error in wrong:
                yield Finding(rule, f'{place}: {images[i]}', message,
                              error and not (left_out and rule == 'broken image'), (images[i],))


def spread(count: int, most: int) -> List[int]:
    """At most ``most`` positions of ``count``, the first and the last among them."""
    if count <= most:
        return list(range(count))
    return np.linspace(0, count - 1, most).round().astype(int).tolist()


def find_missing(images: Sequence[str]) -> Dict[int, str]:
    """Positions of the files that do not exist, and a file of nearly that name or ''.

    Folders are listed once, since asking for every file takes minutes on network drives.
    """
    listed: Dict[str, Any] = {}
    missing = {}
    for i, path in enumerate(images):
        folder, name = os.path.split(path)
        if folder not in listed:
            listed[folder] = set(os.listdir(folder or '.')) if os.path.isdir(
                folder or '.') else set()
        if name not in listed[folder]:
            missing[i] = _similar(name, listed[folder]) if len(missing) < 10 else ''
    return missing


def check_image(path: str, size: Optional[Tuple[float, float]] = None,
                loader: Optional[LoadImageFromFile] = None) -> List[Wrong]:
    """What is wrong with one image file; see :func:`check_image_files`."""
    if os.path.getsize(path) == 0:
        return [('broken image', 'is empty (0 bytes): replace the file, or remove its entry', True)]
    with open(path, 'rb') as file:
        what = what_it_is(file.read(HEAD))
    if what:
        return [('broken image', what, True)]
    identified = True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore', Image.DecompressionBombWarning)
            with Image.open(path) as image:
                wrong = list(_check_decoded(image, loader))
                orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    except UnidentifiedImageError:
        identified, wrong, orientation = False, [], 1  # OpenCV reads formats that Pillow does not
        if loader is None:
            return [NO_IMAGE]
    except Image.DecompressionBombError as error:
        with_pillow = loader is None or loader.imdecode_backend == 'pillow'
        return [('large image', f'{error}: ' + (
            'Pillow refuses it, make it smaller' if with_pillow else 'every access decodes all of '
            'it, make it smaller'), with_pillow)]
    except (OSError, SyntaxError, ValueError) as error:  # what Pillow's decoders raise
        return [('broken image', f'can not be decoded ({error}): replace the file, or remove its '
                 'entry', True)]
    if loader is not None:
        try:
            height, width = loader.transform(dict(img_path=path))['img'].shape[:2]
        except Exception as error:  # any decoder's
            if not identified:
                return [NO_IMAGE]
            text = str(error).removeprefix(f'image {path} ') if isinstance(error, UserError) else (
                f'can not be loaded by {type(loader).__name__} with {loader.imdecode_backend} '
                f'({type(error).__name__}: {error}): convert it to PNG or JPEG')
            return [*wrong, ('broken image', text, True)]
        if size is not None and np.isfinite(size).all():
            wrong += _check_size(size, (width, height), orientation)
    return wrong


def build_loader(dataset: Dict[str, Any]) -> Optional[LoadImageFromFile]:
    """What the pipeline of a data set loads images with; None if it loads something else."""
    for step in dataset.get('pipeline') or ():
        kind = TRANSFORMS.get(step['type']) if isinstance(step.get('type'), str) else step.get(
            'type')
        if isinstance(kind, type) and issubclass(kind, LoadImageFromFile):
            return TRANSFORMS.build(dict(step, type=kind))
    return None


def _check_decoded(image: Image.Image, loader: Optional[LoadImageFromFile]) -> Iterator[Wrong]:
    """Decode with Pillow, which says where a file is cut, and look at modes that surprise."""
    image.load()
    mode, frames = image.mode, getattr(image, 'n_frames', 1)
    if mode[0] in 'IF':
        array = np.asarray(image)
        if loader is not None and loader.imdecode_backend == 'pillow' and not isinstance(
                loader, LoadImageWithPillow):
            yield ('16 bits', f'has more than 8 bits a pixel (Pillow\'s mode {mode}), which mmcv '
                   "clips to white: use dict(type='LoadImageWithPillow') in the pipeline, or "
                   "imdecode_backend='cv2'", True)
        elif mode[0] == 'I' and 0 < array.max() < DARK * 256:
            yield ('dark image', f'has 16 bits a pixel, but its largest value is {array.max()}, '
                   f'which loads as {array.max() >> 8} of 255: nearly black; scale it', False)
    if mode == 'CMYK':
        yield ('CMYK', 'is CMYK: it is converted to RGB without its colour profile, and colours '
               'may be off; convert it to RGB', False)
    if 'A' in image.getbands() or 'transparency' in image.info:
        alpha = np.asarray(image.convert('RGBA'))[..., 3]
        if (alpha == 0).mean() > 0.01:
            yield ('transparent', f'{(alpha == 0).mean():.0%} of it is transparent: the network '
                   'sees the colours that lie beneath; save it without transparency', False)
    if frames > 1 and image.format != 'MPO':  # of two pictures, the second a preview
        yield 'several frames', f'has {frames} frames, of which the first is used', False


def _check_size(size: Tuple[float, float], loaded: Tuple[int, int], orientation: int
                ) -> Iterator[Wrong]:
    turned = loaded[::-1]
    stated = f'{size[0]:g} x {size[1]:g}'
    if tuple(size) == loaded:
        if orientation in (2, 3, 4):
            yield ('EXIF', f'is turned or mirrored when it is loaded (EXIF orientation '
                   f'{orientation}): boxes must be those of the turned image', False)
    elif orientation >= 5 and tuple(size) == turned:
        yield ('EXIF', f'is turned when it is loaded (EXIF orientation {orientation}) and then has '
               f'{loaded[0]} x {loaded[1]} pixels, but its labels were made at {stated}: boxes '
               "would be at other places; give the loader color_type='color_ignore_orientation'",
               True)
    else:
        yield ('size differs', f'has {loaded[0]} x {loaded[1]} pixels, but the annotations say '
               f'{stated}: boxes would be at other places (resized after labelling?); scale the '
               'boxes, or use the images that were labelled', True)


def _say_missing(place: str, images: Sequence[str], missing: Dict[int, str], left_out: bool
                 ) -> Iterator[Finding]:
    if not missing:
        return
    if len(missing) == len(images):
        yield Finding('missing image', place, f'none of its {len(images)} images exists, such as '
                      f'{shorten(images[:2])}: check data_root, data_prefix and the file names',
                      not left_out)
        return
    for i, similar in missing.items():
        yield Finding('missing image', f'{place}: {images[i]}', 'does not exist'
                      + (f', but {similar} does' if similar else '')
                      + ': copy it, or remove its entry', not left_out)


def _similar(name: str, names: Iterable[str]) -> str:
    """A file whose name differs in capitals or ending only."""
    stem = os.path.splitext(name)[0].lower()
    return next((n for n in sorted(names) if os.path.splitext(n)[0].lower() == stem), '')


def _sizes(contents: Any) -> Optional[np.ndarray]:
    """The sizes of the images that have a file name."""
    if contents.sizes is None:
        return None
    return contents.sizes[[isinstance(n, str) and bool(n) for n in contents.images]]
