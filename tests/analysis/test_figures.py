"""Figures, and the numbers behind them."""

import json

import numpy as np
import pytest
import torch

from asl_det.analysis.loss_curves import negative_curves, peak, plot_gradients, plot_losses
from asl_det.analysis.suggest import (
    assumed_scores,
    best_probability,
    compare,
    label_statistics,
    suggest,
)
from asl_det.analysis.training_curves import plot_training, read_probabilities
from asl_det.errors import UserError
from asl_det.multilabel import MultiLabelDataset


@pytest.mark.parametrize('gamma, clip, constant, expected', [
    (2, 0.2, False, 0.839), (2, 0.2, True, 0.860), (4, 0.05, False, 0.900), (4, 0.05, True, 0.928)])
def test_the_gradient_peaks_where_the_paper_says(gamma, clip, constant, expected):
    _, gradient = negative_curves(gamma, clip, constant)
    assert peak(gradient) == pytest.approx(expected, abs=1e-3)
    assert (gradient[1][gradient[0] <= clip] == 0).all()


def test_the_curves_are_the_equation():
    (p, loss), (_, gradient) = negative_curves(3.0, 0.1, points=999)
    shifted = np.maximum(p - 0.1, 0)
    assert loss == pytest.approx(-shifted**3 * np.log1p(-shifted), abs=1e-9)
    assert gradient == pytest.approx(np.gradient(loss, p) * p * (1 - p), abs=2e-2)


def test_figures_are_written_as_png_and_pdf(tmp_path):
    files = plot_losses(tmp_path / 'a' / 'loss', gamma_neg=2, clip=0.2, gamma_focal=2)
    files += plot_gradients(tmp_path / 'gradient', gamma_neg=4, clip=0.05)
    assert [f.suffix for f in files] == ['.png', '.pdf'] * 2
    assert all(f.stat().st_size > 5000 for f in files)


def write_run(folder, gamma=2.0):
    folder.mkdir()
    rows = [dict(step=s, epoch=0, prob_pos=0.5, prob_neg=0.1, delta_p=-0.4, grad_pos=0.6,
                 gamma_neg=gamma + s / 100) for s in (20, 40)]
    (folder / 'probabilities.jsonl').write_text(
        '\n'.join(json.dumps(r) for r in [dict(rows[1], prob_pos=0.1), *rows]) + '\n')
    return folder


def test_runs_are_drawn_side_by_side_and_resumed_records_count_once(tmp_path):
    runs = {name: write_run(tmp_path / name) for name in ('ce', 'asl')}
    assert read_probabilities(runs['ce'])['prob_pos'] == ([20, 40], [0.5, 0.5])
    files = plot_training(runs, tmp_path / 'figure')
    assert all(f.stat().st_size > 5000 for f in files)
    with pytest.raises(UserError, match='ProbabilityMonitorHook'):
        plot_training({'none': tmp_path}, tmp_path / 'figure')


def test_the_minimiser_of_cross_entropy_is_the_posterior_and_asl_raises_it():
    posterior = np.array([0.01, 0.1, 0.5, 0.9])
    assert best_probability(posterior, 0.0, 0.0) == pytest.approx(posterior, abs=0.01)
    one, two = (best_probability(posterior, gamma, 0.05) for gamma in (1.0, 3.0))
    assert (one > posterior).all() and (two > posterior).all() and (two > one)[:3].all()


def test_cross_entropy_balances_the_gradient_of_a_calibrated_model():
    scores, targets = assumed_scores(np.array([50, 300]), np.array([950, 700]))
    assert scores[targets == 1].mean() > 0.5
    bins = [(scores > low) & (scores <= low + 0.1) for low in np.arange(0, 1, 0.1)]
    for chosen in bins:  # calibrated
        assert targets[chosen].mean() == pytest.approx(scores[chosen].mean(), abs=0.03)
    records = compare(scores, targets)
    by = {(r['gamma_neg'], r['clip']): r for r in records}
    assert by[0, 0]['grad_pos'] == pytest.approx(0.5, abs=0.02)
    assert by[4, 0.05]['grad_pos'] > by[2, 0.05]['grad_pos'] > 0.5
    deltas = [by[g, 0.05]['delta_p'] for g in (0, 1, 2, 3, 4, 5, 6)]
    assert deltas == sorted(deltas)
    chosen = suggest(records, target=0.0)
    assert chosen['delta_p'] >= 0 and chosen['clip'] == 0.05
    assert suggest(records, target=0.99) is None


def test_unknown_entries_are_left_out_of_the_comparison():
    rng = np.random.default_rng(0)
    scores, targets = rng.random((40, 5)), (rng.random((40, 5)) < 0.4).astype(int)
    padded = np.concatenate([scores, rng.random((40, 5))])
    assert compare(padded, np.concatenate([targets, -np.ones((40, 5), int)])) == compare(
        scores, targets)


def test_label_statistics_count_what_the_file_says(tmp_path):
    (tmp_path / 'a.json').write_text(json.dumps(dict(
        metainfo=dict(classes=['x', 'y', 'z']),
        data_list=[dict(img_path='1', gt_label=[0, 1]), dict(img_path='2', gt_label=[1])])))
    found = label_statistics(MultiLabelDataset(str(tmp_path / 'a.json')))
    assert found['positives'].tolist() == [1, 2, 0] and found['positives_per_image'] == 1.5
    assert found['negatives'].tolist() == [1, 0, 2] and torch.tensor(found['unknown']).sum() == 0
