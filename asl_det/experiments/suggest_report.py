"""What labels and a baseline tell about gamma_neg and margin, as a report."""

import json
from pathlib import Path
from typing import Any, Dict, List, Optional, Union

import numpy as np
from mmengine.config import Config
from mmengine.registry import init_default_scope
from rich.console import Console
from rich.table import Table

from asl_det.errors import UserError
from asl_det.experiments.suggest import (
    FINE_GAMMAS,
    assumed_ranges,
    compare,
    label_statistics,
    plot_balance,
    suggest,
)
from asl_det.files.text import plain_console
from asl_det.files.whole import write_whole
from asl_det.multilabel.metric import read_scores
from asl_det.preflight.checks import DATA, require
from asl_det.preflight.run import Run
from asl_det.registry import DATASETS


def report(cfg: Config, config: str, *, scores: Optional[str], shares: Dict[str, float],
           out: Union[str, Path, None] = None, figure: Union[str, Path, None] = None) -> None:
    """Print what is known, and write it where asked.

    Args:
        cfg: a config with a training set of images with labels.
        config: its name, for errors.
        scores: ``scores.npz`` of a baseline; None for ranges from the labels alone.
        shares: ``margin_share`` and ``gradient_share``, as :func:`suggest` takes them.
        out: json file.
        figure: file without suffix.

    Raises:
        UserError: for mistakes in the data, or scores of other classes.
    """
    require(Run(cfg, config, 'labels'), DATA)
    init_default_scope(cfg.get('default_scope', 'mmdet'))
    labels = label_statistics(DATASETS.build(dict(cfg.train_dataloader.dataset, pipeline=[])))
    console = plain_console()
    report_labels(labels, console)
    if scores:
        found_scores, targets = scores_of(scores, labels['classes'])
        records = compare(found_scores, targets)
        found = dict(suggestion=suggest(found_scores, targets, **shares), records=records)
        report_balance(records, f'At the scores of {scores}', console)
        report_suggestion(found['suggestion'], shares, console)
    else:
        found = dict(suggestion=None, ranges=assumed_ranges(labels['positives'],
                                                            labels['negatives'], **shares))
        low, high = found['ranges']['auc']
        records = found['ranges']['records']
        report_balance(records, f'With these labels, in a calibrated classifier whose AUC is '
                       f'anything from {low:.2f} to {high:.3f}', console)
        report_nothing(found['ranges'], shares, console)
    if out:
        plain = {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in labels.items()}
        write_whole(out, json.dumps(dict(labels=plain, scores=scores, **shares, **found),
                                    indent=2) + '\n')
    if figure:
        plot_balance(records, figure, shares['gradient_share'])


def scores_of(path: str, classes: List[str]) -> tuple:
    """Scores and targets of a file that has the classes of the config."""
    scores, targets, names, _ = read_scores(path)
    if names != list(classes):
        raise UserError(f'{path} has the classes {names[:4]} ..., {len(names)} in all, but the '
                        f'config has {list(classes)[:4]} ..., {len(classes)}: give the scores of '
                        'a baseline on the same classes')
    if scores.ndim != 2 or scores.shape[1] != len(names) or scores.shape != targets.shape:
        raise UserError(f'{path}: scores have the shape {scores.shape}, targets {targets.shape}: '
                        f'expected an image a row and {len(names)} columns, one a class')
    return scores, targets


def report_labels(labels: Dict[str, Any], console: Console) -> None:
    counts = labels['images_by_positives']
    shown = [f'{n} with {k}' for k, n in enumerate(counts[:5]) if n]
    shown += [f'{sum(counts[5:])} with 5 or more'] * (sum(counts[5:]) > 0)
    console.print(f'{labels["images"]} images, {len(labels["classes"])} classes, '
                  f'{labels["positives_per_image"]:.2f} positives an image ({", ".join(shown)})')
    total = labels['positives'] + labels['negatives'] + labels['unknown']
    if labels['unknown'].any():
        console.print(f'{labels["unknown"].sum() / total.sum():.1%} of the labels are unknown')
    table = Table('class')
    for header in ('positives', 'negatives', 'unknown', 'negatives for one positive'):
        table.add_column(header, justify='right')
    order = np.argsort(-labels['positives'], kind='stable')
    # Of many classes the most and the least frequent.
    for c in order if len(order) <= 10 else [*order[:5], None, *order[-5:]]:
        if c is None:
            table.add_row(f'... {len(order) - 10} more')
            continue
        positives, negatives = labels['positives'][c], labels['negatives'][c]
        table.add_row(labels['classes'][c], str(positives), str(negatives),
                      str(labels['unknown'][c]),
                      f'{negatives / positives:.1f}' if positives else 'no positives')
    console.print(table)
    has = labels['positives'] > 0
    ratio = labels['negatives'][has] / labels['positives'][has]
    if has.any():
        console.print(f'Negatives for one positive: {ratio.min():.1f} to {ratio.max():.0f}, median '
                      f'{np.median(ratio):.0f}; {int((~has).sum())} classes without positives.')


