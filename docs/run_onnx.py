"""Run a file of asl-det export on a picture: python run_onnx.py model.onnx picture.jpg"""

import json
import sys

import numpy as np
import onnxruntime
from PIL import Image, ImageOps


def prepared(path, how):
    """The input of the network, and by how much a picture became larger."""
    image = ImageOps.exif_transpose(Image.open(path)).convert('RGB')
    (height, width), (w, h) = how['size'], image.size
    if how['keep_ratio']:
        scale = min(width / w, height / h)
        width, height = round(w * scale), round(h * scale)
    if how['antialias']:
        image = image.resize((width, height), Image.Resampling[how['interpolation'].upper()])
    elif how['interpolation']:  # as OpenCV: without a filter where a picture becomes smaller
        image = image.transform((width, height), Image.Transform.AFFINE,
                                (w / width, 0, 0, 0, h / height, 0),
                                Image.Resampling[how['interpolation'].upper()])
    pixels = np.asarray(image, np.float32)[..., ::1 if how['channels'] == 'RGB' else -1]
    inputs = np.full((1, 3, *how['size']), how['fill'], np.float32)
    inputs[0, :, :height, :width] = ((pixels - how['mean']) / how['std']).transpose(2, 0, 1)
    return inputs, np.array([width / w, height / h] * 2)


def suppressed(boxes, scores, overlap):
    """NMS: the best box of each object, best first; left, top, right, bottom."""
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    order, kept = np.argsort(-scores, kind='stable'), []
    while len(order):
        best, order = order[0], order[1:]
        kept.append(best)
        corners = np.minimum(boxes[order], boxes[best]), np.maximum(boxes[order], boxes[best])
        shared = np.maximum(corners[0][:, 2:] - corners[1][:, :2], 0).prod(1)
        order = order[shared <= overlap * (areas[order] + areas[best] - shared)]
    return kept


session = onnxruntime.InferenceSession(sys.argv[1], providers=['CPUExecutionProvider'])
meta = {k: json.loads(v) for k, v in session.get_modelmeta().custom_metadata_map.items()}
inputs, scale = prepared(sys.argv[2], meta['preprocessing'])
found = dict(zip([output.name for output in session.get_outputs()],
                 session.run(None, {'images': inputs}), strict=True))
scores, least = found['scores'][0], np.array(meta['least'])
if meta['task'] == 'multi-label':
    for label in np.flatnonzero(scores >= least):
        print(f'{meta["classes"][label]} {scores[label]:.3f}')
else:
    place, label = np.nonzero(scores >= least)  # a row for each box and class
    boxes, scores = found['boxes'][0][place], scores[place, label]
    nms = meta['nms'].get('nms') or {}
    # Boxes of other classes are moved apart, unless one object has one class.
    apart = 0 if nms.get('class_agnostic') else label[:, None] * 1e5
    for i in suppressed(boxes + apart, scores, nms.get('iou_threshold', 0.5)):
        print(f'{meta["classes"][label[i]]} {scores[i]:.3f}', (boxes[i] / scale).round(1).tolist())
