"""Tables and figures of sweeps."""

import math
from pathlib import Path

import numpy as np
import pytest

from asl_det.errors import UserError
from asl_det.experiments import figures as sweep_figures
from asl_det.experiments.figures import plot_sweep
from asl_det.experiments.sweep import grid_variants
from asl_det.experiments.table import (
    METRICS,
    differences_to,
    metric_names,
    show,
    table,
    table_by_variant,
    tables_as_one,
)


def record(values):
    return dict(seeds=[0, 1], variants={
        name: dict(settings={}, metrics={'x/mAP': dict(mean=v, std=0.01, values=[v, v]),
                                         'x/CF1': dict(mean=v / 2, std=None, values=[v])})
        for name, v in values.items()})


def with_gap():
    found = record({'bce': 0.5, 'asl': 0.6})
    del found['variants']['bce']['metrics']['x/mAP']
    found['variants']['asl']['metrics']['x/mAP']['values'] = [0.6, None]
    found['failed'] = {'bce/seed0': 'out of memory (bce/seed0/train.log)'}
    return found


def test_tables_have_mean_and_spread_of_the_metrics_that_fit():
    text = table(record({'bce': 0.5, 'asl': 0.6}), ['.*CF1', '.*mAP'])
    assert text.splitlines()[0] == '| | CF1 | mAP |'
    assert text.splitlines()[3] == '| asl | 0.300 | 0.600 ± 0.010 |'
    with pytest.raises(UserError, match='no metric is named AP; there are: x/mAP, x/CF1'):
        table(record({'bce': 0.5}), ['AP'])
    assert show(dict(mean=0.12345, std=None, values=[0.12345])) == '0.123'


def test_what_a_variant_lacks_is_a_gap_in_the_table_and_failed_runs_are_below():
    assert table(with_gap(), ['.*mAP', '.*CF1']).splitlines()[2:] == [
        '| bce | – | 0.250 |', '| asl | 0.600 ± 0.010 (1 of 2) | 0.300 |', '',
        '- failed: bce/seed0: out of memory (bce/seed0/train.log)']


def test_sweeps_side_by_side_are_compared_to_a_variant_of_each():
    records = {'RetinaNet': dict(record({'bce': 0.5, 'asl': 0.6}), baseline='bce'),
               'FCOS': dict(with_gap(), baseline='bce')}
    assert tables_as_one(records, ['.*mAP']).splitlines() == [
        '| | mAP | mAP more than baseline |', '| --- | --- | --- |',
        '| RetinaNet: bce | 0.500 ± 0.010 |  |',
        '| RetinaNet: asl | 0.600 ± 0.010 | +0.100 ± 0.000 |',
        '| FCOS: bce | – |  |',
        '| FCOS: asl | 0.600 ± 0.010 (1 of 2) | – |']
    rows = tables_as_one(records, ['.*mAP', '.*CF1'], 'asl').splitlines()
    assert rows[0] == '| | mAP | CF1 | mAP more than asl |'
    assert rows[2] == '| RetinaNet: bce | 0.500 ± 0.010 | 0.250 | -0.100 ± 0.000 |'
    with pytest.raises(UserError, match='RetinaNet has no variant focal; there are: bce, asl'):
        tables_as_one(records, ['.*mAP'], 'focal')


def test_sweeps_by_variant_have_a_row_each_and_gaps_where_one_lacks_a_variant():
    records = {'RetinaNet': dict(record({'bce': 0.5, 'asl': 0.6}), baseline='bce'),
               'FCOS': dict(with_gap(), baseline='bce'),
               'RoI': dict(record({'softmax': 0.5, 'asl': 0.4}), baseline='softmax')}
    assert table_by_variant(records, '.*mAP').splitlines() == [
        '| | bce | asl | softmax |', '| --- | --- | --- | --- |',
        '| RetinaNet | 0.500 ± 0.010 | 0.600 ± 0.010 (+0.100 ± 0.000) |  |',
        '| FCOS | – | 0.600 ± 0.010 (1 of 2) |  |',
        '| RoI |  | 0.400 ± 0.010 (-0.100 ± 0.000) | 0.500 ± 0.010 |']


def drawn(monkeypatch, found, grid):
    """The axes of the figure of a sweep."""
    figures = []
    monkeypatch.setattr(sweep_figures, 'save', lambda figure, out: figures.append(figure))
    plot_sweep(found, '.*mAP', Path('.'), grid)
    figures[0].draw_without_rendering()
    return figures[0].axes[0]


def test_bars_start_at_zero(monkeypatch):
    axes = drawn(monkeypatch, record({'bce': 0.5, 'asl': 0.6}), {})
    assert axes.get_xlim()[0] == 0 and axes.get_xlim()[1] >= 0.61
    assert [b.get_x() for b in axes.patches] == [0, 0]
    assert [t.get_text() for t in axes.texts] == ['0.500 ± 0.010', '0.600 ± 0.010']
    assert axes.get_xlabel() == 'mAP, mean of 2 seeds'


