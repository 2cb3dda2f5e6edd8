"""A copy of a COCO json with the keys that mmdet and pycocotools need, where they are certain."""

import json
import math
import os
from collections import Counter
from pathlib import Path
from typing import Any, Dict, Union

from PIL import Image, ImageOps
from pycocotools import mask

from asl_det.data.coco_json import wrong_mask
from asl_det.errors import UserError
from asl_det.files.reading import ID, expect_shape, read_json
from asl_det.files.whole import require_output, write_whole


def complete_coco(source: Union[str, Path], target: Union[str, Path],
                  image_folder: Union[str, Path, None] = None) -> Dict[str, int]:
    """Write a COCO json with what ``source`` lacks.

    ============================  =================================================
    ``area`` (missing, or 0)      of the segmentation, else of the box
    ``iscrowd``                   0, a single object
    ``id`` of annotations         all numbered anew from 1, if one is missing, 0, or
                                  stands there twice
    ``width``, ``height``         of the image file as it is loaded, turned by EXIF
    ============================  =================================================

    Args:
        source: the file, which stays as it is.
        target: a new file.
        image_folder: where the images are; needed where sizes are missing.

    Returns:
        What was filled: key -> how often.

    Raises:
        UserError: if ``target`` exists, ``source`` is no COCO json, or what
            to fill in is not certain.
    """
    if os.path.exists(target):
        raise UserError(f'{target} exists: give a new file')
    require_output(target)
    content = read_json(source)
    known = (*ID, type(None))
    expect_shape(content, {'images': [{'id?': known}], 'annotations': [{'id?': known,
                                                                        'image_id?': known}]},
                 f'{source} is no COCO json with images and annotations')
    filled: Counter = Counter()
    sizes = {}
    for i, image in enumerate(content['images']):
        where = f'{source}: images[{i}]'
        number = image.get('id')
        if not isinstance(number, (int, float, str)) or number in sizes:
            raise UserError(f'{where} has the id {number!r}: expected a number, each once, which '
                            'annotations name as image_id')
        if 'width' not in image or 'height' not in image:
            if image_folder is None:
                raise UserError(f'{where} has no width and height: give the folder of the images')
            image['width'], image['height'] = _size(Path(image_folder, str(
                image.get('file_name', ''))), where)
            filled['width and height'] += 1
        sizes[image['id']] = (image['height'], image['width'])
    ids = [a.get('id') for a in content['annotations']]
    renumber = len(set(map(str, ids))) < len(ids) or None in ids or 0 in ids
    for i, annotation in enumerate(content['annotations']):
        if renumber:
            annotation['id'] = i + 1
            filled['id'] += 1
        if 'iscrowd' not in annotation:
            annotation['iscrowd'] = 0
            filled['iscrowd'] += 1
        if not annotation.get('area'):
            annotation['area'] = _area(annotation, sizes, f'{source}: annotations[{i}]')
            filled['area'] += 1
    write_whole(target, json.dumps(content))
    return dict(filled)


def _size(path: Path, where: str) -> tuple:
    try:
        with Image.open(path) as image:
            return ImageOps.exif_transpose(image).size
    except (OSError, SyntaxError) as error:
        raise UserError(f'{where} has no width and height, and {path} can not be read: {error}'
                        ) from error


def _area(annotation: Dict[str, Any], sizes: Dict[Any, tuple], where: str) -> float:
    shape = annotation.get('segmentation')
    if shape:
        size = sizes.get(annotation.get('image_id'), (math.nan, math.nan))
        wrong = wrong_mask(shape, size[::-1], 'val')
        if wrong:
            raise UserError(f'{where} has no area, and its {wrong[0]}')
    try:
        if shape:
            if isinstance(shape, dict) and isinstance(shape['counts'], str):
                return float(mask.area(shape))
            made = mask.frPyObjects(shape, *sizes[annotation['image_id']])
            return float(mask.area(mask.merge(made) if isinstance(made, list) else made))
        _, _, width, height = annotation['bbox']
        return width * height
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise UserError(f'{where} has no area, and neither a box nor a segmentation that can be '
                        f'read ({type(error).__name__}: {error})') from error
