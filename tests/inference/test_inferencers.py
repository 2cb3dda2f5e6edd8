"""Inferencers: from a checkpoint and a picture to labels or boxes."""

import subprocess

import numpy as np
import pytest
import torch
from mmengine.config import Config
from PIL import Image
from tiny_networks import CLASSES, classifier_config, photo, save

from asl_det.errors import UserError
from asl_det.inference import MultiLabelInferencer
from asl_det.inference.detection import DetInferencer
from asl_det.inference.pipeline import UnreadableError
from asl_det.multilabel.thresholds import Thresholds


@pytest.fixture(scope='module')
def infer(classifier):
    return MultiLabelInferencer(weights=classifier, device='cpu', show_progress=False)


def scores(inferencer, sources, **kwargs):
    found = inferencer(sources, return_datasamples=True, **kwargs)['predictions']
    return torch.stack([sample.scores for sample in found])


def test_a_checkpoint_alone_gives_ranked_labels_as_the_network_itself(infer, classifier, folder):
    path = str(folder / 'a.jpg')
    image = np.asarray(Image.open(path).resize((32, 32), Image.BILINEAR), dtype=np.float32) / 255
    content = torch.load(classifier, weights_only=False)
    infer.model.load_state_dict(content['state_dict'])
    with torch.no_grad():
        logits = infer.model(torch.from_numpy(image.transpose(2, 0, 1))[None])[0]
    ranked, = infer(path)['predictions']
    assert [entry['label'] for entry in ranked] == [CLASSES[i] for i in logits.argsort().flip(0)]
    for entry in ranked:
        expected = logits[CLASSES.index(entry['label'])].sigmoid()
        assert entry['score'] == pytest.approx(float(expected), abs=1e-5)
        assert entry['predicted'] == (expected >= 0.5)


def test_paths_arrays_folders_and_batches_give_the_same_scores(infer, folder, tmp_path):
    image = photo(seed=1)
    (tmp_path / 'pictures').mkdir()
    for i in range(3):
        Image.fromarray(photo(seed=i)).save(tmp_path / f'pictures/{i}.png')
    each = torch.cat([scores(infer, str(tmp_path / f'pictures/{i}.png')) for i in range(3)])
    assert not torch.allclose(each[0], each[1], atol=1e-3)
    of_folder = scores(infer, str(tmp_path / 'pictures'), batch_size=2)
    assert torch.allclose(of_folder.sort(0)[0], each.sort(0)[0], atol=1e-6)
    paths = [tmp_path / f'pictures/{i}.png' for i in range(3)]
    assert torch.allclose(scores(infer, paths, batch_size=3), each, atol=1e-6)
    assert torch.allclose(scores(infer, image[..., ::-1]), each[1:2], atol=1e-6)


def test_pictures_of_several_sizes_are_not_padded_to_each_other(tmp_path):
    cfg = classifier_config()
    del cfg.test_dataloader.dataset.pipeline[1]  # no resizing
    infer = MultiLabelInferencer(weights=save(cfg, tmp_path / 'a.pth'), device='cpu',
                                 show_progress=False)
    images = [photo(40, 40), photo(64, 48, seed=1), photo(64, 48, seed=2)]
    each = torch.cat([scores(infer, image) for image in images])
    assert torch.allclose(scores(infer, images, batch_size=3), each, atol=1e-6)


KINDS = {
    'RGB': lambda rgb: rgb, 'RGBA': lambda rgb: rgb.convert('RGBA'),
    'CMYK': lambda rgb: rgb.convert('CMYK'), 'palette': lambda rgb: rgb.quantize(256),
    'L': lambda rgb: rgb.convert('L'), 'LA': lambda rgb: rgb.convert('LA'),
    '16 bits': lambda rgb: Image.fromarray(np.asarray(rgb.convert('L')).astype(np.uint16) * 257),
    'EXIF': lambda rgb: rgb.transpose(Image.Transpose.ROTATE_90)}


