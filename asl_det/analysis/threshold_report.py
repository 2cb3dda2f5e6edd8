"""Thresholds and calibration of one model, what they gain, and several models side by side."""

import math
import statistics
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Union

import numpy as np
from matplotlib.figure import Figure
from scipy.special import expit, logit

from asl_det.analysis.calibration import (
    KINDS,
    Calibration,
    calibrated,
    calibration_errors,
    cross_validated_scores,
    fit_curves,
    reliability,
)
from asl_det.analysis.claims import Claims, joined, splits
from asl_det.analysis.style import COLOURS, LINES, save
from asl_det.analysis.threshold_choice import (
    Objective,
    choose,
    count,
    cross_validate,
    metrics,
)
from asl_det.errors import UserError
from asl_det.files.whole import whole_file

# What each kind of calibration is called in tables and figures.
CALIBRATIONS = dict(zip(KINDS, ('as it came', 'temperature', 'temperature and bias', 'a curve',
                                'a curve, and classes'), strict=True))
MACRO_F1 = Objective('macro-f1')
LABELS = {'fixed': 'at {fixed:g}', 'global': 'one threshold', 'classes': 'one a class'}


def tune(names: Sequence[str], claims: Sequence[Claims], num_images: int, *,
         objective: Objective = MACRO_F1, calibrate: str = 'none', folds: int = 5,
         seed: int = 0, shrink: Optional[float] = None, fixed: float = 0.5) -> Dict[str, Any]:
    """Choose thresholds and a calibration on all images, and measure them on held-out ones.

    Args:
        names: of the C classes.
        claims: of each class.
        num_images: N.
        objective, shrink: see :func:`~asl_det.analysis.threshold_choice.choose`.
        calibrate: of :data:`~asl_det.analysis.calibration.KINDS`, or 'best'
            for that of them which makes held-out images most likely. All are
            fitted and measured anyway, unless 'none'. Thresholds are chosen on
            the calibrated scores.
        folds, seed: of the cross-validation.
        fixed: the threshold that is compared with.

    Returns:
        ``thresholds``: what a thresholds.json has, but its source.
        ``calibrate``: the kind that was used.
        ``metrics``: ``cross_validated`` and ``same_scores`` (of thresholds that
        these scores chose: too good), each by 'fixed', 'global' and 'classes'.
        ``classes``: a record each. ``calibration``: cross-validated ``ece``,
        ``nll`` and ``reliability`` by kind.

    Raises:
        UserError: if names repeat, nothing can be chosen, or a threshold is no
            number below 1 without a bias.
    """
    repeated = sorted({n for n in names if list(names).count(n) > 1})
    if repeated:
        raise UserError(f'class names are used twice, so thresholds can not go by name: {repeated}')
    if not claims:
        raise UserError('there are scores of no class: nothing can be chosen')
    everything = np.ones(num_images, bool)
    held_out = splits(everything, folds, seed)
    measured = {} if calibrate == 'none' else _calibrations(claims, held_out)
    if calibrate == 'best':
        calibrate = min(measured, key=lambda kind: measured[kind]['nll'])
    curves = fit_curves(claims, calibrate)
    scored = calibrated(claims, curves)
    chosen = choose(scored, everything, objective, shrink, seed)
    validated = cross_validate(claims, held_out, objective, logit(fixed), shrink, seed, calibrate)
    same = {name: metrics(claims, *count(by, thresholds))[0] for name, by, thresholds in (
        ('fixed', claims, [logit(fixed)] * len(claims)),
        ('global', scored, [chosen.one] * len(claims)), ('classes', scored, chosen.classes))}
    report = dict(
        objective=objective._asdict(), calibrate=calibrate, folds=folds, seed=seed, fixed=fixed,
        images=num_images,
        shrink=None if np.isinf(chosen.shrink) else chosen.shrink,  # json has no infinity
        metrics=dict(cross_validated={k: v[0] for k, v in validated.items()}, same_scores=same))

    if measured:
        report['calibration'] = measured
    one, classes = (_as_written(expit(t)) for t in (chosen.one, chosen.classes))
    if not all(0 < t < 1 for t in (one, *classes)):
        raise UserError(f'thresholds lie at logits up to {np.abs(chosen.classes).max():.0f}, whose '
                        'probabilities round to 0 or 1: calibrate with a bias (--calibrate bias)')
    report['thresholds'] = {'global': one, 'classes': dict(zip(names, classes, strict=True))}
    report['thresholds'].update(_written(names, curves))
    by_class = {k: v[1] for k, v in validated.items()}
    report['classes'] = [
        dict(name=name, positives=len(c.positives), threshold=classes[i],
             own_share=float(chosen.share[i]),
             **{f'F1_{k}': _number(v['F1'][i]) for k, v in by_class.items()},
             precision=_number(by_class['classes']['precision'][i]),
             recall=_number(by_class['classes']['recall'][i]))
        for i, (name, c) in enumerate(zip(names, claims, strict=True))]
    return report


