"""A COCO data set of three images with two objects each, to be spoilt by tests."""

import json


def coco(width=100, height=80, names=('cat', 'dog')):
    """The content of a right file: ids of images 1 to 3, of categories 1, 2, ..."""
    boxes = [[10, 10, 30, 40], [50, 20, 40, 30], [5, 5, 60, 60], [60, 40, 30, 30],
             [0, 0, 100, 80], [20, 30, 10, 10]]
    return dict(
        images=[dict(id=i, file_name=f'{i}.png', width=width, height=height) for i in (1, 2, 3)],
        annotations=[dict(id=n + 1, image_id=n // 2 + 1, category_id=n % len(names) + 1, bbox=box,
                          area=box[2] * box[3], iscrowd=0) for n, box in enumerate(boxes)],
        categories=[dict(id=n + 1, name=name) for n, name in enumerate(names)])


def write(path, content):
    """Content as json, or text or bytes as they are."""
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        path.write_text(content if isinstance(content, str) else json.dumps(content))
    return str(path)
