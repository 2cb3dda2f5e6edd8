"""The checks of image files: that they are there, decode, and are as large as the labels say."""

import os
import warnings
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Dict, Iterable, Iterator, List, Optional, Sequence, Tuple

import numpy as np
from mmcv.transforms import LoadImageFromFile
from PIL import ExifTags, Image, TiffImagePlugin, UnidentifiedImageError
from rich.markup import escape
from rich.progress import track

from asl_det.errors import UserError
from asl_det.files.kind import PICTURE, kind_of_bytes
from asl_det.files.reading import HEAD, what_it_is
from asl_det.multilabel.datasets.dataset import shorten
from asl_det.multilabel.loading import LoadImageWithPillow
from asl_det.preflight.annotations import image_files, image_folder, in_config, inspect, is_local
from asl_det.preflight.finding import Finding, guarded
from asl_det.preflight.run import Run
from asl_det.registry import TRANSFORMS

SAMPLE = 64  # images of a data set that the quick check decodes
DARK = 32  # brightest of 256 levels in an image of 16 bits that uses fewer of them

Wrong = Tuple[str, str, bool]  # rule, message, whether it is an error
BANDS = {0: 1, 1: 1, 3: 1, 5: 4}  # of TIFF that is grey, has a palette, is CMYK; others have 3
PACKAGES = {'tifffile': 'tifffile', 'turbojpeg': 'PyTurboJPEG'}


def check_images(run: Run) -> Iterator[Finding]:
    """Image files of all data sets: whether each is there, and of a sample whether it loads.

    The sample is spread evenly over a data set and always the same;
    ``run.thorough`` decodes all.
    """
    for place, dataset in run.splits():
        if not is_local(dataset) or not os.path.isdir(image_folder(dataset) or '.'):
            continue  # said by the check of places
        yield from in_config(run, guarded('check_images', place, _check_data_set(
            run, place, dataset)))


def _check_data_set(run: Run, place: str, dataset: Dict[str, Any]) -> Iterator[Finding]:
    contents = inspect(place, dataset)
    yield from check_image_files(
        place, image_files(contents), _sizes(contents), loader=build_loader(dataset),
        thorough=run.thorough, left_out=dataset.get('broken_images') == 'skip',
        channels=_channels(run))


def check_image_files(place: str, images: Sequence[str], sizes: Optional[np.ndarray] = None, *,
                      loader: Optional[LoadImageFromFile] = None, thorough: bool = False,
                      left_out: bool = False, channels: int = 3) -> Iterator[Finding]:
    """What is wrong with the image files of a data set.

    Args:
        place: dotted key of the data set, for messages.
        images: files.
        sizes: width and height that the labels were made at, ``(N, 2)``, NaN
            where not known; None where labels do not depend on it.
        loader: what the pipeline loads images with.
        thorough: decode all, not a sample.
        left_out: the data set leaves broken images out.
        channels: of a colour image, as the network takes it.
    """
    missing = find_missing(images)
    yield from _say_missing(place, images, missing, left_out)
    there = [i for i in range(len(images)) if i not in missing]
    chosen = there if thorough else [there[i] for i in spread(len(there), SAMPLE)]

    def look(i: int) -> List[Wrong]:
        try:
            return check_image(images[i], None if sizes is None else tuple(sizes[i]), loader,
                               channels)
        except Exception as error:  # of one image, which hides no other
            return [('image', f'can not be looked at ({type(error).__name__}: {error}): replace '
                     'the file, or remove its entry', True)]

    with ThreadPoolExecutor() as pool:
        results: Iterable[List[Wrong]] = pool.map(look, chosen)
        if thorough:
            results = track(results, escape(f'images of {place}'), len(chosen))
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
                loader: Optional[LoadImageFromFile] = None, channels: int = 3) -> List[Wrong]:
    """What is wrong with one image file; see :func:`check_image_files`.

    The loader is asked first; what it reads is an image, whatever its format.
    Pillow is asked too, since OpenCV fills what is cut off with grey.
    """
    if os.path.isdir(path):
        return [('broken image', 'is a folder: give the file, or remove its entry', True)]
    if os.path.getsize(path) == 0:
        return [('broken image', 'is empty (0 bytes): replace the file, or remove its entry', True)]
    array, failed = _load(path, loader)
    wrong, orientation, image = [], 1, None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore', Image.DecompressionBombWarning)
            with Image.open(path) as image:
                wrong = list(_check_decoded(image, loader))
                orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    except UnidentifiedImageError:
        pass  # OpenCV reads formats that Pillow does not
    except Image.DecompressionBombError as error:
        with_pillow = loader is None or loader.imdecode_backend == 'pillow'
        return [('large image', f'{error}: ' + (
            'Pillow refuses it, make it smaller' if with_pillow else 'every access decodes all of '
            'it, make it smaller'), with_pillow)]
    except (OSError, SyntaxError, ValueError) as error:  # what Pillow's decoders raise
        # Of TIFF there are kinds that others decode.
        if array is None or image.format != 'TIFF' or 'truncated' in str(error):
            return [('broken image', f'can not be decoded ({error}): replace the file, or remove '
                     'its entry', True)]
    if array is None and (loader is not None or image is None):
        return [*wrong, ('broken image', _why_not(path, loader, failed, image), True)]
    if array is not None:
        wrong += _check_channels(path, array, channels)
        if size is not None and np.isfinite(size).all():
            wrong += _check_size(size, array.shape[1::-1], orientation)
    return wrong


