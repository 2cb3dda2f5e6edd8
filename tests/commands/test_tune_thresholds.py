"""From scores to thresholds.json, into a checkpoint, and back into an evaluation."""

import csv
import json

import numpy as np
import pytest
import torch
from command_line import run_command
from scipy.special import expit
from small_digits import CONFIG, small_digits

from asl_det.engine import test as evaluate
from asl_det.errors import UserError
from asl_det.multilabel.measures import kept
from asl_det.multilabel.metric import write_scores
from asl_det.multilabel.thresholds import Thresholds
from asl_det.registry import MODELS

CLASSES = list('0123456789')


def write_logits(path, shift=0.0, logits=True):
    """What a test leaves: logits and scores, or scores alone."""
    rng = np.random.default_rng(0)
    targets = (rng.random((200, 10)) < 0.2).astype(np.int8)
    rows = torch.from_numpy(rng.normal(3 * targets - 1.5 + rng.normal(0, 1, 10), 1) + shift).float()
    images = [kept((x if logits else x.sigmoid()).numpy(), t, np.empty(0, int), 0, dense=True)
              for x, t in zip(rows, targets, strict=True)]
    write_scores(path, images, CLASSES, logits)
    return path


@pytest.fixture
def scores(tmp_path):
    return write_logits(tmp_path / 'results.scores.npz')


def test_scores_become_thresholds_a_report_and_a_figure(scores, monkeypatch, capsys):
    assert run_command('thresholds', scores, '--folds', 2) is None
    out = capsys.readouterr().out
    assert 'one a class' in out and 'ECE' in out
    made = {p.name for p in scores.parent.iterdir()} - {scores.name}
    assert made == {f'results.thresholds.{kind}' for kind in ('json', 'report.json', 'png', 'pdf')}
    thresholds = Thresholds.load(scores.parent / 'results.thresholds.json')
    assert set(thresholds.classes) == set(thresholds.biases) == set(CLASSES)
    assert thresholds.calibrates
    assert thresholds.source['results'] == scores.name and thresholds.source['images'] == 200
    report = scores.parent / 'results.thresholds.report.json'
    assert run_command('thresholds', '--compare', f'A={report},{report}') is None
    assert '| mean_class_F1, one a class |' in capsys.readouterr().out


def test_boxes_become_thresholds_by_the_names_of_the_categories(tmp_path, monkeypatch):
    images = [dict(id=i, width=50, height=50) for i in range(20)]
    truth = dict(images=images, categories=[dict(id=5, name='scratch'), dict(id=3, name='hole')],
                 annotations=[dict(id=i, image_id=i, category_id=(3, 5)[i % 2], area=100,
                                   bbox=[0, 0, 10, 10], iscrowd=0) for i in range(20)])
    boxes = [dict(image_id=i, category_id=(3, 5)[i % 2], bbox=[x, 0, 10, 10], score=s)
             for i in range(20) for x, s in ((0, (0.8, 0.3)[i % 2]), (30, (0.6, 0.1)[i % 2]))]
    (tmp_path / 'truth.json').write_text(json.dumps(truth))
    (tmp_path / 'boxes.json').write_text(json.dumps(boxes))
    assert run_command('thresholds', tmp_path / 'boxes.json', '--annotations',
                       tmp_path / 'truth.json', '--recall', 1, '--shrink', 0, '--calibrate', 'none',
                       '--out', tmp_path / 'deep' / 't.json') is None
    thresholds = Thresholds.load(tmp_path / 'deep' / 't.json')
    # Halfway between the logits of 0.8 and 0.6, and of 0.3 and 0.1.
    assert thresholds.classes == pytest.approx(dict(hole=0.710102, scratch=0.179129), rel=1e-5)
    assert not thresholds.calibrates
    assert run_command('thresholds', tmp_path / 'boxes.json', '--annotations',
                       tmp_path / 'truth.json') is None
    thresholds = Thresholds.load(tmp_path / 'boxes.thresholds.json')
    for least, hit, miss in zip(thresholds.on_logits(['hole', 'scratch']), (0.8, 0.3), (0.6, 0.1),
                                strict=True):
        assert miss < expit(least) <= hit


