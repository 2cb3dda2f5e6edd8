"""Train a detector or a classifier from a config.

    asl-det train CONFIG --loss asl
    asl-det train CONFIG --resume        # go on after a power cut
    asl-det train CONFIG --train-json a.json --train-images a/ --val-json b.json --val-images b/
"""

import argparse

from asl_det.commands.command_line import (
    add_overwrite,
    add_own_data,
    add_run,
    config_options,
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_run(parser)
    add_own_data(parser)
    parser.add_argument('--val-interval', type=int, metavar='N', help='epochs (or steps, if the '
                        'config counts those) between validations (default: as the config says)')
    parser.add_argument('--resume', nargs='?', const='auto', metavar='CHECKPOINT',
                        help='continue from a checkpoint, or from the newest one of the run that '
                        'loads (default: begin)')
    add_overwrite(parser, 'begin anew where the folder holds a run, and remove that')
    parser.add_argument('--epochs', type=int, metavar='N', help='length of the training; the '
                        'schedule keeps its shape (default: as the config says)')
    parser.add_argument('--lr', type=float, metavar='RATE', help='learning rate; of one-cycle its '
                        'highest (default: as the config says)')
    parser.add_argument('--auto-scale-lr', action='store_true',
                        help='scale the learning rate by the batch size of all processes')
    parser.add_argument('--amp', action='store_true', help='mixed precision (needs a GPU)')
    parser.add_argument('--seed', type=int, metavar='N', help='of all random numbers (default: as '
                        'the config says, or drawn)')
    parser.add_argument('--stop-signals', nargs='+', default=[], metavar='SIGNAL',
                        help='more signals than SIGINT and SIGTERM that save a checkpoint after '
                        'the step and stop, e.g. SIGUSR1 (default: none)')
    parser.add_argument('--non-finite-steps', type=int, default=10, metavar='N',
                        help='end after N steps in a row whose loss is NaN or infinite')
    parser.add_argument('--partial', action='store_true',
                        help='start from load_from with what fits of it, not only other heads')
    parser.add_argument('--resume-anyway', action='store_true', help='resume although settings '
                        'differ from those of the run')
    parser.add_argument('--no-calibration', action='store_true', help='leave thresholds and scores '
                        'as they are, which the last validation else chooses and calibrates')


def run(args: argparse.Namespace) -> None:
    from pathlib import Path

    from mmengine.dist import is_main_process

    from asl_det.engine import default_work_dir, load_config, train
    from asl_det.training.stopping import STOP

    cfg = load_config(args.config, config_options(args, batch_size='train_dataloader.batch_size'))
    work_dir = args.work_dir or cfg.get('work_dir') or default_work_dir(args.config, args.loss)
    checkpoint = train(cfg, work_dir=work_dir, resume=args.resume, overwrite=args.overwrite,
                       amp=args.amp, auto_scale_lr=args.auto_scale_lr, launcher=args.launcher,
                       seed=args.seed, stop_signals=[*STOP, *args.stop_signals],
                       non_finite_steps=args.non_finite_steps, partial=args.partial,
                       resume_anyway=args.resume_anyway, num_classes=args.num_classes,
                       calibrate=not args.no_calibration,
                       verbose=args.verbose)
    if is_main_process():
        print(f'checkpoint: {checkpoint or "none was written (CheckpointHook)"}')
        print(f'logs:       {work_dir}')
        curves = Path(work_dir, 'curves.png')
        if curves.exists():
            print(f'curves:     {curves}')