def report_balance(records: List[Dict[str, Any]], title: str, console: Console) -> None:
    table = Table('gamma_neg', 'margin', 'gradient of\npositives', 'p of posi-\ntives, after',
                  'p of nega-\ntives, after', 'delta_p,\nafter')
    for r in records:
        table.add_row(f'{r["gamma_neg"]:g}', f'{r["clip"]:g}', show(r['grad_pos'], '.0%'),
                      show(r['prob_pos'], '.2f'), show(r['prob_neg'], '.3f'),
                      show(r['delta_p'], '+.2f'))
    console.print(f'\n{title}:')
    console.print(table)
    console.print('The last three columns are where probabilities end in a network that knows '
                  'what the classifier knows and minimises the loss. It ranks images alike in '
                  'every row: none of these numbers says which row has the highest mAP.')


def report_suggestion(found: Dict[str, Any], shares: Dict[str, float], console: Console) -> None:
    calibrated = found['mean_score'] / found['positive_share']
    if not 0.8 <= calibrated <= 1.25:
        console.print(f'Note: the mean score is {found["mean_score"]:.3f}, the share of positives '
                      f'{found["positive_share"]:.3f}: this is no calibrated baseline (another '
                      'loss than cross-entropy, or trained for too long), and its margin and '
                      'gamma will not fit one.')
    low, high = found['clip_range']
    console.print(f'Margin {found["clip"]:.3f} ({low:.3f} to {high:.3f}): '
                  f'{shares["margin_share"]:.0%} of the negatives have a lower probability, and '
                  'with them go '
                  f'{found["negative_gradient_under"]:.0%} of the negatives\' gradient under '
                  f'cross-entropy. {found["positives_under"]:.1%} of the positives have a lower '
                  'one too; hidden positives look like them.')
    if found['gamma_neg'] is None:
        console.print(f'No gamma_neg up to {FINE_GAMMAS[-1]:g} gives positives '
                      f'{shares["gradient_share"]:.0%} of the gradient with this margin: lower '
                      '--gradient-share, or raise --margin-share.')
        return
    console.print(f'gamma_neg {found["gamma_neg"]:.1f} ({range_of_gamma(found["gamma_range"])}): '
                  f'with this margin positives have {found["grad_pos_before"]:.0%} of the gradient '
                  f'at gamma_neg 0, and {shares["gradient_share"]:.0%} from here on.')
    console.print('In brackets: 5 to 95 % over images drawn again. The two shares are a choice '
                  '(--margin-share, --gradient-share), not something that the scores tell: train '
                  'this, half and double, on a part of the training set, before you believe it.')


def report_nothing(ranges: Dict[str, Any], shares: Dict[str, float], console: Console) -> None:
    (low, high), (first, last) = ranges['clip'], ranges['gamma_neg']
    beyond = ' or more' if last >= FINE_GAMMAS[-1] else ''
    console.print(f'Cannot tell margin and gamma_neg without a baseline: labels do not say how '
                  f'well classes separate, and over these separations the margin that lets go '
                  f'{shares["margin_share"]:.0%} of the negatives is anything from {low:.3f} to '
                  f'{high:.3f}, the gamma_neg with which positives then have '
                  f'{shares["gradient_share"]:.0%} of the gradient anything from {first:.1f} to '
                  f'{last:.1f}{beyond}. Train with cross-entropy (gamma_neg=0, gamma_pos=0, '
                  'clip=0), run asl-det test with --out on images that it did not see, and give '
                  'the result with --scores.')


def show(value: Any, form: str) -> str:
    """A number, or a range from lowest to highest."""
    if isinstance(value, tuple):
        return ' – '.join(format(v, form) for v in value)
    return format(value, form)


def range_of_gamma(found: Optional[tuple]) -> str:
    if found is None:
        return 'in some draws of images out of reach'
    return f'{found[0]:.1f} to {found[1]:.1f}'
