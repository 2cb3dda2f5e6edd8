"""Evaluate a checkpoint, and draw its predictions.

    asl-det test CONFIG CHECKPOINT --out results.json --show drawn/
"""

import argparse

from asl_det.commands.command_line import (
    add_own_data,
    add_run,
    add_threshold,
    config_options,
)

OLD = {'--show-dir': '--show', '--thresholds': '--threshold'}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_run(parser)
    parser.add_argument('checkpoint', metavar='CHECKPOINT', help='file or URL')
    add_own_data(parser, 'val')
    parser.add_argument('--out', metavar='results.json', help='write the metrics here, and '
                        'detections beside it (default: nothing is written)')
    parser.add_argument('--show', metavar='DIR', help='draw truth and predictions of every image '
                        'here (default: none are drawn)')
    parser.add_argument('--partial', action='store_true',
                        help='evaluate even if weights of the checkpoint are missing or left over')
    add_threshold(parser, 'score from which a class or box is predicted and drawn (results hold '
                  'scores as the network gives them)', 'that in the checkpoint, or else the usual '
                  'one of its loss')
    parser.add_argument('--tta', action='store_true',
                        help='of a detector: test-time augmentation, as tta_model and tta_pipeline '
                        'of the config say, or with mirrored pictures')


def run(args: argparse.Namespace) -> None:
    from asl_det.detection.tta import use_tta
    from asl_det.engine import default_work_dir, load_config, test
    from asl_det.multilabel.thresholds import Thresholds

    cfg = load_config(args.config, config_options(args, batch_size='test_dataloader.batch_size'))
    if args.tta:
        use_tta(cfg)
    work_dir = args.work_dir or cfg.get('work_dir') or default_work_dir(args.config, args.loss)
    thresholds = Thresholds.parse(args.threshold)
    metrics = test(cfg, args.checkpoint, work_dir=work_dir, out=args.out, show_dir=args.show,
                   launcher=args.launcher, partial=args.partial, thresholds=thresholds,
                   num_classes=args.num_classes, verbose=args.verbose)
    for name, value in metrics.items():
        print(f'{name:24} {value}')
    for label, path in (('metrics', args.out), ('drawings', args.show)):
        if path:
            print(f'{label}: {path}')
