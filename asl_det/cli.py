"""What the commands in tools/ share: the arguments of a run, and errors as one line."""

import argparse
import functools
import os
import re
import sys
import warnings
from typing import Callable

from mmengine.config import DictAction

from asl_det.errors import UserError

# mmengine 0.10 uses pkg_resources; its warning is not for our users to act on.
warnings.filterwarnings('ignore', message='pkg_resources is deprecated')


def run_parser(description: str) -> argparse.ArgumentParser:
    """A parser with the arguments of every command that runs a config."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument('config', help='config file, or mmdet::folder/name.py')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, metavar='KEY=VALUE',
                        help='override values of the config, e.g. train_dataloader.batch_size=8')
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none')
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0,
                        help=argparse.SUPPRESS)  # given by older torch launchers
    return parser


def parse_run_args(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """Parse the command line, and tell mmengine the rank that a launcher gave."""
    args = parser.parse_args()
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    return args


def one_line_errors(main: Callable[[], None]) -> Callable[[], None]:
    """End ``main`` with one line, not a traceback, for mistakes in its input."""

    @functools.wraps(main)
    def run() -> None:
        try:
            main()
        except (UserError, FileNotFoundError, ConnectionError, AssertionError) as error:
            message = _explain(error)
            if message is None:
                raise
            sys.exit(f'error: {message}')
        except KeyboardInterrupt:
            sys.exit('interrupted: --resume continues a training from its last checkpoint')

    return run


def _explain(error: BaseException) -> object:
    """One line for ``error``, or None if it is a defect that needs its traceback."""
    # A DataLoader worker hands its error over as text, the message in the last line.
    last = str(error).strip().split('\n')[-1]
    if isinstance(error, (UserError, ConnectionError)):
        return last.split('Error: ', 1)[-1]
    broken = re.search(r'failed to load image: (\S+)', last)
    if broken:
        return (f'image {broken.group(1)} can not be decoded: replace the file, or remove its '
                'entry from the annotation file')
    if isinstance(error, AssertionError):
        return None
    missing = re.search(r"No such file or directory: '?([^']+)'?", last)
    if missing:
        return (f'{missing.group(1)} does not exist: check the data_root, data_prefix and '
                'ann_file of the config, or restore the file')
    return last
