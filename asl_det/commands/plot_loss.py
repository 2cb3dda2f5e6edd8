"""Draw the paper's figures of the loss and of its gradient from parameters (PNG and PDF).

    asl-det plot-loss --gamma-neg 2 --clip 0.2 --out figures/
"""

import argparse
import math

from asl_det.errors import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('--gamma-neg', type=float, default=2.0, metavar='G',
                        help='exponent that weakens easy negatives')
    parser.add_argument('--clip', type=float, default=0.2, metavar='M', help='probability margin: '
                        'negatives with a lower probability cost nothing')
    parser.add_argument('--gamma-focal', type=float, default=2.0, metavar='G',
                        help='exponent of the focal loss that is drawn beside')
    parser.add_argument('--out', default='work_dirs/figures', metavar='DIR',
                        help='folder of the figures')


def run(args: argparse.Namespace) -> None:
    from asl_det.analysis.loss_curves import plot_gradients, plot_losses
    from asl_det.files.whole import require_output

    for flag, value in (('--gamma-neg', args.gamma_neg), ('--gamma-focal', args.gamma_focal)):
        if not 0 <= value < math.inf:
            raise UserError(f'{flag} {value:g}: expected a number from 0')
    if not 0 <= args.clip < 1:
        raise UserError(f'--clip {args.clip:g}: expected a margin in [0, 1)')
    require_output(args.out, '--out', folder=True)
    files = plot_losses(f'{args.out}/loss', gamma_neg=args.gamma_neg, clip=args.clip,
                        gamma_focal=args.gamma_focal)
    files += plot_gradients(f'{args.out}/gradient', gamma_neg=args.gamma_neg, clip=args.clip)
    print('\n'.join(map(str, files)))
