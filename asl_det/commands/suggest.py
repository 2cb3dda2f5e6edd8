"""Say what labels and a baseline tell about gamma_neg and margin, and what they do not.

    asl-det suggest CONFIG                                # labels and ranges
    asl-det suggest CONFIG --scores results.scores.npz    # of a BCE baseline: asl-det test --out
"""

import argparse

from asl_det.commands.command_line import add_config, config_options
from asl_det.errors import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config(parser)
    parser.add_argument('--scores', metavar='FILE', help='<prefix>.scores.npz of a baseline '
                        'trained with binary cross-entropy, as asl-det test --out writes it, on '
                        'images that it was not trained on (default: ranges from labels alone)')
    parser.add_argument('--margin-share', type=float, default=0.9, metavar='SHARE',
                        help='share of the negatives that the margin shall let go')
    parser.add_argument('--gradient-share', type=float, default=0.8, metavar='SHARE',
                        help='share of the gradient that positives shall have; cross-entropy '
                        'gives them one half (default: %(default)s)')
    parser.add_argument('--out', metavar='FILE', help='json file (default: none is written)')
    parser.add_argument('--figure', metavar='FILE', help='file without suffix: the balance over '
                        'gamma_neg as PNG and PDF (default: none is drawn)')


def run(args: argparse.Namespace) -> None:
    from asl_det.analysis.style import files_of
    from asl_det.engine import load_config
    from asl_det.experiments.suggest_report import report
    from asl_det.files.whole import require_output

    if not 0 < args.margin_share < 1 or not 0 < args.gradient_share < 1:
        raise UserError('expected --margin-share and --gradient-share between 0 and 1')
    require_output(args.out, '--out')
    if args.figure is not None:
        files_of(args.figure)
    report(load_config(args.config, config_options(args)), args.config, scores=args.scores,
           shares=dict(margin_share=args.margin_share, gradient_share=args.gradient_share),
           out=args.out, figure=args.figure)
