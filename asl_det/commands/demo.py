"""A page to look at the results of networks by hand; one checkpoint, or several side by side.

    asl-det demo CHECKPOINT [CHECKPOINT ...]
    asl-det demo CONFIG CHECKPOINT           # where the checkpoint brings no config
"""

import argparse

from asl_det.commands.command_line import add_device, add_threshold, split_config
from asl_det.errors import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('arguments', nargs='+', metavar='[CONFIG] CHECKPOINT', help='config of all '
                        'checkpoints (by default the one in each), and checkpoints of detectors or '
                        'classifiers')
    parser.add_argument('--config', help=argparse.SUPPRESS)  # as it was given before
    parser.add_argument('--examples', metavar='DIR', help='pictures to choose from, which the '
                        'page shows to everybody who reaches it (default: none)')
    add_threshold(parser, 'score from which a class or box is shown until the slider is '
                  'moved', 'as each checkpoint says, or else its loss')
    add_device(parser)
    parser.add_argument('--host', default='127.0.0.1', help='address that the page is served at; '
                        'the default is reached from this machine alone. Anybody who reaches it '
                        'may upload pictures (default: %(default)s)')
    parser.add_argument('--port', type=int, metavar='N', help='default: a free one from 7860 on')


def run(args: argparse.Namespace) -> None:
    from asl_det.inference.demo import build_page, find_examples, serve
    from asl_det.inference.infer import build_inferencer
    from asl_det.inference.opening import open_checkpoint
    from asl_det.multilabel.thresholds import Thresholds

    config, checkpoints = split_config(args.arguments)
    if not checkpoints:
        raise UserError('expected [CONFIG] CHECKPOINT ...: there is no checkpoint')
    opened = [open_checkpoint(args.config or config, path) for path in checkpoints]
    asked = Thresholds.parse(args.threshold)
    networks = [(path, build_inferencer(one, args.device, asked))
                for path, one in zip(checkpoints, opened, strict=True)]
    serve(build_page(networks, find_examples(args.examples)), args.host, args.port)
