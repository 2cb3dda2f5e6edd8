"""Suggest gamma_neg and margin for a data set, with the reasons.

    python tools/suggest.py configs/multilabel/resnet18-w16_asl_digits.py
    python tools/suggest.py CONFIG --scores results.scores.npz    # of a BCE baseline: tools/test.py
"""

import argparse
import json
from pathlib import Path

import numpy as np
from mmengine.registry import init_default_scope
from rich.console import Console
from rich.table import Table

from asl_det.analysis.suggest import assumed_scores, compare, label_statistics, suggest
from asl_det.cli import add_config_arguments, config_options, one_line_errors
from asl_det.engine import check_data, load_config
from asl_det.errors import UserError
from asl_det.registry import DATASETS


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    add_config_arguments(parser)
    parser.add_argument('--scores', help='<prefix>.scores.npz of a baseline trained with binary '
                        'cross-entropy, as tools/test.py --out writes it')
    parser.add_argument('--target', type=float, default=0.0, help='delta_p to reach')
    parser.add_argument('--clip', type=float, default=0.05, help='probability margin')
    parser.add_argument('--out', help='json file')
    return parser.parse_args()


@one_line_errors
def main() -> None:
    args = parse_args()
    if not 0 <= args.clip < 1 or not -1 < args.target < 1:
        raise UserError('expected --clip in [0, 1) and --target between -1 and 1')
    cfg = load_config(args.config, config_options(args))
    check_data(cfg, ('train',))
    init_default_scope(cfg.get('default_scope', 'mmdet'))
    labels = label_statistics(DATASETS.build(dict(cfg.train_dataloader.dataset, pipeline=[])))
    if args.scores:
        if not Path(args.scores).is_file():
            raise UserError(f'{args.scores} does not exist: write it with tools/test.py CONFIG '
                            'CHECKPOINT --out results.json')
        with np.load(args.scores) as saved:
            scores, targets = saved['scores'], saved['targets']
        source = f'the scores of {args.scores}'
    else:
        scores, targets = assumed_scores(labels['positives'], labels['negatives'])
        source = 'assumed scores (calibrated, AUC 0.98 in every class; --scores gives real ones)'
    records = compare(scores, targets, margins=sorted({0.0, args.clip, 0.1}))
    chosen = suggest(records, args.target, args.clip)
    report(labels, source, records, chosen, args)
    if args.out:
        content = dict(chosen=chosen, records=records, images=labels['images'],
                       positives_per_image=labels['positives_per_image'], source=source)
        Path(args.out).parent.mkdir(parents=True, exist_ok=True)
        Path(args.out).write_text(json.dumps(content, indent=2) + '\n')


def report(labels: dict, source: str, records: list, chosen: dict, args: argparse.Namespace
           ) -> None:
    console = Console()
    per_positive = labels['negatives'] / np.maximum(labels['positives'], 1)
    order = np.argsort(per_positive)
    console.print(f'{labels["images"]} images, {len(labels["classes"])} classes, '
                  f'{labels["positives_per_image"]:.2f} positives an image, '
                  f'{int((labels["positives"] == 0).sum())} classes without any')
    console.print(f'negatives for one positive: median {np.median(per_positive):.0f}; least '
                  + ', '.join(f'{labels["classes"][c]} {per_positive[c]:.1f}' for c in order[:3])
                  + '; most '
                  + ', '.join(f'{labels["classes"][c]} {per_positive[c]:.0f}'
                              for c in order[:-4:-1]))
    console.print(f'From {source}:')
    table = Table('gamma_neg', 'margin', 'positives in the gradient', 'p of positives after',
                  'p of negatives after', 'delta_p after')
    for r in records:
        style = 'bold' if r is chosen else None
        table.add_row(f'{r["gamma_neg"]:g}', f'{r["clip"]:g}', f'{r["grad_pos"]:.0%}',
                      f'{r["prob_pos"]:.2f}', f'{r["prob_neg"]:.3f}', f'{r["delta_p"]:+.2f}',
                      style=style)
    console.print(table)
    console.print('Cross-entropy (0, 0) balances the gradients of a calibrated model, and leaves '
                  'positives less certain than negatives (delta_p < 0) the rarer they are. A '
                  'higher gamma_neg lets go of easy negatives, so positives end higher.')
    if chosen is None:
        console.print(f'No gamma up to {records[-1]["gamma_neg"]:g} reaches delta_p >= '
                      f'{args.target:g}: the classes are hard to tell apart here. Start with '
                      'gamma_neg=4, or let adaptive=dict(delta_p_target=...) find it.')
    else:
        console.print(f'Start with gamma_neg={chosen["gamma_neg"]:g}, gamma_pos=0, '
                      f'clip={chosen["clip"]:g}: the least with which positives end as certain as '
                      f'negatives (delta_p >= {args.target:g}). Then {chosen["grad_pos"]:.0%} of '
                      'the first gradient comes from positives. Half and double it on a part of '
                      'the training set before you believe it.')


if __name__ == '__main__':
    main()
