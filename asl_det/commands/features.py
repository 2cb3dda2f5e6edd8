"""Compute the features of a config's frozen backbone once, to train on them many times.

    asl-det data features CONFIG data/features
"""

import argparse

from asl_det.commands.command_line import add_config, config_options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config(parser)
    parser.add_argument('folder', metavar='DIR', help='where the features go')


def run(args: argparse.Namespace) -> None:
    from mmengine.registry import init_default_scope

    from asl_det.engine import load_config
    from asl_det.files.whole import require_output
    from asl_det.multilabel.features import cache_features
    from asl_det.preflight.checks import CONFIG, DATA, require
    from asl_det.preflight.run import Run

    require_output(args.folder, folder=True)
    cfg = load_config(args.config, config_options(args))
    init_default_scope(cfg.get('default_scope', 'mmdet'))
    require(Run(cfg, args.config, 'train'), [*CONFIG, *DATA])
    new = cache_features(cfg, args.folder)
    print(f'{new} images, features in {args.folder}')
