"""Train a model from a config."""

import argparse

from asl_det.cli import one_line_errors, parse_run_args, run_parser
from asl_det.engine import default_work_dir, load_config, train


def parse_args() -> argparse.Namespace:
    parser = run_parser(__doc__)
    parser.add_argument('--work-dir', help='folder of the run; default: work_dirs/<config name>')
    parser.add_argument('--resume', nargs='?', const='auto', metavar='CHECKPOINT',
                        help='continue from a checkpoint, or from the last one of the run')
    parser.add_argument('--amp', action='store_true', help='mixed precision (needs a GPU)')
    parser.add_argument('--seed', type=int)
    return parse_run_args(parser)


@one_line_errors
def main() -> None:
    args = parse_args()
    cfg = load_config(args.config, args.cfg_options)
    work_dir = args.work_dir or cfg.get('work_dir') or default_work_dir(args.config)
    checkpoint = train(cfg, work_dir=work_dir, resume=args.resume, amp=args.amp,
                       launcher=args.launcher, seed=args.seed)
    print(f'checkpoint: {checkpoint}\ncurves:     {work_dir}/curves.png')


if __name__ == '__main__':
    main()