def test_logits_whose_scores_are_all_one_are_tuned_as_others(tmp_path, monkeypatch, capsys):
    found = {}
    for shift in (0, 60):
        path = write_logits(tmp_path / f'{shift}.scores.npz', shift)
        assert run_command('thresholds', path, '--folds', 2) is None
        found[shift] = Thresholds.load(tmp_path / f'{shift}.thresholds.json')
    assert found[60].on_logits(CLASSES) == pytest.approx(
        [t + 60 for t in found[0].on_logits(CLASSES)], abs=1e-3)
    assert 'warning' not in capsys.readouterr().out
    said = run_command('thresholds', tmp_path / '60.scores.npz', '--calibrate',
                    'none')
    assert 'whose probabilities round to 0 or 1: calibrate with a bias' in said


def test_scores_of_exactly_one_are_told_where_there_are_no_logits(tmp_path, monkeypatch, capsys):
    path = write_logits(tmp_path / 'old.scores.npz', 16.5, logits=False)
    assert run_command('thresholds', path, '--folds', 2) is None
    assert 'are exactly 1 (' in capsys.readouterr().out
    truth = dict(images=[dict(id=1, width=90, height=50)], categories=[dict(id=3, name='hole')],
                 annotations=[dict(id=i, image_id=1, category_id=3, area=100, iscrowd=0,
                                   bbox=[20 * i, 0, 10, 10]) for i in range(3)])
    boxes = [dict(image_id=1, category_id=3, bbox=[20 * i, y, 10, 10], score=s)
             for i, (y, s) in enumerate([(0, 1.0), (30, 1.0), (0, 0.5)])]
    (tmp_path / 'truth.json').write_text(json.dumps(truth))
    (tmp_path / 'boxes.json').write_text(json.dumps(boxes))
    run_command('thresholds', tmp_path / 'boxes.json', '--annotations',
             tmp_path / 'truth.json', '--shrink', 0)
    assert '2 are exactly 1 (1 of them hits): their order is lost; boxes of equal scores are ' \
        'matched in the order of the file' in capsys.readouterr().out


@pytest.mark.parametrize('arguments, message', [
    (['none.npz'], 'none.npz does not exist: write it with asl-det test'),
    (['boxes.json'], 'give --annotations'),
    (['{scores}', '--annotations', 'a.json'], '--annotations is for boxes'),
    (['{scores}', '--precision', '1.5'], '--precision 1.5: expected a number above 0, up to 1'),
    (['{scores}', '--folds', '1'], '1 folds: expected 2 to 200'),
    (['{scores}', '--checkpoint', 'none.pth'], 'checkpoint none.pth does not exist'),
    (['{scores}', '--shrink', '-1'], '--shrink -1: expected a number from 0'),
    (['--compare', 'ASL'], 'expected NAME=report.json'),
    (['--compare', 'ASL={other}'], 'is no report of this command'),
])
def test_mistakes_end_in_one_line(scores, arguments, message, monkeypatch):
    other = scores.with_name('other.json')
    other.write_text('{}')
    said = run_command('thresholds',
                    *(a.format(scores=scores, other=other) for a in arguments))
    assert message in said and '\n' not in said


def checkpoint_of(cfg, path, **meta):
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    torch.save(dict(state_dict=model.state_dict(), meta=meta), path)
    return str(path)