def _calibrations(claims: Sequence[Claims], held_out: Sequence[np.ndarray]) -> Dict[str, Any]:
    hits = joined(claims).hits
    measured = {}
    for kind in KINDS:
        scores = cross_validated_scores(claims, held_out, kind)
        measured[kind] = dict(calibration_errors(scores, hits),
                              reliability=reliability(scores, hits))
    return measured


def _written(names: Sequence[str], curves: Sequence[Calibration]) -> Dict[str, Any]:
    """Temperatures and biases as a thresholds.json has them."""
    curve = {'curve': [_plain(point) for point in curves[0].curve]} if curves[0].curve else {}
    if len(set(curves)) == 1:
        return {**curve, **{key: _plain(getattr(curves[0], key)) for key in (
            'temperature', 'bias') if getattr(curves[0], key) != getattr(Calibration(), key)}}
    return {**curve, **{plural: dict(zip(names, _plain([getattr(c, key) for c in curves]),
                                         strict=True))
                        for key, plural in (('temperature', 'temperatures'), ('bias', 'biases'))}}


def few_positives(report: Dict[str, Any]) -> List[str]:
    """The classes with less than half of a threshold of their own, and their positives."""
    return [f'{c["name"]} ({c["positives"]})' for c in report['classes'] if c['own_share'] < 0.5]


def plot_report(report: Dict[str, Any], out: Union[str, Path]) -> List[Path]:
    """Draw F1 before and after, thresholds, and the reliability curve; ``out`` without suffix."""
    figure = Figure(figsize=(4.0 * (2 + ('calibration' in report)), 3.6), layout='constrained')
    panels = figure.subplots(1, 2 + ('calibration' in report))
    classes = [c for c in report['classes'] if c['F1_fixed'] is not None]
    own = np.array([c['own_share'] >= 0.5 for c in classes], bool)
    axes = panels[0]
    axes.plot([0, 1], [0, 1], color='grey', linewidth=0.8)
    for chosen, filled, label in ((own, True, 'mostly its own'),
                                  (~own, False, 'few positives: mostly the global')):
        if chosen.any():
            x, y = ([c[f'F1_{k}'] for c, use in zip(classes, chosen, strict=True) if use]
                    for k in ('fixed', 'classes'))
            axes.scatter(x, y, s=18, edgecolors=COLOURS[6], label=label,
                         facecolors=COLOURS[6] if filled else 'none')
    axes.set(xlabel=f'F1 of a class at {report["fixed"]:g}', xlim=(0, 1), ylim=(0, 1),
             ylabel='F1 at its threshold, held-out images')
    axes.legend(frameon=False, fontsize='small')
    axes = panels[1]
    axes.scatter([max(c['positives'], 1) for c in report['classes']],
                 [c['threshold'] for c in report['classes']], s=18, color=COLOURS[6])
    axes.axhline(report['thresholds']['global'], color=COLOURS[3], linestyle='--',
                 label='for all classes')
    if report['shrink']:
        axes.axvline(report['shrink'], color='grey', linewidth=0.8, linestyle=':',
                     label='half its own, half global')
    axes.set(xscale='log', xlabel='positives of a class', ylabel='threshold', ylim=(0, 1))
    axes.legend(frameon=False, fontsize='small')
    if 'calibration' in report:
        axes = panels[2]
        axes.plot([0, 1], [0, 1], color='grey', linewidth=0.8)
        for (kind, found), colour, line in zip(report['calibration'].items(), COLOURS, LINES,
                                               strict=False):
            curve = found['reliability']
            axes.plot(curve['score'], curve['share'], color=colour, linestyle=line, marker='.',
                      label=f'{CALIBRATIONS[kind]}: ECE {found["ece"]:.4f}')
        axes.set(xlabel='mean probability', ylabel='share that is positive', xlim=(0, 1),
                 ylim=(0, 1))
        axes.legend(frameon=False, fontsize='small')
    return save(figure, out)


