"""Thresholds and curves from the validation of a training: what they gain, where they end up."""

import json

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.registry import MODELS
from mmengine.structures import InstanceData
from scipy.special import expit, logit
from torch import nn

from asl_det.data.digits import make_digits
from asl_det.engine import load_config, train
from asl_det.engine import test as evaluate
from asl_det.multilabel.thresholds import Thresholds
from asl_det.training.hooks import CalibrationHook, DecideHook, calibration

CONFIG = 'configs/digits/retinanet_r18-w16_fpn_asl-800i_digits.py'


def distorted(logits):
    """Scores as a loss with a margin leaves them: far too high, and bent."""
    return expit(np.where(logits < 0, 0.3 * logits + 1, 3 * logits + 1))


@MODELS.register_module()
class Guesser(BaseModel):
    """Boxes on objects, or beside them, as often as their undistorted score says."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, inputs, data_samples=None, mode='tensor'):
        if mode == 'loss':
            return dict(loss=self.weight.sum()**2)
        for sample in data_samples:
            rng = np.random.default_rng(sample.img_id)
            truth = sample.gt_instances
            boxes = truth.bboxes.numpy()  # loaded after the resizing
            logits = rng.normal(1, 2, (3, len(boxes)))
            logits[1:] -= 4  # most of them are nothing
            right = rng.random(logits.shape) < expit(logits)
            right[1:] &= ~right[:1]
            right[2] &= ~right[1]
            moved = boxes[None] + np.where(right, 0, 500)[..., None]
            sample.pred_instances = InstanceData(
                bboxes=torch.tensor(moved.reshape(-1, 4), dtype=torch.float32),
                labels=truth.labels.repeat(3),
                scores=torch.tensor(distorted(logits).ravel(), dtype=torch.float32))
        return data_samples


@pytest.fixture(scope='module')
def digits(tmp_path_factory):
    root = tmp_path_factory.mktemp('digits')
    make_digits(root, num_train=8, num_val=120, size=96, digits_per_image=(2, 4),
                digit_size=(20, 32), clutter=0)
    return root


def guesser(digits, images=None):
    cfg = load_config(CONFIG, dict(data_root=str(digits)))
    cfg.model = dict(type='Guesser')
    cfg.train_cfg.update(max_iters=4, val_interval=2)
    cfg.default_hooks.checkpoint.update(interval=2, save_best='coco/bbox_mAP', rule='greater')
    cfg.custom_hooks, cfg.param_scheduler = [], []
    cfg.train_dataloader.batch_size = 4
    if images:
        cfg.val_dataloader.dataset.indices = images
    return cfg


def thresholds_of(path):
    meta = torch.load(path, map_location='cpu', weights_only=False)['meta']
    return Thresholds.from_dict(meta['thresholds'], path) if 'thresholds' in meta else None


@pytest.fixture(scope='module')
def run(digits, tmp_path_factory):
    folder = tmp_path_factory.mktemp('run')
    return folder, train(guesser(digits), work_dir=str(folder), verbose=False)


def test_a_training_leaves_thresholds_that_undo_the_distortion_in_its_last_and_best_checkpoint(run):
    folder, last = run
    best, = folder.glob('best_*.pth')
    classes = [str(i) for i in range(10)]
    for path in (last, best):
        found = thresholds_of(path)
        assert set(found.classes) == set(classes)
        assert found.source['chosen_on'].startswith('120 images of the validation after step ')
    true = np.linspace(-2, 3, 11)
    least = found.on_logits(classes)
    assert np.abs(expit(np.array(least)) - distorted(logit(0.45))).max() < 0.3
    hook = DecideHook(found, classes)
    after = calibration.box_scores(hook.thresholds, classes, distorted(true), np.full(11, 3))
    assert (np.diff(after) > 0).all()  # the order stays
    assert after[true <= -1.5].max() < 0.25 and after[true >= 2].min() > 0.7


def test_the_report_says_what_images_gain_that_did_not_choose(run):
    report = json.loads((run[0] / 'calibration.json').read_text())
    held_out = report['metrics']['cross_validated']
    assert held_out['classes']['OF1'] > held_out['fixed']['OF1']
    measured = report['calibration']
    assert measured[report['calibrate']]['ece'] < 0.05 < 0.2 < measured['none']['ece']
    assert (run[0] / 'reliability.png').read_bytes()[:4] == b'\x89PNG'


def test_nothing_is_calibrated_where_that_is_asked_for(digits, tmp_path):
    last = train(guesser(digits), work_dir=str(tmp_path), verbose=False, calibrate=False)
    assert thresholds_of(last) is None and not (tmp_path / 'calibration.json').exists()


def test_a_validation_set_that_is_too_small_is_said_and_ends_nothing(digits, tmp_path):
    last = train(guesser(digits, images=4), work_dir=str(tmp_path), verbose=False)
    assert thresholds_of(last) is None
    log, = tmp_path.glob('2*/2*.log')
    assert 'no threshold was chosen' in log.read_text() and 'fewer than 50): 0.50 is used' in (
        log.read_text())


def test_a_test_draws_what_is_predicted_and_measures_what_the_network_said(run, digits, tmp_path):
    cfg = guesser(digits)
    metrics = evaluate(cfg, str(run[1]), work_dir=str(tmp_path), out=tmp_path / 'a.json',
                       show_dir=tmp_path / 'drawn', verbose=False)
    scalars = [json.loads(line) for line in
               next(run[0].glob('2*/vis_data/scalars.json')).read_text().splitlines()]
    assert metrics['coco/bbox_mAP'] == pytest.approx(scalars[-1]['coco/bbox_mAP'], abs=1e-6)
    boxes = json.loads((tmp_path / 'a.bbox.json').read_text())
    assert max(b['score'] for b in boxes) > 0.999  # not calibrated, to be chosen on again
    record = json.loads((tmp_path / 'a.json').read_text())
    assert record['thresholds_are'].startswith('chosen on 120 images of the validation')
    log, = tmp_path.glob('2*/2*.log')
    assert f'of {len(boxes)} boxes are predicted' in log.read_text()
    assert len(list((tmp_path / 'drawn').rglob('*.png'))) == 120


def seen(number):
    return calibration.Seen((('img_id', number),), np.zeros((2, 3)))


def test_an_image_that_two_processes_had_counts_once(monkeypatch):
    monkeypatch.setattr(calibration, 'all_gather_object',
                        lambda mine: [mine, [seen(2), seen(3), seen(0)]])
    hook = CalibrationHook(0.5)
    hook._passes = [[seen(0), seen(1), seen(2)]]
    hook.after_val_epoch(Config(dict(hooks=[], iter=7)))
    assert sorted(key[0][1] for key in hook._seen) == [0, 1, 2, 3]


@pytest.mark.parametrize('better, first', [('ema', 0), ('raw', 10)])
def test_of_two_passes_that_of_the_weights_that_are_saved_counts(better, first):
    class Better(calibration.RawAndEMAHook):
        def __init__(self):
            self.better = better
    hook = CalibrationHook(0.5)
    hook._passes = [[seen(0)], [seen(10)]]
    hook.after_val_epoch(type('Runner', (), dict(hooks=[Better()], iter=7)))
    assert [key[0][1] for key in hook._seen] == [first]


def test_two_images_of_one_name_are_told():
    class Twice:
        def __len__(self):
            return 2

        def get_data_info(self, i):
            return dict(img_path='a.png', instances=[])
    with pytest.raises(calibration.UserError, match='two images .* same img_path .a.png.: add'):
        calibration.annotated(Twice(), ['img_path'])


def test_an_image_that_is_there_twice_is_told():
    class Twice:
        def __len__(self):
            return 2

        def get_data_info(self, i):
            return dict(img_path='a.png', img_id=7, instances=[])
    with pytest.raises(calibration.UserError, match='a.png.: it is there twice'):
        calibration.annotated(Twice(), ['img_path', 'img_id'])


def test_a_model_may_predict_tensors():
    hook = CalibrationHook(0.5)
    hook.after_val_iter(None, 0, outputs=torch.zeros(2, 3))
    assert hook._passes == [[]]
    DecideHook(Thresholds(0.5), ['cat']).after_test_iter(None, 0, outputs=torch.zeros(2, 3))


def test_the_report_is_there_where_early_stopping_saves_after_the_last_step(digits, tmp_path):
    cfg = guesser(digits)
    cfg.default_hooks.checkpoint.interval = 100
    cfg.custom_hooks = [dict(type='EarlyStoppingHook', monitor='coco/bbox_mAP', rule='greater',
                             patience=1, min_delta=0.5)]
    cfg.train_cfg.max_iters = 20
    last = train(cfg, work_dir=str(tmp_path), verbose=False)
    assert last.name == 'iter_4.pth' and thresholds_of(last)
    assert (tmp_path / 'calibration.json').exists() and (tmp_path / 'reliability.png').exists()


def test_nothing_is_said_to_be_chosen_that_can_not_be_written(digits, tmp_path, monkeypatch):
    def full(*_):
        raise OSError('No space left on device')
    monkeypatch.setattr(Thresholds, 'save_in_checkpoint', full)
    last = train(guesser(digits), work_dir=str(tmp_path), verbose=False)
    assert thresholds_of(last) is None
    log, = tmp_path.glob('2*/2*.log')
    assert 'No space left' in log.read_text()
    assert 'predicted from the score' not in log.read_text()
