"""Figures, and the numbers behind them."""

import json

import numpy as np
import pytest
from PIL import Image

from asl_det.analysis.loss_curves import negative_curves, peak, plot_gradients, plot_losses
from asl_det.analysis.training_curves import plot_training, read_probabilities
from asl_det.errors import UserError


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


def test_a_metric_that_was_measured_once_is_no_curve(tmp_path):
    run = write_run(tmp_path / 'run')
    log = run / '20240101_000000/vis_data/scalars.json'
    log.parent.mkdir(parents=True)
    widths = []
    for step in (20, 40):
        with log.open('a') as file:
            file.write(json.dumps(dict(step=step, mAP=0.5)) + '\n')
        widths.append(Image.open(plot_training({'run': run}, tmp_path / 'figure')[0]).width)
    assert widths[1] - widths[0] == 3.0 * 150  # a panel


@pytest.mark.parametrize('content, says', [
    ('', 'has no record with prob_pos and prob_neg'),
    ('{"step": 1, "prob_pos": 0.5}\n', 'has no record with prob_neg'),
    ('{"step": 1, "prob_pos": "0.5"}\n', "step 1: prob_pos is '0.5': expected a number"),
    ('{"step": 1, "prob_pos": null}\n', 'prob_pos is None'),
    ('{"step": 1}\n[]\n', 'line 2: expected a json object with a step')])
def test_records_that_can_not_be_drawn_are_named(tmp_path, content, says):
    (tmp_path / 'probabilities.jsonl').write_text(content)
    with pytest.raises(UserError, match=says):
        plot_training({'run': tmp_path}, tmp_path / 'figure')


def test_no_run_is_left_out_of_a_figure(tmp_path):
    with pytest.raises(UserError, match='8 runs: expected at most 7'):
        plot_training({str(i): tmp_path for i in range(8)}, tmp_path / 'figure')