def plot_reliability(report: Dict[str, Any], out: Union[str, Path]) -> None:
    """Draw a reliability diagram, before and after, with the number of entries; a png.

    Args:
        report: of :func:`tune`, with a calibration.
        out: file.
    """
    figure = Figure(figsize=(4.6, 5.2), layout='constrained')
    axes, counts = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    axes.plot([0, 1], [0, 1], color='grey', linewidth=0.8)
    for kind, label, colour, line in (('none', 'as it came', COLOURS[3], '--'),
                                      (report['calibrate'], 'calibrated', COLOURS[6], '-')):
        found = report['calibration'][kind]
        curve = found['reliability']
        axes.plot(curve['score'], curve['share'], color=colour, linestyle=line, marker='.',
                  label=f'{label} (error {found["ece"]:.3f})')
        counts.plot(curve['score'], curve['entries'], color=colour, linestyle=line, marker='.')
    axes.set(ylabel='share that is right', xlim=(0, 1), ylim=(0, 1))
    axes.legend(frameon=False, fontsize='small', loc='upper left')
    axes.set_title('images that did not choose', fontsize='medium')
    counts.set(xlabel='score', ylabel='number', yscale='log')
    counts.yaxis.set_major_formatter('{x:g}')
    with whole_file(out) as file:
        figure.savefig(file, format='png', dpi=120)


def compare_table(models: Dict[str, Sequence[Dict[str, Any]]]) -> str:
    """A Markdown table, a column a model: mean and standard deviation over its reports.

    Raises:
        UserError: if the reports were not made in the same way.
    """
    reports = [r for some in models.values() for r in some]
    for key in ('objective', 'folds', 'fixed', 'images'):
        values = [r[key] for r in reports]
        if any(v != values[0] for v in values):
            raise UserError(f'the reports were made with different {key}: '
                            f'{sorted({str(v) for v in values})}; make them with the same')
    lines = [['', *models], ['---'] * (len(models) + 1)]
    for metric in ('mean_class_F1', 'CP', 'CR', 'CF1', 'OP', 'OR', 'OF1'):
        for setting, label in LABELS.items():
            lines.append([f'{metric}, {label.format(**reports[0])}'] + [
                _spread([r['metrics']['cross_validated'][setting][metric] for r in some], 3)
                for some in models.values()])
    for measure in ('ece', 'nll'):
        for name, label in CALIBRATIONS.items():
            if all(name in r.get('calibration', {}) for r in reports):
                lines.append([f'{measure.upper()}, {label}'] + [
                    _spread([r['calibration'][name][measure] for r in some], 4)
                    for some in models.values()])
    for key in ('temperature', 'bias'):
        if all(key in r['thresholds'] for r in reports):
            lines.append([key] + [_spread([r['thresholds'][key] for r in some], 2)
                                  for some in models.values()])
    lines.append(['one threshold'] + [_spread([r['thresholds']['global'] for r in some], 3)
                                      for some in models.values()])
    return '\n'.join(f'| {" | ".join(line)} |' for line in lines)


def _spread(values: Sequence[float], digits: int) -> str:
    mean = f'{statistics.fmean(values):.{digits}f}'
    return f'{mean} ± {statistics.stdev(values):.{digits}f}' if len(values) > 1 else mean


def _number(value: float) -> Optional[float]:
    return None if np.isnan(value) else float(value)


def _as_written(value: np.ndarray) -> Any:
    """Probabilities with 8 digits of themselves or of what is missing to 1."""
    rounded = [round(float(p), 8 - math.floor(math.log10(min(p, 1 - p)))) if 0 < p < 1
               else float(p) for p in np.ravel(value)]
    return rounded if np.ndim(value) else rounded[0]


def _plain(value: Union[float, np.ndarray]) -> Any:
    """Numbers with the digits of float32."""
    rounded = [float(f'{v:.8g}') for v in np.ravel(value)]
    return rounded if np.ndim(value) else rounded[0]
