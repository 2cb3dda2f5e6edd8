"""Exported networks against torch, mmdet's own predictions, and the package's preprocessing."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.hub import get_config
from mmengine.registry import DefaultScope
from PIL import Image
from tiny_networks import photo
from torchvision.ops import batched_nms
from training_step import build_model

from asl_det.analysis.calibration import box_scores
from asl_det.engine import load_config
from asl_det.errors import UserError
from asl_det.inference.export import (
    Calibrated,
    ClassifierNetwork,
    DetectorNetwork,
    export_onnx,
    preprocessing,
)
from asl_det.inference.pipeline import InferencePipeline
from asl_det.multilabel.thresholds import Thresholds
from asl_det.registry import MODELS

DIGITS = 'configs/digits/retinanet_r18-w16_fpn_asl-800i_digits.py'
CLASSES = tuple('0123456789')
AS_IT_CAME = Calibrated(Thresholds(0.5), CLASSES)


@pytest.fixture(autouse=True)
def scope():
    with DefaultScope.overwrite_default_scope('mmdet'):
        yield


def detector(name):
    cfg = get_config(name) if '::' in name else load_config(name)
    cfg.model.backbone.init_cfg = None
    model = build_model(cfg).eval()
    for parameter in model.bbox_head.parameters():  # scores and boxes that differ
        torch.nn.init.normal_(parameter, std=0.05)
    return cfg, model


@pytest.mark.parametrize('name', [
    DIGITS, 'configs/digits/retinanet_r18-w16_fpn_asl-softmax-800i_digits.py',
    'configs/digits/fcos_r18-w16_fpn_asl-800i_digits.py',
    'mmdet::rtmdet/rtmdet_tiny_8xb32-300e_coco.py'])
def test_boxes_and_scores_are_what_mmdets_own_prediction_sorts(name):
    cfg, model = detector(name)
    images = torch.randn(2, 3, 96, 64)
    with torch.no_grad():
        boxes, scores = DetectorNetwork(model, (96, 64), AS_IT_CAME, False)(images)
        everything = dict(cfg.model.test_cfg, score_thr=-1, nms_pre=10**6, min_bbox_size=-1)
        theirs = model.bbox_head.predict_by_feat(
            *model.bbox_head(model.extract_feat(images)), with_nms=False, rescale=False,
            batch_img_metas=[dict(img_shape=(96, 64))] * 2,
            cfg=type(cfg.model.test_cfg)(everything))
    for own_boxes, own_scores, found in zip(boxes, scores, theirs, strict=True):
        # The same pairs of score and box, in whatever order.
        pairs = torch.cat([own_scores.reshape(-1, 1),
                           own_boxes.repeat_interleave(own_scores.size(1), 0)], 1)
        wanted = torch.cat([found.scores[:, None], found.bboxes], 1)
        assert pairs.shape == wanted.shape
        projection = torch.rand(5, dtype=torch.float64)
        one, two = ((p.double() @ projection).sort()[0] for p in (pairs, wanted))
        torch.testing.assert_close(one, two, rtol=1e-5, atol=1e-4)


def test_heads_with_a_decoding_of_their_own_are_refused():
    model = detector('mmdet::yolox/yolox_tiny_8xb8-300e_coco.py')[1]
    with pytest.raises(UserError, match='YOLOXHead decodes its boxes in a way of its own'):
        DetectorNetwork(model, (64, 64), AS_IT_CAME, False)
    fcos = detector('configs/digits/fcos_r18-w16_fpn_asl-800i_digits.py')[1]
    with pytest.raises(UserError, match='have no logits: leave --logits out'):
        DetectorNetwork(fcos, (64, 64), AS_IT_CAME, True)


def classifier(head='MLDecoderHead', size=(48, 64)):
    options = dict(num_groups=4, embed_dims=16, num_heads=2, feedforward_channels=16) \
        if head == 'MLDecoderHead' else {}
    cfg = load_config('configs/multilabel/resnet18-w16_asl_digits.py')
    cfg.model.head = dict(type=head, num_classes=10, in_channels=128, **options,
                          loss=dict(type='AsymmetricLoss', use_sigmoid=True))
    load, pack = cfg.test_dataloader.dataset.pipeline
    cfg.test_dataloader.dataset.pipeline = [
        load, dict(type='Resize', scale=size[::-1], keep_ratio=False), pack]
    torch.manual_seed(0)
    return cfg, MODELS.build(cfg.model).eval()


def test_the_calibration_is_inside_unless_logits_are_asked_for():
    _, model = classifier('LinearHead')
    images, thresholds = torch.randn(2, 3, 64, 64), Thresholds(
        0.5, temperature=1.5, bias=-0.5, temperatures={'3': 2.0})
    classes = [str(i) for i in range(10)]
    temperatures = torch.full((10,), 1.5)
    temperatures[3] = 2.0
    calibrated = Calibrated(thresholds, classes)
    with torch.no_grad():
        logits = model(images)
        torch.testing.assert_close(ClassifierNetwork(model, calibrated, True)(images)[0], logits)
        torch.testing.assert_close(ClassifierNetwork(model, calibrated, False, raw=True)(images),
                                   ((logits / temperatures - 0.5).sigmoid(), logits.sigmoid()))


def test_the_metadata_say_how_a_picture_is_prepared():
    cfg, model = classifier()
    found = preprocessing(cfg, model)
    normalise = cfg.model.data_preprocessor
    assert found == dict(size=[48, 64], keep_ratio=False, interpolation='bilinear',
                         antialias=False, channels='RGB' if normalise.get('bgr_to_rgb') else 'BGR',
                         mean=pytest.approx(normalise.mean), std=pytest.approx(normalise.std),
                         fill=0.0)
    assert preprocessing(cfg, model, (32, 32))['size'] == [32, 32]
    steps = cfg.test_dataloader.dataset.pipeline
    del steps[1]
    with pytest.raises(UserError, match='does not resize: .* --image-size HEIGHT'):
        preprocessing(cfg, model)
    assert preprocessing(cfg, model, (32, 32))['interpolation'] is None
    steps.insert(1, dict(type='TorchvisionTransform', name='CenterCrop', size=32))
    with pytest.raises(UserError, match='pipeline has TorchvisionTransform'):
        preprocessing(cfg, model)
    steps[0] = dict(type='LoadFeatures', folder='x')
    with pytest.raises(UserError, match='begins with LoadFeatures'):
        preprocessing(cfg, model)
    cfg, model = detector(DIGITS)
    cfg.test_dataloader.dataset.pipeline[1].scale = (150, 100)
    found = preprocessing(cfg, model)
    assert found['keep_ratio'] and found['size'] == [128, 160]  # of 32


@pytest.fixture(scope='module')
def exported(tmp_path_factory):
    pytest.importorskip('onnxscript')
    pytest.importorskip('onnxruntime')
    with DefaultScope.overwrite_default_scope('mmdet'):
        cfg, model = classifier()
        path = tmp_path_factory.mktemp('onnx') / 'a.onnx'
        thresholds = Thresholds(0.5, {'3': 0.2}, 1.2, -0.1)
        differences = export_onnx(model, cfg, CLASSES, path, thresholds=thresholds, source='a.pth')
    return cfg, model, path, thresholds, differences


def test_a_classifier_with_an_ml_decoder_runs_at_any_batch_size_with_its_metadata(exported):
    import onnxruntime
    _, model, path, thresholds, differences = exported
    assert differences['scores'] < 1e-4 and [p.name for p in path.parent.iterdir()] == ['a.onnx']
    session = onnxruntime.InferenceSession(path, providers=['CPUExecutionProvider'])
    images = torch.randn(5, 3, 48, 64)
    with torch.no_grad():
        expected = (model(images) / 1.2 - 0.1).sigmoid().numpy()
    np.testing.assert_allclose(session.run(['scores'], {'images': images.numpy()})[0], expected,
                               atol=1e-4)
    meta = {k: json.loads(v) for k, v in session.get_modelmeta().custom_metadata_map.items()}
    assert meta['classes'] == list(CLASSES) and meta['task'] == 'multi-label'
    assert Thresholds.from_dict(meta['thresholds'], 'metadata') == thresholds
    assert meta['scores'] == 'probabilities' and meta['source']['checkpoint'] == 'a.pth'


def test_the_example_with_pillow_alone_gives_the_labels_of_the_package(exported, tmp_path):
    cfg, model, path, thresholds, _ = exported
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 255, (150, 120, 3), np.uint8)).save(tmp_path / 'a.png')
    result = subprocess.run([sys.executable, 'docs/run_onnx.py', path, tmp_path / 'a.png'],
                            text=True, capture_output=True)
    assert result.returncode == 0, result.stderr
    found = {line.split()[0]: float(line.split()[1]) for line in result.stdout.splitlines()}
    data = InferencePipeline(cfg)(tmp_path / 'a.png')
    batch = model.data_preprocessor(dict(inputs=[data['inputs']],
                                         data_samples=[data['data_samples']]))
    with torch.no_grad():
        scores = (model(batch['inputs'])[0] / 1.2 - 0.1).sigmoid().numpy()
    wanted = {c: s for c, s, t in zip(CLASSES, scores, thresholds.of(CLASSES), strict=True)
              if s >= t}
    assert found == pytest.approx(wanted, abs=0.01) and '3' in found


def test_a_detector_runs_at_any_batch_size_up_to_its_boxes(tmp_path):
    onnxruntime = pytest.importorskip('onnxruntime')
    pytest.importorskip('onnxscript')
    cfg, model = detector(DIGITS)
    differences = export_onnx(model, cfg, CLASSES, tmp_path / 'a.onnx', size=(64, 96))
    assert set(differences) == {'boxes', 'scores'}
    session = onnxruntime.InferenceSession(tmp_path / 'a.onnx', providers=['CPUExecutionProvider'])
    boxes, scores = session.run(None, {'images': np.zeros((4, 3, 64, 96), np.float32)})
    assert boxes.shape == (*scores.shape[:2], 4) and scores.shape[::2] == (4, 10)
    assert boxes.min() >= 0 and boxes.reshape(-1, 4).max(0).tolist() <= [96, 64, 96, 64]


@pytest.mark.parametrize('name', [DIGITS, 'configs/digits/fcos_r18-w16_fpn_asl-800i_digits.py'])
def test_calibrated_scores_are_those_of_the_inferencer_in_front_of_the_raw_ones(name):
    thresholds = Thresholds(0.5, temperature=1.5, biases={'3': -1.0},
                            curve=((-3.0, -8.0), (0.0, -1.0), (2.0, 0.5), (9.0, 4.0)))
    model = detector(name)[1]
    with torch.no_grad():
        _, scores, raw = DetectorNetwork(model, (64, 64), Calibrated(thresholds, CLASSES), False,
                                         raw=True)(torch.randn(1, 3, 64, 64))
    for label in range(10):
        np.testing.assert_allclose(
            scores[0, :, label], box_scores(thresholds, CLASSES, raw[0, :, label].numpy(),
                                            np.full(len(raw[0]), label)), rtol=2e-3, atol=1e-6)


def test_the_example_gives_a_detectors_objects_one_box_each(tmp_path):
    pytest.importorskip('onnxscript')
    cfg, model = detector(DIGITS)
    export_onnx(model, cfg, CLASSES, tmp_path / 'a.onnx', thresholds=Thresholds(0.45),
                size=(64, 96))
    Image.fromarray(photo(96, 64)).save(tmp_path / 'a.png')
    result = subprocess.run([sys.executable, 'docs/run_onnx.py', tmp_path / 'a.onnx',
                             tmp_path / 'a.png'], text=True, capture_output=True)
    assert result.returncode == 0, result.stderr
    lines = [line.split(' ', 2) for line in result.stdout.splitlines()]
    boxes = torch.tensor([json.loads(box) for *_, box in lines])
    labels = torch.tensor([int(label) for label, *_ in lines])
    best_first = torch.arange(len(boxes), 0, -1.0)
    assert 1 < len(lines) == len(batched_nms(boxes, best_first, labels, 0.51))


def test_a_file_that_gives_something_else_is_not_kept(exported, tmp_path, monkeypatch):
    cfg, model = classifier()
    monkeypatch.setattr('asl_det.inference.export._program', lambda *_: Program(exported[2]))
    with pytest.raises(UserError, match='away from torch: it is not kept'):
        export_onnx(model, cfg, CLASSES, tmp_path / 'b.onnx')  # without that calibration
    assert not list(tmp_path.iterdir())


class Program:
    """The program of another export."""

    def __init__(self, path):
        self.path, self.model = path, self
        self.metadata_props = {}

    def save(self, path, external_data):
        Path(path).write_bytes(self.path.read_bytes())
