"""Draw mean probabilities, delta_p, gamma_neg and the metric of trainings side by side."""

import argparse
from pathlib import Path

from asl_det.analysis.training_curves import plot_training
from asl_det.commands.command_line import one_line_errors
from asl_det.errors import UserError


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('runs', nargs='+', metavar='RUN',
                        help='folder of a run with ProbabilityMonitorHook, or LABEL=FOLDER')
    parser.add_argument('--out', default='work_dirs/figures/training',
                        help='file without suffix; PNG and PDF are written')
    return parser.parse_args()


@one_line_errors
def main() -> None:
    args = parse_args()
    runs = {}
    for text in args.runs:
        label, _, folder = text.rpartition('=')
        label = label or Path(folder).name
        if label in runs:
            raise UserError(f'two runs are called {label}: name them LABEL=FOLDER')
        runs[label] = folder
    print('\n'.join(map(str, plot_training(runs, args.out))))


if __name__ == '__main__':
    main()
