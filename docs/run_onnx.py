"""Run a file of asl-det export on a picture: python run_onnx.py model.onnx picture.jpg"""

import json
import sys

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

session = onnxruntime.InferenceSession(sys.argv[1], providers=['CPUExecutionProvider'])
meta = {k: json.loads(v) for k, v in session.get_modelmeta().custom_metadata_map.items()}
how = meta['preprocessing']
image = ImageOps.exif_transpose(Image.open(sys.argv[2])).convert('RGB')
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
*boxes, scores = session.run(None, {'images': inputs})
if meta['scores'] == 'logits':
    logits = scores.astype(np.float64)  # in float32 those from 17 upwards would all be 1
    calibrated = logits / meta['thresholds']['temperature'] + meta['thresholds']['bias']
    scores = 1 / (1 + np.exp(-calibrated))
own, default = meta['thresholds']['classes'], meta['thresholds']['global']
found = scores[0] >= np.array([own.get(name, default) for name in meta['classes']])
for *place, label in np.argwhere(found):  # a detector's boxes overlap: NMS is up to you
    box = boxes[0][0, place[0]] / np.tile([width / w, height / h], 2) if place else ''
    print(f'{meta["classes"][label]} {scores[0][(*place, label)]:.3f}', box)
