"""Draw mean probabilities, delta_p, gamma_neg and the metric of trainings side by side.

    asl-det plot-training work_dirs/a work_dirs/b
    asl-det plot-training BCE=work_dirs/a ASL=work_dirs/b --out figures/both
"""

import argparse

from asl_det.errors import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('runs', nargs='+', metavar='RUN',
                        help='folder of a run with ProbabilityMonitorHook, or LABEL=FOLDER')
    parser.add_argument('--out', default='work_dirs/figures/training', metavar='FILE',
                        help='file without suffix; PNG and PDF are written')


def run(args: argparse.Namespace) -> None:
    from pathlib import Path

    from asl_det.analysis.training_curves import plot_training

    runs = {}
    for text in args.runs:
        label, _, folder = text.rpartition('=')
        label = label or Path(folder).name
        if label in runs:
            raise UserError(f'two runs are called {label}: name them LABEL=FOLDER')
        runs[label] = folder
    print('\n'.join(map(str, plot_training(runs, args.out))))
