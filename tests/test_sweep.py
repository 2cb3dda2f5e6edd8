"""Sweeps are ordinary trainings, kept and continued."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest

from asl_det.analysis.sweep import plot_sweep
from asl_det.datasets.digits import make_digits
from asl_det.errors import UserError
from asl_det.sweep import grid_variants, show, table

CONFIG = 'configs/multilabel/resnet18-w16_asl_digits.py'
LOSS = 'model.head.loss'


def test_a_grid_is_every_combination_and_joined_keys_share_a_value():
    variants = grid_variants({'a.gamma_neg,a.gamma_pos': [0, 2], 'a.clip': [0.0, 0.05]})
    assert list(variants) == ['gamma_neg-0_clip-0.0', 'gamma_neg-0_clip-0.05',
                              'gamma_neg-2_clip-0.0', 'gamma_neg-2_clip-0.05']
    assert variants['gamma_neg-2_clip-0.05'] == {'a.gamma_neg': 2, 'a.gamma_pos': 2, 'a.clip': 0.05}


def record(values):
    return dict(seeds=[0, 1], variants={
        name: dict(settings={}, metrics={'x/mAP': dict(mean=v, std=0.01, values=[v, v]),
                                         'x/CF1': dict(mean=v / 2, std=None, values=[v])})
        for name, v in values.items()})


def test_tables_have_mean_and_spread_of_the_metrics_that_fit():
    text = table(record({'bce': 0.5, 'asl': 0.6}), ['.*CF1', '.*mAP'])
    assert text.splitlines()[0] == '| | CF1 | mAP |'
    assert text.splitlines()[3] == '| asl | 0.300 | 0.600 ± 0.010 |'
    with pytest.raises(UserError, match='no metric is named AP; there are: x/mAP, x/CF1'):
        table(record({'bce': 0.5}), ['AP'])
    assert show(dict(mean=0.12345, std=None)) == '0.123'


@pytest.mark.parametrize('grid', [{'a.g': [0, 1, 2]}, {'a.g': [0, 1], 'a.m': [0, 1]}, {}])
def test_figures_of_lines_heat_maps_and_bars(tmp_path, grid):
    names = list(grid_variants(grid)) if grid else []
    found = record({name: 0.1 * i for i, name in enumerate([*names, 'other'])})
    files = plot_sweep(found, '.*mAP', tmp_path, grid)
    assert [f.name for f in files] == ['sweep.png', 'sweep.pdf']
    assert all(f.stat().st_size > 3000 for f in files)


def run(monkeypatch, *args):
    spec = importlib.util.spec_from_file_location('sweep_tool', 'tools/sweep.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(sys, 'argv', ['sweep', *map(str, args)])
    try:
        module.main()
    except SystemExit as exit:
        return exit.code


def test_a_sweep_trains_every_setting_and_seed_once_and_goes_on(tmp_path, monkeypatch, capsys):
    root = tmp_path / 'digits'
    make_digits(root, num_train=16, num_val=8, size=64, digits_per_image=(1, 3),
                digit_size=(20, 32), clutter=2)
    options = [f'{split}_dataloader.dataset.data_root={root}' for split in ('train', 'val')]
    command = [CONFIG, '--work-dir', tmp_path / 'sweep', '--seeds', 0, 1, '--jobs', 2,
               '--grid', f'{LOSS}.gamma_neg=0,2', '--variant', 'focal', f'{LOSS}.gamma_neg=2',
               f'{LOSS}.gamma_pos=2', f'{LOSS}.clip=0', '--metrics', '.*mAP', '.*CF1',
               '--cfg-options', *options, 'train_cfg.max_epochs=1', 'train_cfg.val_interval=1',
               'train_dataloader.batch_size=8', 'param_scheduler.0.total_steps=1',
               'custom_hooks.2.interval=1']
    assert run(monkeypatch, *command) is None
    saved = json.loads((tmp_path / 'sweep/sweep.json').read_text())
    assert list(saved['variants']) == ['gamma_neg-0', 'gamma_neg-2', 'focal']
    values = saved['variants']['focal']['metrics']['multilabel/mAP']
    assert len(values['values']) == 2 and values['values'][0] != values['values'][1]
    assert 0 < saved['variants']['focal']['metrics']['train/grad_pos']['mean'] < 1
    assert values['mean'] == pytest.approx(sum(values['values']) / 2)
    assert 'gamma_neg-2 |' in (tmp_path / 'sweep/table.md').read_text()
    assert (tmp_path / 'sweep/sweep.png').is_file()
    one = tmp_path / 'sweep/focal/seed1'
    assert (one / 'epoch_1.pth').is_file() and 'Epoch(train)' in (one / 'train.log').read_text()

    # A run that was lost is trained again, and only that one, to the same numbers.
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / 'sweep').rglob('result.json')}
    metrics = json.loads((one / 'result.json').read_text())['metrics']
    for path in [one / 'result.json', one / 'last_checkpoint', *one.glob('*.pth')]:
        path.unlink()
    assert run(monkeypatch, *command) is None
    again = json.loads((one / 'result.json').read_text())['metrics']
    assert again['multilabel/mAP'] == metrics['multilabel/mAP']
    changed = [p for p, t in before.items() if p.stat().st_mtime_ns != t]
    assert changed == [one / 'result.json']

    message = run(monkeypatch, *command[:-1], 'custom_hooks.2.interval=2')
    assert 'holds a run with other settings' in message


def test_a_failing_run_is_named_and_the_others_are_kept(tmp_path, monkeypatch):
    message = run(monkeypatch, CONFIG, '--work-dir', tmp_path, '--variant', 'a',
                  f'{LOSS}.gamma_neg=-1', '--cfg-options', 'train_dataloader.dataset.data_root=x')
    assert message.startswith('error: 1 of 1 runs failed') and 'a/seed0/train.log' in message
    log = Path(tmp_path, 'a/seed0/train.log').read_text()
    assert 'x/instances_train.json does not exist' in log
    assert 'there is nothing to compare' in run(monkeypatch, CONFIG, '--work-dir', tmp_path)
    assert 'expected KEY=VALUE' in run(monkeypatch, CONFIG, '--work-dir', tmp_path, '--grid', 'a')
