"""The command ``asl-det``: which commands there are, and how one of them is run."""

import argparse
import difflib
import importlib
import sys
from types import ModuleType
from typing import Dict, List, Optional, Sequence, Tuple

from asl_det.commands.command_line import (
    Help,
    one_line_errors,
    prepare_run,
    with_new_names,
)
from asl_det.errors import UserError
from asl_det.version import __version__

# Name -> an example of its arguments, and what it does.
COMMANDS: Dict[str, Tuple[str, str]] = {
    'train': ('CONFIG --loss asl', 'train a detector or classifier'),
    'test': ('CONFIG CHECKPOINT', 'measure a checkpoint'),
    'check': ('CONFIG', 'look for mistakes first'),
    'infer': ('CHECKPOINT photos/', 'boxes or labels of pictures'),
    'demo': ('CHECKPOINT', 'try networks on a page'),
    'export': ('CHECKPOINT', 'write a network as ONNX'),
    'thresholds': ('results.scores.npz', 'choose thresholds, calibrate'),
    'convert': ('OFFICIAL.pth NEW.pth', 'official checkpoints of ASL'),
    'sweep': ('CONFIG --losses focal asl --work-dir D', 'compare losses over seeds'),
    'table': ('DIR/sweep.json', 'results of sweeps as a table'),
    'suggest': ('CONFIG', 'advice on gamma and margin'),
    'plot-loss': ('--clip 0.2', 'draw the loss and its gradient'),
    'plot-training': ('DIR DIR', 'draw trainings side by side'),
    'config': ('CONFIG --out my_config.py', 'a config with all its bases'),
    'env': ('', 'versions, path of the loss'),
    'data digits': ('', 'make handwritten digits'),
    'data hide-boxes': ('A.json B.json --share 0.4', 'take a share of the boxes away'),
    'data hold-out': ('A.json REST.json HELD.json', 'split a data set in two'),
    'data complete': ('A.json B.json', 'fill in what mmdet needs'),
    'data features': ('CONFIG DIR', 'compute frozen features once'),
}
WIDTH = 46  # of the examples


@one_line_errors
def main(arguments: Optional[Sequence[str]] = None) -> None:
    """Run a command.

    Args:
        arguments: of the command line, e.g. ``['data', 'digits']``; None for those of this process.
    """
    name, rest = find_command(list(sys.argv[1:] if arguments is None else arguments))
    module = module_of(name)
    args = parser_of(name).parse_args(with_new_names(rest, getattr(module, 'OLD', {})))
    if hasattr(args, 'launcher'):  # it runs a config
        prepare_run(args)
    module.run(args)


def module_of(name: str) -> ModuleType:
    """The module of a command."""
    return importlib.import_module(f'asl_det.commands.{name.split()[-1].replace("-", "_")}')


def parser_of(name: str) -> argparse.ArgumentParser:
    """The arguments of a command."""
    module = module_of(name)
    parser = argparse.ArgumentParser(prog=f'asl-det {name}', description=module.__doc__,
                                     formatter_class=Help)
    module.add_arguments(parser)
    return parser


def find_command(arguments: List[str]) -> Tuple[str, List[str]]:
    """The name of a command and its own arguments; help and version end the process.

    Raises:
        UserError: for a name that is none, with those near it.
    """
    for words in (1, 2):
        if ' '.join(arguments[:words]) in COMMANDS:
            return ' '.join(arguments[:words]), arguments[words:]
    if arguments == ['--version']:
        print(f'asl-det {__version__}')
        sys.exit()
    group = f'{arguments[0]} ' if arguments else ''
    names = [name for name in COMMANDS if name.startswith(group)]
    asked = arguments[1:] if names and group else arguments
    if not asked or asked[0] in ('-h', '--help'):
        print(overview(names or list(COMMANDS)))
        sys.exit()
    given = ' '.join(arguments[:2] if names and group else arguments[:1])
    near = difflib.get_close_matches(given, COMMANDS, n=1, cutoff=0.5)
    raise UserError(f'there is no command asl-det {given}: '
                    + (f'near it: {near[0]}; ' if near else '')
                    + 'asl-det --help lists all')


def overview(names: Sequence[str]) -> str:
    """The commands, each with an example, in a screen of 80 columns."""
    lines = ['usage: asl-det COMMAND ...      help of one: asl-det COMMAND --help', '']
    for name in names:
        example, what = f'{name} {COMMANDS[name][0]}'.rstrip(), COMMANDS[name][1]
        lines += [f'  {example:{WIDTH}}{what}']
    lines += ['', 'CONFIG: a file, or mmdet::folder/name.py, or asl_det::folder/name.py']
    return '\n'.join(lines)
