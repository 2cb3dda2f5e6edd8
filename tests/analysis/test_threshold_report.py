"""What asl-det thresholds finds, and that the file it leaves means the same decisions."""

import json

import numpy as np
import pytest
from scipy.special import expit
from test_threshold_choice import made_up

from asl_det.analysis.calibration import Calibration
from asl_det.analysis.claims import claims_of_labels
from asl_det.analysis.threshold_choice import count, metrics
from asl_det.analysis.threshold_report import compare_table, few_positives, plot_report, tune
from asl_det.errors import UserError
from asl_det.multilabel.thresholds import Thresholds

NAMES = ['cat', 'dog', 'cow', 'bird']


@pytest.fixture(scope='module')
def found():
    claims = claims_of_labels(*made_up(images=300))
    return claims, tune(NAMES, claims, 300, calibrate='bias', shrink=40, folds=2)


def test_calibrated_thresholds_on_calibrated_scores_decide_as_the_report_says(found):
    claims, report = found
    thresholds = Thresholds.from_dict(dict(report['thresholds']), 'test')
    assert thresholds.temperature != 1 and thresholds.bias != 0
    calibration = Calibration(thresholds.temperature, thresholds.bias)
    calibrated = [c._replace(logits=calibration(c.logits)) for c in claims]
    for name, used in (('classes', thresholds.of(NAMES)), ('global', [thresholds.default] * 4)):
        assert metrics(claims, *count(calibrated, used))[0] == pytest.approx(
            report['metrics']['same_scores'][name])
    # asl-det test decides on logits as the network gives them.
    raw = metrics(claims, *count(claims, thresholds.on_logits(NAMES)))[0]
    assert raw == pytest.approx(report['metrics']['same_scores']['classes'])


def test_classes_with_few_positives_are_told(found):
    _, report = found
    n = report['classes'][3]['positives']
    assert few_positives(report) == [f'bird ({n})']
    assert n < 40 and report['classes'][3]['own_share'] == n / (n + 40)


def test_without_a_calibration_thresholds_are_on_the_scores_as_they_came(found):
    claims, _ = found
    report = tune(NAMES, claims, 300, folds=2)
    assert 'temperature' not in report['thresholds'] and 'calibration' not in report
    probabilities = [c._replace(logits=expit(c.logits)) for c in claims]
    assert metrics(claims, *count(probabilities, report['thresholds']['classes'].values()))[0] == \
        pytest.approx(report['metrics']['same_scores']['classes'])


def test_what_can_not_go_by_name_or_is_written_as_no_probability_is_refused(found):
    claims, _ = found
    with pytest.raises(UserError, match=r"used twice.*\['cat'\]"):
        tune(['cat', 'dog', 'cat', 'bird'], claims, 300)
    high = [c._replace(logits=c.logits + 60) for c in claims]
    for calibrate in ('none', 'temperature'):
        with pytest.raises(UserError, match='logits up to 6.*--calibrate bias'):
            tune(NAMES, high, 300, calibrate=calibrate, shrink=40, folds=2)


def test_logits_far_from_zero_are_tuned_as_near_it(found):
    claims, report = found
    high = [c._replace(logits=c.logits + 60) for c in claims]
    other = tune(NAMES, high, 300, calibrate='bias', shrink=40, folds=2)
    for setting in ('global', 'classes'):
        assert other['metrics']['cross_validated'][setting] == pytest.approx(
            report['metrics']['cross_validated'][setting])
    assert other['thresholds']['classes'] == pytest.approx(report['thresholds']['classes'],
                                                           abs=1e-3)
    assert other['calibration']['bias']['ece'] == pytest.approx(
        report['calibration']['bias']['ece'], abs=1e-4)


def test_a_report_is_drawn_with_and_without_calibration(found, tmp_path):
    claims, report = found
    files = plot_report(json.loads(json.dumps(report)), tmp_path / 'a')
    files += plot_report(tune(NAMES, claims, 300, folds=2), tmp_path / 'b')
    assert [f.name for f in files] == ['a.png', 'a.pdf', 'b.png', 'b.pdf']
    assert all(f.stat().st_size > 5000 for f in files)


def test_reports_of_models_stand_side_by_side_with_their_spread(found):
    claims, report = found
    other = json.loads(json.dumps(report))
    for setting in other['metrics']['cross_validated'].values():
        setting['CP'] += 0.1
    table = compare_table({'BCE': [report], 'ASL': [report, other]})
    row = next(line for line in table.splitlines() if line.startswith('| CP, one a class'))
    cp = report['metrics']['cross_validated']['classes']['CP']
    assert row == f'| CP, one a class | {cp:.3f} | {cp + 0.05:.3f} ± {0.1 / np.sqrt(2):.3f} |'
    with pytest.raises(UserError, match='different folds'):
        compare_table({'BCE': [report], 'ASL': [dict(report, folds=3)]})