def test_thresholds_travel_in_a_checkpoint_and_leave_the_rest_of_it_alone(tmp_path):
    thresholds = Thresholds(0.4, {'cat': 0.7}, 1.3, -0.2, dict(results='a.npz'))
    before = dict(state_dict=dict(w=torch.ones(2)), optimizer=dict(state={0: torch.zeros(1)}),
                  message_hub=dict(runtime_info={'iter': 3}),
                  meta=dict(epoch=2, dataset_meta=dict(CLASSES=('cat', 'dog'))))
    torch.save(before, tmp_path / 'a.pth')
    thresholds.save_in_checkpoint(tmp_path / 'a.pth')
    after = torch.load(tmp_path / 'a.pth', weights_only=True)
    assert Thresholds.from_dict(after['meta'].pop('thresholds'), 'a.pth') == thresholds
    assert str(after) == str(before) and [p.name for p in tmp_path.iterdir()] == ['a.pth']
    with pytest.raises(UserError, match='thresholds name cow'):
        Thresholds(0.4, {'cow': 0.7}).save_in_checkpoint(tmp_path / 'a.pth')
    (tmp_path / 'runs').mkdir()
    (tmp_path / 'runs/best.pth').symlink_to('../a.pth')
    Thresholds(0.9).save_in_checkpoint(tmp_path / 'runs/best.pth')
    assert (tmp_path / 'runs/best.pth').is_symlink()
    meta = torch.load(tmp_path / 'a.pth', weights_only=True)['meta']
    assert meta['thresholds']['global'] == 0.9
    torch.save(dict(w=torch.ones(2)), tmp_path / 'bare.pth')
    with pytest.raises(UserError, match='has no meta to put thresholds in'):
        thresholds.save_in_checkpoint(tmp_path / 'bare.pth')


def test_thresholds_on_logits_undo_the_calibration_at_the_ends_too():
    thresholds = Thresholds(0.4, dict(zip('abcd', (0.0, 1.0, 0.9, 1e-9), strict=True)), 1.3, -0.2)
    zero, one, high, low, default = thresholds.on_logits(tuple('abcde'))
    assert (zero, one) == (-np.inf, np.inf)
    for logit, calibrated in ((high, 0.9), (low, 1e-9), (default, 0.4)):
        logit = torch.tensor(logit, dtype=torch.float64)
        assert torch.sigmoid(logit / 1.3 - 0.2).item() == pytest.approx(calibrated)


def test_an_evaluation_predicts_by_the_thresholds_of_its_classes(tmp_path):
    cfg = small_digits(tmp_path)
    cfg.test_dataloader = cfg.val_dataloader
    checkpoint = checkpoint_of(cfg, tmp_path / 'a.pth')
    classes = json.loads((tmp_path / 'instances_val.json').read_text())['categories']
    names = [c['name'] for c in classes]
    thresholds = Thresholds(1.0, {names[2]: 0.0, names[7]: 0.0}, 1.5, -0.3)
    evaluate(cfg, checkpoint, work_dir=str(tmp_path / 'work'), out=tmp_path / 'with.json',
             thresholds=thresholds)
    rows = list(csv.DictReader((tmp_path / 'with.classes.csv').read_text().splitlines()))
    recalls = {r['class']: float(r['recall']) for r in rows if r['recall']}
    assert {n for n, recall in recalls.items() if recall} <= {names[2], names[7]}
    assert all(recalls[n] == 1 for n in (names[2], names[7]) if n in recalls) and any(
        recalls.values())
    evaluate(cfg, checkpoint, work_dir=str(tmp_path / 'work'), out=tmp_path / 'without.json')
    with np.load(tmp_path / 'with.scores.npz') as one, \
            np.load(tmp_path / 'without.scores.npz') as two:
        assert (one['scores'] == two['scores']).all()  # so they can be tuned on again
    record = json.loads((tmp_path / 'with.json').read_text())
    assert Thresholds.from_dict(record['thresholds'], 'record') == thresholds
    with pytest.raises(UserError, match='thresholds name cow'):
        evaluate(cfg, checkpoint, work_dir=str(tmp_path / 'work'),
                 thresholds=Thresholds(0.5, {'cow': 0.3}))


def test_a_threshold_that_is_none_is_told_before_anything_is_computed(monkeypatch):
    said = run_command('test', CONFIG, 'a.pth', '--threshold', '1.5')
    assert said == 'error: threshold is 1.5; expected a number from 0 to 1'