def test_what_a_variant_lacks_is_a_gap_in_every_figure(monkeypatch):
    bars = drawn(monkeypatch, with_gap(), {}).patches
    assert np.isnan(bars[0].get_width()) and bars[1].get_width() == 0.6
    line = drawn(monkeypatch, with_gap(), {'a.g': [2, 1]}).lines[0]
    assert line.get_xdata().tolist() == [1, 2]
    assert np.isnan(line.get_ydata()[1]) and line.get_ydata()[0] == 0.6
    axes = drawn(monkeypatch, with_gap(), {'a.g': [0, 1], 'a.m': [0]})
    assert [t.get_text() for t in axes.texts] == ['none', '0.600\n± 0.010 (1 of 2)']


def test_named_settings_beside_a_heat_map_are_in_its_title(monkeypatch):
    axes = drawn(monkeypatch, record({'a': 0.1, 'b': 0.2, 'focal': 0.3}), {'g': [0, 1], 'm': [0]})
    assert 'focal 0.300' in axes.get_title()


@pytest.mark.parametrize('grid', [{'a.g': [0, 1, 2]}, {'a.g': [0, 1], 'a.m': [0, 1]}, {}])
def test_figures_of_lines_heat_maps_and_bars(tmp_path, grid):
    names = list(grid_variants(grid)) if grid else []
    found = record({name: 0.1 * i for i, name in enumerate([*names, 'other'])})
    files = plot_sweep(found, '.*mAP', tmp_path, grid)
    assert [f.name for f in files] == ['sweep.png', 'sweep.pdf']
    assert all(f.stat().st_size > 3000 for f in files)


def metric(*values):
    return dict(mean=sum(values) / len(values), std=None, values=list(values))


def test_differences_are_seed_by_seed_with_the_standard_error_of_their_mean():
    found = differences_to({'AP': metric(0.1, 0.5, 0.2)}, {'AP': metric(0.2, 0.5, 0.4)})
    assert found['AP']['values'] == pytest.approx([0.1, 0.0, 0.2])
    assert found['AP']['mean'] == pytest.approx(0.1)
    # The seeds differ by far more than the variants do within a seed.
    assert found['AP']['standard_error'] == pytest.approx(0.1 / math.sqrt(3))


def test_a_seed_that_either_lacks_is_not_in_the_difference():
    gap = dict(mean=0.3, std=None, values=[None, 0.3])
    found = differences_to({'AP': metric(0.1, 0.5)}, {'AP': gap, 'F1': metric(1, 2)})
    assert found == {'AP': dict(mean=pytest.approx(-0.2), values=[None, pytest.approx(-0.2)],
                                standard_error=None)}
    assert differences_to({'AP': gap}, {'AP': dict(gap, values=[0.3, None])}) == {}


def test_the_table_of_differences_is_to_the_baseline_and_below():
    found = dict(record({'focal': 0.5, 'asl': 0.6}), baseline='focal')
    found['variants']['asl']['differences'] = {
        'x/mAP': dict(mean=0.1, standard_error=0.02, values=[0.08, 0.12])}
    lines = table(found, ['.*mAP', '.*CF1']).splitlines()
    assert lines[3] == '| asl | 0.600 ± 0.010 | 0.300 |'
    assert lines[5].startswith('Difference to focal') and 'standard error' in lines[5]
    assert lines[7:] == ['| | mAP | CF1 |', '| --- | --- | --- |', '| asl | +0.100 ± 0.020 | – |']


def test_what_is_shown_unasked_has_the_sizes_of_coco_and_ends_with_the_time():
    names = ['train/seconds_per_iteration', 'train/grad_pos', 'coco/bbox_mAP', 'coco/bbox_mAP_50',
             'coco/bbox_mAP_s', 'coco/bbox_mAP_copypaste']
    found = dict(seeds=[0], variants={'a': dict(metrics={n: metric(0.5) for n in names})})
    assert metric_names(found)[-2:] == names[:2]
    assert table(found, [METRICS]).splitlines()[0] == (
        '| | bbox_mAP | bbox_mAP_50 | bbox_mAP_s | seconds_per_iteration |')


def test_a_record_of_an_earlier_version_asks_for_the_baseline():
    from asl_det.errors import UserError
    from asl_det.experiments.table import tables_as_one
    value = dict(mean=0.5, std=None, values=[0.5])
    old = dict(variants={'focal': dict(metrics={'a/mAP': value}),
                         'asl': dict(metrics={'a/mAP': value})})
    with pytest.raises(UserError, match='old does not say .*: give --baseline, one of focal, asl'):
        tables_as_one({'old': old}, ['.*mAP'])
    assert '+0.000' in tables_as_one({'old': old}, ['.*mAP'], 'focal')
