"""Print a config as a training reads it: with its bases, and with the changes of options.

    asl-det config mmdet::retinanet/retinanet_r50_fpn_1x_coco.py --loss asl
    asl-det config CONFIG --out my_config.py     # a copy to change, which needs no other file
"""

import argparse

from asl_det.commands.command_line import add_config, add_own_data, config_options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config(parser)
    add_own_data(parser)
    parser.add_argument('--out', metavar='FILE', help='write it here (default: it is printed)')


def run(args: argparse.Namespace) -> None:
    from asl_det.engine import load_config
    from asl_det.files.whole import require_output, write_whole

    require_output(args.out, '--out')
    text = load_config(args.config, config_options(args), quiet=True).pretty_text
    if args.out:
        write_whole(args.out, text)
        print(f'written: {args.out}')
    else:
        print(text, end='')
