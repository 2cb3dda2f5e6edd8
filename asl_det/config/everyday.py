"""What people set every day, at every place of a config that depends on it."""

from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple, Union

from mmengine.config import Config

from asl_det.config.walk import SPLITS
from asl_det.errors import UserError
from asl_det.files.nested import dicts
from asl_det.files.reading import expect_shape, read_json
from asl_det.registry import is_type, type_name

OWN = ('train_json', 'train_images', 'val_json', 'val_images')
RESIZES = ('Resize', 'FixScaleResize')
# Keys of transforms with sizes in pixels.
PIXELS = ('scale', 'scales', 'img_scale', 'size', 'border', 'random_size_range', 'crop_size')
CATEGORIES = {'categories': [{'name': str, 'id': (int, str)}]}


def set_workers(cfg: Config, workers: int) -> None:
    """Processes that load images, for every data loader of a config."""
    if type(workers) is not int or workers < 0:
        raise UserError(f'--workers {workers}: expected a number from 0')
    for split in SPLITS:
        loader = cfg.get(f'{split}_dataloader')
        if loader:
            loader.num_workers = workers
            if not workers:  # torch refuses these without a worker
                loader.persistent_workers = False
                loader.pop('prefetch_factor', None)


def set_image_size(cfg: Config, size: Union[int, Sequence[int]]) -> None:
    """Resize to other sizes, all in proportion to those that the config has.

    The size of the test pipeline's Resize becomes ``size``. Whatever else the pipelines (and the
    batch augmentations of the model) have in pixels changes by the same factors: several scales of
    training, crops, paddings, mosaics.

    Args:
        cfg: a config.
        size: height and width in pixels; one number for a square.

    Raises:
        UserError: where the test pipeline has no Resize to a size, or the network is built for
            one.
    """
    size = (size, size) if isinstance(size, int) else tuple(size)
    asked = f'--image-size {" ".join(map(str, size))}'
    if not _is_size(size) or min(size) < 1:
        raise UserError(f'{asked}: expected pixels, one number, or height and width')
    for where, node in dicts(cfg.get('model'), 'model'):
        if 'img_size' in node or is_type(node, 'SSDAnchorGenerator'):
            raise UserError(f'{asked}: {where} of the config is made for one size of images: '
                            'change both with --cfg-options')
    old = _test_size(cfg, asked)
    factors = size[1] / old[0], size[0] / old[1]
    lying = None if old[0] == old[1] else old[0] > old[1]
    pipelines = [cfg.get(f'{split}_dataloader') for split in SPLITS]
    pipelines += [cfg.get('tta_pipeline'), cfg.get('model', {}).get('data_preprocessor')]
    pipelines += cfg.get('custom_hooks') or []  # of YOLOX, which changes to another pipeline
    seen = set()
    for part in pipelines:
        for _, node in dicts(part):
            if id(node) in seen:  # val and test may be one
                continue
            seen.add(id(node))
            for key in PIXELS:
                if key in node:
                    node[key] = _scaled(_size(node, key), *_factors(node, key, factors, lying))


def _test_size(cfg: Config, asked: str) -> Tuple[int, int]:
    """Width and height that a test resizes to."""
    loader = cfg.get('test_dataloader') or cfg.get('val_dataloader') or {}
    found = {tuple(_size(node, 'scale')) for _, node in dicts(loader)
             if is_type(node, *RESIZES) and _is_size(_size(node, 'scale'))}
    if len(found) != 1:
        raise UserError(f'{asked}: the test pipeline of the config has '
                        + ('several sizes' if found else 'no Resize to a size')
                        + ': give each with --cfg-options')
    return found.pop()


def _is_size(value: Any) -> bool:
    return (isinstance(value, (list, tuple)) and len(value) == 2
            and all(type(n) is int and n for n in value))


def _size(node: Dict[str, Any], key: str) -> Any:
    """A value of a transform; the one number of a Resize to a square as the two of a size."""
    value = node.get(key)
    return (value, value) if type(value) is int and is_type(node, *RESIZES) else value


