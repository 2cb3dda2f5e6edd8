"""What the commands in tools/ share: the arguments of a run, and errors as one line."""

import argparse
import errno
import functools
import os
import re
import signal
import sys
import warnings
from typing import Any, Callable, Dict, Optional

from mmengine.config import DictAction
from mmengine.dist import is_main_process

from asl_det.detection import KINDS
from asl_det.errors import PreflightError, Stopped, UserError

# mmengine 0.10 uses pkg_resources; its warning is not for our users to act on.
warnings.filterwarnings('ignore', message='pkg_resources is deprecated')


# Flags that are options of a config, and their names among its options.
FLAGS = {'data_root': 'data_root', 'classes': 'classes', 'epochs': 'max_epochs', 'lr': 'lr',
         'loss': 'loss', 'loss_options': 'loss_options', 'loss_where': 'loss_where'}


def run_parser(description: str) -> argparse.ArgumentParser:
    """A parser with the arguments of every command that runs a config."""
    parser = argparse.ArgumentParser(description=description)
    add_config_arguments(parser)
    add_num_classes(parser)
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none')
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0,
                        help=argparse.SUPPRESS)  # given by older torch launchers
    return parser


def add_config_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments that name a config and change its values: see :func:`config_options`."""
    parser.add_argument('config', help='config file, or mmdet::folder/name.py')
    parser.add_argument('--data-root', metavar='FOLDER',
                        help='where the data is, for all data sets and evaluators of the config')
    parser.add_argument('--classes', nargs='+', metavar='NAME',
                        help='names of the classes as the annotations have them, for all data '
                        'sets; the heads of the model get as many')
    parser.add_argument('--cfg-options', nargs='+', action=ReadOptions, metavar='KEY=VALUE',
                        help='override values of the config, e.g. train_dataloader.batch_size=8; '
                        'what nothing would read is refused')
    parser.add_argument('--loss', metavar='asl|asl-adaptive|focal|bce|NAME',
                        help='put this loss in the place of the classification losses')
    parser.add_argument('--loss-options', nargs='+', action=ReadOptions, metavar='KEY=VALUE',
                        help='of --loss: its arguments, prior (where classes start), margin_rise '
                        '(share of the training in which the margin rises from 0)')
    parser.add_argument('--loss-where', nargs='+', metavar='KIND', help='of --loss: '
                        f'heads of these kinds alone ({", ".join(KINDS)}); default: all but rpn '
                        'and soft')


def add_num_classes(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('--num-classes', metavar='auto|N', help="number of classes of every head; "
                        "auto: that of the data. Where the config gives none it is auto")

# What a disk, its rights or the name of a place is to blame for, wherever it comes up.
DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.ENOTDIR,
        errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP)


class ReadOptions(DictAction):
    """``KEY=VALUE`` as mmengine reads it, but for paths and for mistakes.

    What exists as a file or folder is text, whatever commas, brackets and
    spaces it has.

    Raises:
        UserError: for what has no ``=``, or brackets without their other half.
    """

    def __call__(self, parser: argparse.ArgumentParser, namespace: argparse.Namespace,
                 values: Any, option_string: Optional[str] = None) -> None:
        options = dict(getattr(namespace, self.dest, None) or {})
        for text in values or ():
            key, equals, value = text.partition('=')
            if not equals or not key.strip():
                raise UserError(f'{option_string} {text}: expected KEY=VALUE, without spaces '
                                'around the =')
            if re.search(r'[,\s()\[\]]', value) and os.path.exists(value):
                options[key] = value
                continue
            try:
                options[key] = self._parse_iterable(value)
            except AssertionError as error:
                raise UserError(f'{option_string} {text}: {error}: close every bracket') from error
        setattr(namespace, self.dest, options)


def config_options(args: argparse.Namespace) -> Dict[str, Any]:
    """``--cfg-options``, with the other flags that change a config among them.

    Raises:
        UserError: if one is given in both ways.
    """
    options = dict(args.cfg_options or {})
    for flag, key in FLAGS.items():
        value = getattr(args, flag, None)
        if value is None:
            continue
        if key in options:
            raise UserError(f'--{flag.replace("_", "-")} {value} and --cfg-options '
                            f'{key}={options[key]} say the same: give one of them')
        options[key] = value
    return options


def parse_run_args(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """Parse the command line, and tell mmengine the rank that a launcher gave."""
    args = parser.parse_args()
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    return args


def one_line_errors(main: Callable[[], None]) -> Callable[[], None]:
    """End ``main`` with one line, not a traceback, for the mistakes that this package explains.

    A full disk and missing rights are among them; every other error keeps its traceback.
    """

    @functools.wraps(main)
    def run() -> None:
        for stream in (sys.stdout, sys.stderr):  # a terminal without a letter gets its number
            if hasattr(stream, 'reconfigure'):
                stream.reconfigure(errors='backslashreplace')
        try:
            main()
            sys.stdout.flush()  # here, where a closed pipe can be told
        except UserError as error:
            sys.exit(f'error: {one_line(error)}')
        except BrokenPipeError:  # "| head" has read enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(128 + signal.SIGPIPE)
        except OSError as error:
            if error.errno not in DISK:
                raise
            where = error.filename or 'a file could not be written'
            sys.exit(f'error: {where}: {error.strerror}: make room, give the rights, or give '
                     'another place')
        except Stopped as stop:
            if is_main_process():
                print(stop, file=sys.stderr)
            sys.exit(stop.status)
        except KeyboardInterrupt:
            sys.exit('interrupted: --resume continues a training from its last checkpoint')

    return run


def one_line(error: UserError) -> str:
    """The whole message of an error in one line; of a preflight a line for each mistake."""
    text = str(error)
    if isinstance(error, PreflightError):
        return text
    # A DataLoader worker hands its error over as the text of a traceback, which ends with it.
    kind = type(error)
    if text.startswith(f'Caught {kind.__name__} in '):
        text = text.rpartition(f'\n{kind.__module__}.{kind.__qualname__}: ')[2]
    return ' '.join(line.strip() for line in text.splitlines() if line.strip())
