"""Draw the paper's figures of the loss and of its gradient from parameters (PNG and PDF)."""

import argparse
import math

from asl_det.analysis.loss_curves import plot_gradients, plot_losses
from asl_det.commands.command_line import one_line_errors
from asl_det.errors import UserError
from asl_det.files.whole import require_output


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--gamma-neg', type=float, default=2.0)
    parser.add_argument('--clip', type=float, default=0.2, help='probability margin')
    parser.add_argument('--gamma-focal', type=float, default=2.0)
    parser.add_argument('--out', default='work_dirs/figures', help='folder')
    return parser.parse_args()


@one_line_errors
def main() -> None:
    args = parse_args()
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


if __name__ == '__main__':
    main()