@pytest.mark.parametrize('loader', [
    dict(type='LoadImageWithPillow'), dict(type='LoadImageFromFile', imdecode_backend='pillow'),
    dict(type='LoadImageFromFile')], ids=['ours', 'pillow', 'opencv'])
@pytest.mark.parametrize('kind', KINDS)
def test_every_kind_of_picture_is_seen_as_people_see_it(kind, loader, tmp_path):
    from asl_det.inference.pipeline import InferencePipeline
    rgb = Image.fromarray(photo())
    image = KINDS[kind](rgb)
    exif = Image.Exif()
    if kind == 'EXIF':
        exif[0x0112] = 6  # turn by 90 degrees clockwise to see it
    path = tmp_path / ('a.jpg' if kind in ('CMYK', 'EXIF') else 'a.png')
    options = dict(quality=100, subsampling=0) if path.suffix == '.jpg' else {}
    image.save(path, exif=exif, **options)
    cfg = classifier_config()
    cfg.test_dataloader.dataset.pipeline[0] = loader
    loaded = InferencePipeline(cfg).load(path)['img'][..., ::-1].astype(int)
    grey = kind in ('L', 'LA', '16 bits')
    expected = np.asarray(rgb.convert('L').convert('RGB') if grey else rgb).astype(int)
    tolerance = {'palette': 12, 'CMYK': 4, 'EXIF': 4}.get(kind, 1)
    assert loaded.shape == expected.shape
    assert np.abs(loaded - expected).mean() <= tolerance


def test_a_picture_of_10000_px_is_computed_and_drawn(infer, tmp_path):
    Image.fromarray(photo(10000, 300)).save(tmp_path / 'wide.jpg')
    small = Image.fromarray(photo(10000, 300)).resize((1000, 30))
    small.save(tmp_path / 'small.png')
    both = scores(infer, [str(tmp_path / 'wide.jpg'), str(tmp_path / 'small.png')])
    assert torch.allclose(both[0], both[1], atol=0.1)
    drawn, = infer(str(tmp_path / 'wide.jpg'), return_vis=True)['visualization']
    assert drawn.shape[1] < 1100 and drawn.dtype == np.uint8


def test_what_is_drawn_are_the_picture_and_its_ranked_bars(infer):
    image = photo(100, 300)
    drawn, = infer(image[..., ::-1], return_vis=True)['visualization']
    assert (drawn[:300, :100] == image).all()
    panel = drawn[:, 100:]
    assert (panel != 255).any(2).sum() > 500


@pytest.mark.parametrize('name, what', [
    ('notes.txt', 'no picture'), ('cut.jpg', 'damaged'), ('missing.jpg', 'there is no such file'),
    ('empty.jpg', '')])
@pytest.mark.parametrize('backend', ['pillow', 'cv2'])
def test_a_file_that_is_no_whole_picture_is_an_error_that_names_it(name, what, backend, classifier,
                                                                   folder):
    (folder / 'empty.jpg').touch()
    cfg = classifier_config()
    cfg.test_dataloader.dataset.pipeline[0] = dict(type='LoadImageFromFile',
                                                   imdecode_backend=backend)
    infer = MultiLabelInferencer(cfg, classifier, device='cpu', show_progress=False)
    with pytest.raises(UnreadableError, match=f'{name}: .*{what}'):
        infer(str(folder / name))


@pytest.mark.parametrize('array', [
    np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4, 3), np.float32), np.zeros((0, 4, 3), np.uint8)])
def test_an_array_of_another_kind_is_refused(array, infer):
    with pytest.raises(UserError, match=r'expected \(H, W, 3\) in BGR'):
        infer(array)


