"""Names of classes, files, metrics and runs in figures."""

import json

import numpy as np
import pytest
import torch
from matplotlib.text import Text
from PIL import Image

from asl_det.analysis.pictures import draw_ranked, plot_images, plot_sheet
from asl_det.analysis.training_curves import plot_run, plot_training
from asl_det.experiments.figures import plot_sweep
from asl_det.multilabel import MultiLabelSample

# What matplotlib takes for a formula, a broken one, or a label to leave out.
ODD = ['$a_b$', r'$\frac$', '_hidden', '5$', r'\$a', 'a,b', '%s {x}']


@pytest.fixture
def shown(monkeypatch):
    """The texts of the figures that are drawn, as a reader sees them."""
    texts, draw = [], Text.draw

    def noted(text, renderer):
        plain, is_math = text._preprocess_math(text.get_text())
        texts.append(f'formula {plain}' if is_math else plain.strip())
        draw(text, renderer)

    monkeypatch.setattr(Text, 'draw', noted)
    return texts


def test_names_of_classes_and_files_are_shown_as_they_are(shown, tmp_path):
    paths = [str(tmp_path / f'{name.replace(chr(92), "")}.png') for name in ODD]
    for path in paths:
        Image.new('RGB', (32, 32)).save(path)
    sample = MultiLabelSample(metainfo=dict(img_path=paths[0]))
    sample.scores, sample.pred_labels = torch.ones(len(ODD)), torch.arange(6)
    plot_sheet([sample], ODD, tmp_path / 'sheet.png')
    assert any(text.replace('\n', ' ') == f'({", ".join(f"{name} 1.00" for name in ODD[:6])})'
               for text in shown)
    draw_ranked(np.zeros((32, 32, 3), np.uint8),
                [dict(label=name, score=1.0, predicted=True) for name in ODD])
    assert set(ODD) <= set(shown)
    (tmp_path / 'no$image$.png').write_bytes(b'')
    plot_images([*paths, str(tmp_path / 'no$image$.png')], r'in $\broken: $5', tmp_path / 'all.png')
    assert {path.split('/')[-1] for path in paths} <= set(shown)
    assert r'in $\broken: $5' in shown and 'no$image$.png' in shown


def test_a_long_name_of_one_word_is_cut_and_not_left_out(shown):
    draw_ranked(np.zeros((32, 32, 3), np.uint8),
                [dict(label='x' * 60, score=1.0, predicted=True)])
    assert any(text.startswith('xxxx') for text in shown)


def test_names_of_metrics_and_runs_are_shown_as_they_are(shown, tmp_path):
    run = tmp_path / 'run'
    (run / '1/vis_data').mkdir(parents=True)
    rows = [{'step': s, **{f'{name}/mAP': 0.5 for name in ODD}} for s in (1, 2)]
    (run / '1/vis_data/scalars.json').write_text('\n'.join(map(json.dumps, rows)))
    (run / 'probabilities.jsonl').write_text(
        json.dumps(dict(step=1, epoch=1, prob_pos=0.5, prob_neg=0.5, delta_p=0.1)) + '\n')
    plot_run(run, tmp_path / 'curves.png')
    assert {f'{name}/mAP' for name in ODD} <= set(shown)
    shown.clear()
    plot_training(dict.fromkeys(ODD[:3], run), tmp_path / 'training')
    assert all(shown.count(name) > 1 for name in ODD[:3])  # title and legend
    shown.clear()
    found = dict(values=[0.5], mean=0.5, std=None)
    plot_sweep(dict(seeds=[0], variants={name: dict(metrics={'mAP': found}) for name in ODD}),
               'mAP', tmp_path)
    assert set(ODD) <= set(shown)
