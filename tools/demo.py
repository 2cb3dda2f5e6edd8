"""A page to look at the results of networks by hand; one checkpoint, or several side by side.

    python tools/demo.py CHECKPOINT [CHECKPOINT ...]
"""

import argparse

from asl_det.commands.command_line import one_line_errors
from asl_det.inference.demo import build_page, find_examples, serve
from asl_det.inference.infer import build_inferencer
from asl_det.inference.opening import open_checkpoint
from asl_det.multilabel.thresholds import probability


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('checkpoints', nargs='+', metavar='CHECKPOINT',
                        help='of detectors or classifiers; each brings its config')
    parser.add_argument('--config', help='of all checkpoints, if they bring none')
    parser.add_argument('--examples', metavar='FOLDER', help='pictures to choose from, which the '
                        'page shows to everybody who reaches it')
    parser.add_argument('--threshold', type=float, default=0.5, help='where the slider begins')
    parser.add_argument('--device', help="e.g. 'cpu' or 'cuda:0'; default: a GPU if there is one")
    parser.add_argument('--host', default='127.0.0.1', help='address that the page is served at; '
                        'default: this machine alone. Anybody who reaches it may upload pictures')
    parser.add_argument('--port', type=int, help='default: a free one from 7860 on')
    return parser.parse_args()


@one_line_errors
def main() -> None:
    args = parse_args()
    probability(args.threshold, '--threshold')
    opened = [open_checkpoint(args.config, path) for path in args.checkpoints]
    networks = [(path, build_inferencer(one, args.device))
                for path, one in zip(args.checkpoints, opened, strict=True)]
    page = build_page(networks, find_examples(args.examples), args.threshold)
    serve(page, args.host, args.port)


if __name__ == '__main__':
    main()