def test_thresholds_are_those_given_or_of_the_checkpoint_or_of_the_config(tmp_path):
    image, cfg = photo(), classifier_config()

    def predicted(path, thresholds=None):
        infer = MultiLabelInferencer(weights=path, thresholds=thresholds, device='cpu',
                                     show_progress=False)
        return {e['label'] for e in infer(image)['predictions'][0] if e['predicted']}

    plain = save(cfg, tmp_path / 'plain.pth')
    infer = MultiLabelInferencer(weights=plain, device='cpu', show_progress=False)
    score = {e['label']: e['score'] for e in infer(image)['predictions'][0]}
    assert predicted(plain) == {name for name in CLASSES if score[name] >= 0.5}
    kept = save(cfg, tmp_path / 'kept.pth', thresholds={'global': 1.0, 'classes': {'cow': 0.0}})
    assert predicted(kept) == {'cow'}
    assert predicted(kept, Thresholds(1.0, {'owl': 0.0})) == {'owl'}
    assert predicted(kept, 0.0) == set(CLASSES)
    with pytest.raises(UserError, match='thresholds name horse'):
        predicted(kept, Thresholds(0.5, {'horse': 0.1}))
    broken = save(cfg, tmp_path / 'broken.pth', thresholds={'global': 2})
    with pytest.raises(UserError, match='thresholds in checkpoint .*broken.pth: global is 2'):
        predicted(broken)


def test_temperature_and_bias_change_the_logits_before_the_threshold(classifier):
    image = photo()

    def found(**calibration):
        infer = MultiLabelInferencer(weights=classifier, device='cpu', show_progress=False,
                                     thresholds=Thresholds(0.5, **calibration))
        sample, = infer(image, return_datasamples=True)['predictions']
        return sample

    plain, calibrated = found(), found(temperature=2.0, bias=-0.3)
    expected = (plain.scores.double().logit() / 2 - 0.3).sigmoid()
    assert torch.allclose(calibrated.scores.double(), expected, atol=1e-5)
    assert calibrated.pred_labels.tolist() == (expected >= 0.5).nonzero().flatten().tolist()


def test_a_kept_result_is_decided_on_its_logits_again(classifier):
    infer = MultiLabelInferencer(None, classifier, device='cpu', thresholds=0.99999999)
    logits = [17.5, 18.5, *[0.0] * (len(infer.classes) - 2)]  # sigmoids in float32: 1
    assert infer.restore(dict(logits=logits)).pred_labels.tolist() == [1]


def test_the_start_of_the_weights_is_not_fetched(tmp_path):
    cfg = classifier_config(pretrained=True, checkpoint='https://nowhere.invalid/x.pth')
    cfg.model.checkpoint = '/nowhere/y.pth'
    text = cfg.pretty_text
    path = save(classifier_config(), tmp_path / 'a.pth', text=text)
    assert MultiLabelInferencer(weights=path, device='cpu', show_progress=False)(photo())


def test_weights_and_class_names_have_to_fit(classifier, tmp_path):
    cfg = classifier_config()
    content = torch.load(classifier, weights_only=False)
    content['state_dict'].pop('head.fc.weight')
    torch.save(content, tmp_path / 'less.pth')
    with pytest.raises(UserError, match='less.pth does not fit .*missing: head.fc.weight'):
        MultiLabelInferencer(weights=str(tmp_path / 'less.pth'))
    with pytest.raises(UserError, match='names 3 classes, but the network has 4'):
        MultiLabelInferencer(weights=save(cfg, tmp_path / 'names.pth', ('a', 'b', 'c')))
    with pytest.raises(UserError, match='class names of checkpoint .*none.pth are not known'):
        MultiLabelInferencer(weights=save(cfg, tmp_path / 'none.pth', None))
    cfg.test_dataloader.dataset.metainfo = dict(classes=CLASSES)
    torch.save(torch.load(classifier, weights_only=False)['state_dict'], tmp_path / 'bare.pth')
    infer = MultiLabelInferencer(cfg, str(tmp_path / 'bare.pth'), show_progress=False)
    assert infer.classes == CLASSES


