"""Temperature and bias against what made the scores, and the expected calibration error."""

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import expit

from asl_det.analysis.calibration import (
    Calibration,
    calibration_errors,
    cross_validated_scores,
    fit_calibration,
    logits_of,
    reliability,
)
from asl_det.analysis.claims import Claims, splits
from asl_det.errors import UserError


def undo(calibration, scores):
    """The logits before it, of probabilities."""
    return (logits_of(scores) - calibration.bias) * calibration.temperature


def made_up(distortion, entries=20_000, seed=0):
    """Logits that ``distortion`` calibrates, and hits."""
    rng = np.random.default_rng(seed)
    true = rng.beta(0.4, 2.0, entries)
    return undo(distortion, true), rng.random(entries) < true


@pytest.mark.parametrize('bias', [False, True])
def test_the_fit_is_the_maximum_of_the_likelihood(bias):
    x, hits = made_up(Calibration(1.6, -0.7 if bias else 0.0))
    found = fit_calibration(x, hits, bias)

    def nll(parameters):
        z = parameters[0] * x + (parameters[1] if bias else 0)
        return np.mean(np.logaddexp(0, z) - hits * z)
    best = minimize(nll, [1.0, 0.0][:1 + bias]).x
    assert 1 / found.temperature == pytest.approx(best[0], rel=1e-3)
    assert found.bias == pytest.approx(best[1] if bias else 0.0, abs=1e-3)
    assert found.temperature == pytest.approx(1.6, rel=0.1)


def test_negatives_that_lie_high_need_a_bias():
    logits, hits = made_up(Calibration(0.7, -1.5))
    held_out = splits(np.ones(20_000, bool), 2, 0)
    images = np.arange(20_000)
    claims = [Claims(logits, hits, images, images[hits])]
    before, temperature, with_bias = (
        calibration_errors(cross_validated_scores(claims, held_out, kind), hits)['ece']
        for kind in ('none', 'temperature', 'bias'))
    assert with_bias < 0.3 * temperature < 0.3 * before


def test_a_calibration_is_undone_and_keeps_the_order_at_the_ends_too():
    scores = np.array([0.0, 1e-30, 0.2, 0.5, 0.99, 1.0], np.float32)
    calibration = Calibration(1.3, -0.2)
    after = calibration(logits_of(scores))
    assert (np.diff(after) > 0).all() and np.isfinite(after).all()
    assert expit(undo(calibration, after[2:5])) == pytest.approx(scores[2:5], rel=1e-6)
    assert logits_of(after) == pytest.approx(logits_of(scores) / 1.3 - 0.2, rel=1e-4)


def test_the_expected_calibration_error_by_hand():
    scores, hits = np.array([0.1, 0.1, 0.1, 0.7]), np.array([True, False, False, True])
    found = calibration_errors(scores, hits)
    assert found['ece'] == pytest.approx(0.75 * abs(1 / 3 - 0.1) + 0.25 * 0.3)
    assert found['nll'] == pytest.approx(-np.mean(np.log([0.1, 0.9, 0.9, 0.7])))
    curve = reliability(scores, hits)
    assert curve == dict(score=pytest.approx([0.1, 0.7]), share=pytest.approx([1 / 3, 1.0]),
                         entries=[3, 1])


def test_no_entry_is_calibrated_by_its_own_image():
    logits, hits = made_up(Calibration(2.0, 0.5), entries=2000)
    images = np.arange(2000) // 4
    held_out = splits(np.ones(500, bool), 2, 0)
    after = cross_validated_scores([Claims(logits, hits, images, images[hits])], held_out, 'bias')
    for fold in held_out:
        test = fold[images]
        assert after[test] == pytest.approx(fit_calibration(logits[~test], hits[~test], True)(
            logits[test]))


def test_scores_that_separate_perfectly_are_left_alone():
    scores, hits = np.array([-2.0, -1.0, 1.0, 2.0]), np.array([False, False, True, True])
    assert fit_calibration(scores, hits, True) is None
    halves = splits(np.ones(2, bool), 2, 0)
    images = np.array([0, 1, 0, 1])
    after = cross_validated_scores([Claims(scores, hits, images, images[hits])], halves, 'bias')
    np.testing.assert_array_equal(after, expit(scores))


def test_scores_that_can_not_be_calibrated_are_refused():
    scores, hits = made_up(Calibration(), entries=500)
    with pytest.raises(UserError, match='needs both'):
        fit_calibration(scores, np.ones(500, bool), True)
    with pytest.raises(UserError, match='higher scores do not mean more hits'):
        fit_calibration(-scores, hits, True)
    with pytest.raises(UserError, match='scores go from -3 to 2: expected probabilities'):
        logits_of(np.array([-3.0, 2.0]))


@pytest.mark.parametrize('shift', [60.0, -300.0])
def test_logits_far_from_zero_are_calibrated_by_the_bias(shift):
    logits, hits = made_up(Calibration(1.6, -0.7))
    near, far = (fit_calibration(logits + s, hits, True) for s in (0.0, shift))
    assert far(logits + shift) == pytest.approx(near(logits), abs=1e-4)
    assert fit_calibration(logits + 60, hits, False) is None  # no temperature helps