def _load(path: str, loader: Optional[LoadImageFromFile]
          ) -> Tuple[Optional[np.ndarray], Optional[Exception]]:
    """What the pipeline makes of a file, or why it fails."""
    try:
        found = loader and loader.transform(dict(img_path=path))
    except Exception as error:  # any decoder's
        return None, error
    return found['img'] if found else None, None


def _why_not(path: str, loader: Optional[LoadImageFromFile], failed: Optional[Exception],
             image: Optional[Image.Image]) -> str:
    """What a file is that is not loaded, and what to do."""
    if isinstance(failed, UserError):
        return str(failed).removeprefix(f'image {path} ')
    backend = getattr(loader, 'imdecode_backend', 'pillow')
    if isinstance(failed, AttributeError) and backend in PACKAGES:
        return (f'can not be loaded: imdecode_backend={backend!r} needs the package '
                f'{PACKAGES[backend]}: pip install {PACKAGES[backend]}')
    how = f'{type(loader).__name__} with {backend}' if loader else 'Pillow'
    bands = tiff_bands(path)
    if bands is not None and bands[0] > 4:
        return (f'is a TIFF of {bands[0]} bands, which {how} does not load: expected three '
                'channels, red, green and blue; save those that you want as three')
    if image is not None:
        other = loader and _load(path, LoadImageWithPillow())[0] is not None
        return (f'is a picture of format {image.format} (mode {image.mode}) and can not be loaded '
                f'by {how} ({type(failed).__name__}: {failed}): '
                + ("use dict(type='LoadImageWithPillow') in the pipeline, or " if other else '')
                + 'convert it to PNG or JPEG')
    with open(path, 'rb') as file:
        head = file.read(HEAD)
    kind = kind_of_bytes(head)
    if kind.endswith(PICTURE):
        return (f'is {kind} and can not be loaded by {how}: convert it to PNG or JPEG, with three '
                'channels')
    return what_it_is(head) or 'is no image: replace the file, or remove its entry'


def tiff_bands(path: str) -> Optional[Tuple[int, int, int]]:
    """How many bands a TIFF has, how many of them are alpha, and its photometric interpretation.

    None for other files.
    """
    with open(path, 'rb') as file:
        head = file.read(16)
        if kind_of_bytes(head) != 'a TIFF picture':
            return None
        try:
            tags = TiffImagePlugin.ImageFileDirectory_v2(head[:16 if head[2:4] in (
                b'+\0', b'\0+') else 8])
            file.seek(tags.next)
            tags.load(file)
            alpha = sum(kind in (1, 2) for kind in tags.get(TiffImagePlugin.EXTRASAMPLES, ()))
            return (tags.get(TiffImagePlugin.SAMPLESPERPIXEL, 1), alpha,
                    tags.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION, 1))
        except Exception:  # of a broken file
            return None


def _check_channels(path: str, array: np.ndarray, channels: int) -> Iterator[Wrong]:
    """Bands that are not those of a photo."""
    bands, alpha, kind = tiff_bands(path) or (0, 0, 0)
    if array.ndim == 3 and array.shape[2] != channels:
        yield ('channels', f'is loaded with {array.shape[2]} channels'
               + (f' (a TIFF of {bands} bands)' if bands else '') + f': expected {channels}; save '
               "it with as many, or use color_type='color'", True)
    elif channels == 3 and bands - alpha > BANDS.get(kind, 3):
        used = 'one is' if kind in BANDS else 'three are'
        yield ('channels', f'is a TIFF of {bands} bands, of which the first {used} used: expected '
               'three channels, red, green and blue; save those that you want as three',
               kind in BANDS)


def loaders_of(run: Run) -> Dict[str, LoadImageFromFile]:
    """What the pipelines load images with, by file."""
    found: Dict[str, LoadImageFromFile] = {}
    for place, dataset in run.splits():
        loader = build_loader(dataset) if is_local(dataset) else None
        if loader is not None:
            found.update(dict.fromkeys(image_files(inspect(place, dataset)), loader))
    return found


def build_loader(dataset: Dict[str, Any]) -> Optional[LoadImageFromFile]:
    """What the pipeline of a data set loads images with; None if it loads something else."""
    for step in dataset.get('pipeline') or ():
        kind = TRANSFORMS.get(step['type']) if isinstance(step.get('type'), str) else step.get(
            'type')
        if isinstance(kind, type) and issubclass(kind, LoadImageFromFile):
            return TRANSFORMS.build(dict(step, type=kind))
    return None


def _channels(run: Run) -> int:
    """The channels that the backbone takes, by mmdet's name of the argument or timm's."""
    backbone = (run.cfg.get('model') or {}).get('backbone') or {}
    return backbone.get('in_channels') or backbone.get('in_chans') or 3


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
        like = next((name for name in missing.values() if name), '')
        hint = f'; there is {like}, but names are taken with their ending' + (
            " (mmdet's VOC data sets read .jpg alone: convert the images)"
            if str(images[0]).endswith('.jpg') else '') if like else ''
        yield Finding('missing image', place, f'none of its {len(images)} images exists, such as '
                      f'{shorten(images[:2])}: check data_root, data_prefix and the file names'
                      + hint, not left_out)
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
