"""Class names that mean something to a terminal, a format, a figure or a file."""

import csv
import json
import uuid
from pathlib import Path

import numpy as np
import pytest
from small_digits import small_digits

from asl_det import engine
from asl_det.multilabel.metric import class_table

ODD = ['[/red]', '[red]x', '$a_b$', r'$\frac$', 'a,b', '%s', '{x}', ':dog:', '_hidden', 'a/b']


def test_a_table_of_classes_shows_names_as_they_are():
    lines = class_table(ODD, {'AP': np.full(len(ODD), 0.5)}).splitlines()
    assert [line.strip('│ ').split()[0] for line in lines[3:-1]] == ODD


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    """A training and a test of a network whose classes have odd names."""
    root = tmp_path_factory.mktemp('names')
    cfg = small_digits(root / 'data')
    for path in (root / 'data').rglob('*.json'):
        content = json.loads(path.read_text())
        for category, name in zip(content['categories'], ODD, strict=True):
            category['name'] = name
        path.write_text(json.dumps(content))
    for split in ('train', 'val', 'test'):
        if f'{split}_dataloader' in cfg:
            cfg[f'{split}_dataloader'].dataset.data_root = str(root / 'data')
    cfg.val_evaluator.classwise = cfg.test_evaluator.classwise = True
    cfg.experiment_name = str(uuid.uuid4())
    checkpoint = engine.train(cfg, work_dir=str(root / 'run'))
    cfg.experiment_name = str(uuid.uuid4())
    engine.test(cfg, str(checkpoint), work_dir=str(root / 'test'), out=root / 'test/results.json',
                show_dir=root / 'drawn')
    return root


def test_a_training_with_odd_names_of_classes_logs_and_draws_them(run):
    log = ''.join(path.read_text() for path in run.glob('run/*/*.log'))
    assert all(f'│ {name} ' in log for name in ODD)
    assert 'drew nothing' not in log
    assert Path(run, 'run/predictions.png').is_file()


def test_a_test_with_odd_names_of_classes_writes_and_draws_them(run):
    with open(run / 'test/results.classes.csv', newline='', encoding='utf-8') as file:
        assert [row[0] for row in csv.reader(file)][1:] == ODD
    assert np.load(run / 'test/results.scores.npz')['classes'].tolist() == ODD
    assert list((run / 'drawn').glob('*.png'))