def _factors(node: Dict[str, Any], key: str, factors: Tuple[float, float],
             lying: Optional[bool]) -> Tuple[Tuple[float, float], Optional[bool]]:
    """What the two numbers of this key change by, and ``lying`` as :func:`_scaled` has it.

    Args:
        factors: of width and height.
    """
    width, height = factors
    if key == 'random_size_range':  # of the height: the width follows
        return (height, height), None
    if node.get('crop_type') == 'absolute_range':  # the least and the most of both sides
        return ((width * height) ** 0.5,) * 2, None
    if is_type(node, 'BatchFixedSizePad', 'RandomCenterCropPad'):
        return (height, width), None
    return factors, None if key == 'crop_size' else lying


def _scaled(value: Any, factors: Tuple[float, float], lying: Optional[bool]) -> Any:
    """Sizes in pixels by these factors; everything else as it is.

    ``lying`` says whether the longer side, where it is not None and one is longer, is the first:
    mmcv takes (1333, 800) and (800, 1333) for the same, and configs have both.
    """
    if _is_size(value):
        if lying is not None and value[0] != value[1] and lying != (value[0] > value[1]):
            factors = factors[::-1]
        return type(value)(round(n * f) for n, f in zip(value, factors, strict=True))
    if isinstance(value, (list, tuple)):
        return type(value)(_scaled(inner, factors, lying) for inner in value)
    return value


def set_own_data(cfg: Config, own: Dict[str, str],
                 set_classes: Callable[[Config, Sequence[str]], None], classes: bool) -> None:
    """COCO json and images of the user, in data sets and evaluators; test is val.

    Args:
        cfg: a config whose data sets are mmdet's CocoDataset, or ours for classifiers.
        own: of :data:`OWN`, those of one split or of both.
        set_classes: that names the classes and sizes the heads.
        classes: whether to take them from the file.

    Raises:
        UserError: for a json without its images or the other way round, or a config whose data
            sets are of another kind.
    """
    for split in ('train', 'val'):
        given = [f'{split}_json' in own, f'{split}_images' in own]
        if any(given) and not all(given):
            raise UserError(f'expected --{split}-json and --{split}-images together')
    for split in SPLITS:
        of = 'train' if split == 'train' else 'val'
        if f'{of}_json' not in own or not cfg.get(f'{split}_dataloader'):
            continue
        _set_dataset(cfg, split, own[f'{of}_json'], own[f'{of}_images'])
        for _, node in dicts(cfg.get(f'{split}_evaluator')):
            if 'ann_file' in node:
                node['ann_file'] = own[f'{of}_json']
    if classes:
        set_classes(cfg, names_in(own.get('train_json') or own['val_json']))


def _set_dataset(cfg: Config, split: str, annotations: str, images: str) -> None:
    place = f'{split}_dataloader.dataset'
    found = [(where, node) for where, node in dicts(cfg[f'{split}_dataloader'].get('dataset'),
                                                    place) if 'ann_file' in node]
    if len(found) != 1:
        raise UserError(f'--{split}-json: {place} has {len(found)} annotation files: give each '
                        'with --cfg-options')
    where, node = found[0]
    if 'MultiLabel' in type_name(node):
        for key in [k for k in node if k not in ('pipeline', 'test_mode', 'lazy_init')]:
            node.pop(key)
        node.update(type='CocoMultiLabelDataset', data_prefix=dict(img_path=images))
    elif is_type(node, 'CocoDataset'):
        node['data_prefix'] = dict(img=images)
    else:
        raise UserError(f'--{split}-json: {where} is a {type_name(node)}: take a config of '
                        'CocoDataset, or of a classifier of asl_det')
    node.update(ann_file=annotations, data_root='')


def names_in(path: str) -> List[str]:
    """The classes of a COCO json, in the order of the file."""
    content = read_json(path)
    expect_shape(content, CATEGORIES, f'{path} is no COCO json with categories')
    return [category['name'] for category in content['categories']]