def test_a_pickle_that_runs_code_is_not_loaded(tmp_path):
    class Evil:
        def __reduce__(self):
            return subprocess.call, (['touch', str(tmp_path / 'run')],)

    torch.save(dict(state_dict={}, meta=Evil()), tmp_path / 'evil.pth')
    for kind in (MultiLabelInferencer, DetInferencer):
        with pytest.raises(UserError, match='evil.pth is refused'):
            kind(weights=str(tmp_path / 'evil.pth'))
    assert not (tmp_path / 'run').exists()


def test_a_detector_gives_boxes_in_the_coordinates_of_the_picture(detector):
    infer = DetInferencer(weights=detector, device='cpu', thresholds=0.0, show_progress=False)
    image = photo(90, 60)
    data = infer.pipeline(image)
    sample, = infer.forward(infer.collate_fn([data]))
    boxes = infer.result(sample, top_k=3)
    assert [b['score'] for b in boxes] == sorted((b['score'] for b in boxes), reverse=True)
    assert sum(b['predicted'] for b in boxes) == 3 < len(boxes)
    for box in boxes:
        x, y, width, height = box['bbox']
        assert x >= 0 and y >= 0 and x + width <= 90.01 and y + height <= 60.01
        assert box['label'] == infer.classes[box['category_id']]
    whole = infer(image, batch_size=1)['predictions'][0]  # mmdet's own call
    assert sorted(whole['scores'], reverse=True) == pytest.approx(
        [b['score'] for b in boxes], abs=1e-5)
    none = DetInferencer(weights=detector, device='cpu', thresholds=1.0, show_progress=False)
    infer.visualizer.dataset_meta = dict(infer.visualizer.dataset_meta, classes=tuple(
        f'$\\frac${c}' for c in infer.classes))  # no formula: drawing must not end
    enlarged = image.repeat(5, 0).repeat(5, 1)[..., ::-1]
    changed, untouched = (np.abs(drawn.astype(int) - enlarged).mean() for drawn in (
        infer.picture(image, sample, top_k=3), none.picture(image, sample)))
    assert 2 * untouched < changed  # mmengine draws a picture itself shifted by half a pixel


def test_detectors_take_thresholds_of_classes_and_calibrate(detector):
    infer = DetInferencer(weights=detector, device='cpu', show_progress=False,
                          thresholds=Thresholds(1.0, {'3': 0.0}))
    sample, = infer.forward(infer.collate_fn([infer.pipeline(photo())]))
    sample.pred_instances.labels[::2] = 3
    for box in infer.result(sample):
        assert box['predicted'] == (box['label'] == '3')
    halved = DetInferencer(weights=detector, device='cpu', show_progress=False,
                           thresholds=Thresholds(0.5, temperature=2.0, biases={'3': -1.0}))
    calibrated, = halved.forward(halved.collate_fn([halved.pipeline(photo())]))
    found = calibrated.pred_instances
    expected = (found.raw_scores.double().logit() / 2 - 1.0 * (found.labels == 3)).sigmoid()
    torch.testing.assert_close(found.scores, expected, rtol=1e-6, atol=0)
    for box in halved.result(calibrated):
        assert box['predicted'] == (box['score'] >= 0.5)


def test_a_network_of_the_other_kind_names_the_right_inferencer(classifier, detector):
    with pytest.raises(UserError, match='DetInferencer is for detectors'):
        MultiLabelInferencer(weights=detector)
    with pytest.raises(UserError, match='MultiLabelInferencer is for classifiers'):
        DetInferencer(weights=classifier)


def test_a_pipeline_that_loads_features_is_refused(classifier):
    cfg = classifier_config()
    cfg.test_dataloader.dataset.pipeline[0] = dict(type='LoadFeatures', folder='x')
    with pytest.raises(UserError, match='begins with LoadFeatures, not with an image'):
        MultiLabelInferencer(cfg, classifier)
    with pytest.raises(UserError, match='no test pipeline'):
        MultiLabelInferencer(Config(dict(model=cfg.model)), classifier)
