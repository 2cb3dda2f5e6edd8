"""Compute the features of a config's frozen backbone once, to train on them many times."""

import argparse

from mmengine.registry import init_default_scope

from asl_det.commands.command_line import add_config_arguments, config_options, one_line_errors
from asl_det.engine import load_config
from asl_det.files.whole import require_output
from asl_det.multilabel.features import cache_features
from asl_det.preflight.checks import CONFIG, DATA, require
from asl_det.preflight.run import Run


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    add_config_arguments(parser)
    parser.add_argument('folder', help='where the features go')
    return parser.parse_args()


@one_line_errors
def main() -> None:
    args = parse_args()
    require_output(args.folder, folder=True)
    cfg = load_config(args.config, config_options(args))
    init_default_scope(cfg.get('default_scope', 'mmdet'))
    require(Run(cfg, args.config, 'train'), [*CONFIG, *DATA])
    new = cache_features(cfg, args.folder)
    print(f'{new} images, features in {args.folder}')


if __name__ == '__main__':
    main()
