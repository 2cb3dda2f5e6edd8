"""What tools/tune_thresholds.py finds, and that the file it leaves means the same decisions."""

import json

import numpy as np
import pytest
from test_threshold_choice import made_up

from asl_det.analysis.calibration import Calibration
from asl_det.analysis.threshold_report import compare_table, few_positives, plot_report, tune
from asl_det.analysis.thresholds import claims_of_labels, count, metrics
from asl_det.errors import UserError
from asl_det.thresholds import Thresholds

NAMES = ['cat', 'dog', 'cow', 'bird']


@pytest.fixture(scope='module')
def found():
    scores, targets = made_up(images=300)
    claims = claims_of_labels(scores, targets)
    return claims, tune(NAMES, claims, 300, calibrate='bias', shrink=40, folds=2)


def test_calibrated_thresholds_on_calibrated_scores_decide_as_the_report_says(found):
    claims, report = found
    thresholds = Thresholds.from_dict(dict(report['thresholds']), 'test')
    assert thresholds.temperature != 1 and thresholds.bias != 0
    calibration = Calibration(thresholds.temperature, thresholds.bias)
    calibrated = [c._replace(scores=calibration(c.scores)) for c in claims]
    for name, used in (('classes', thresholds.of(NAMES)), ('global', [thresholds.default] * 4)):
        assert metrics(claims, *count(calibrated, used))[0] == pytest.approx(
            report['metrics']['same_scores'][name])
    # tools/test.py decides on scores as the network gives them.
    raw = metrics(claims, *count(claims, thresholds.on_raw_scores(NAMES)))[0]
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
    assert metrics(claims, *count(claims, report['thresholds']['classes'].values()))[0] == \
        pytest.approx(report['metrics']['same_scores']['classes'])


def test_what_can_not_go_by_name_or_is_no_probability_is_refused(found):
    claims, _ = found
    with pytest.raises(UserError, match=r"used twice.*\['cat'\]"):
        tune(['cat', 'dog', 'cat', 'bird'], claims, 300)
    logits = [c._replace(scores=20 * c.scores - 10) for c in claims]
    with pytest.raises(UserError, match='expected probabilities'):
        tune(NAMES, logits, 300)


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
