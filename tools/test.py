"""Evaluate a checkpoint, and draw its predictions."""

import argparse

from asl_det.commands.command_line import (
    config_options,
    one_line_errors,
    parse_run_args,
    run_parser,
)
from asl_det.detection.tta import use_tta
from asl_det.engine import default_work_dir, load_config, test
from asl_det.multilabel.thresholds import Thresholds


def parse_args() -> argparse.Namespace:
    parser = run_parser(__doc__)
    parser.add_argument('checkpoint', help='file or URL')
    parser.add_argument('--work-dir', help='folder of the log; default: work_dirs/<config name>')
    parser.add_argument('--out', metavar='results.json',
                        help='write the metrics here, and detections beside it')
    parser.add_argument('--show-dir', help='draw truth and predictions of every image here')
    parser.add_argument('--partial', action='store_true',
                        help='evaluate even if weights of the checkpoint are missing or left over')
    parser.add_argument('--thresholds', metavar='T|thresholds.json',
                        help='of a classifier: score from which a class is predicted, one number '
                        'or what tools/tune_thresholds.py wrote; default: as the config says. '
                        'Scores are written as the network gives them')
    parser.add_argument('--tta', action='store_true',
                        help='of a detector: test-time augmentation, as tta_model and tta_pipeline '
                        'of the config say, or with mirrored pictures')
    return parse_run_args(parser)


@one_line_errors
def main() -> None:
    args = parse_args()
    cfg = load_config(args.config, config_options(args))
    if args.tta:
        use_tta(cfg)
    work_dir = args.work_dir or cfg.get('work_dir') or default_work_dir(args.config, args.loss)
    thresholds = None if args.thresholds is None else Thresholds.parse(args.thresholds)
    metrics = test(cfg, args.checkpoint, work_dir=work_dir, out=args.out, show_dir=args.show_dir,
                   launcher=args.launcher, partial=args.partial, thresholds=thresholds,
                   num_classes=args.num_classes)
    for name, value in metrics.items():
        print(f'{name:24} {value}')
    for label, path in (('metrics', args.out), ('drawings', args.show_dir)):
        if path:
            print(f'{label}: {path}')


if __name__ == '__main__':
    main()
