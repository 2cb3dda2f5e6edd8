"""What the commands share: arguments that several have, and errors as one line."""

import argparse
import errno
import functools
import os
import signal
import sys
import warnings
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple

from asl_det.errors import PreflightError, Stopped, UserError
from asl_det.openmmlab import missing_part, needs

# mmengine 0.10 uses pkg_resources; its warning is not for our users to act on.
warnings.filterwarnings('ignore', message='pkg_resources is deprecated')

# Flags that are options of a config, and their names among its options.
FLAGS = {'data_root': 'data_root', 'classes': 'classes', 'epochs': 'max_epochs', 'lr': 'lr',
         'loss': 'loss', 'loss_options': 'loss_options', 'loss_where': 'loss_where',
         'workers': 'workers', 'image_size': 'image_size', 'val_interval': 'train_cfg.val_interval',
         **{name: name for name in ('train_json', 'train_images', 'val_json', 'val_images')}}
OWN_DATA = {'train': 'train on', 'val': 'validate and test on'}
KEY_VALUES = ('cfg_options', 'loss_options')  # flags of KEY=VALUE texts
# What a disk, its rights or the name of a place is to blame for, wherever it comes up.
DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.ENOTDIR,
        errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP)


class Help(argparse.RawDescriptionHelpFormatter):
    """Help with the default of every option that has one, where the text does not say it."""

    def _get_help_string(self, action: argparse.Action) -> str:
        silent = any(action.default is none for none in (None, False, argparse.SUPPRESS))
        return action.help + ('' if silent or 'default' in action.help
                              else ' (default: %(default)s)')


def add_config(parser: argparse.ArgumentParser) -> None:
    """The arguments that name a config and change its values: see :func:`config_options`."""
    parser.add_argument('config', metavar='CONFIG',
                        help='config file, or mmdet::folder/name.py')
    parser.add_argument('--data-root', metavar='DIR', help='where the data is, for all data sets '
                        'and evaluators of the config (default: as the config says)')
    add_classes(parser, 'as the annotations have them, for all data sets; the heads of the model '
                'get as many', 'as the config says')
    parser.add_argument('--cfg-options', nargs='+', action='extend', metavar='KEY=VALUE',
                        help='values in the place of those of the config, e.g. '
                        'optim_wrapper.optimizer.weight_decay=0; what nothing would read is '
                        'refused (default: none)')
    parser.add_argument('--loss', metavar='asl|asl-adaptive|focal|bce|NAME',
                        help='put this loss in the place of the classification losses (default: '
                        'those of the config stay)')
    parser.add_argument('--loss-options', nargs='+', action='extend', metavar='KEY=VALUE',
                        help='of --loss: its arguments, prior (the probability that all classes '
                        'start at), margin_rise (share of the training in which the margin rises '
                        'from 0) (default: those of the kind of head)')
    parser.add_argument('--loss-where', nargs='+', metavar='KIND', help='of --loss: heads of these '
                        'kinds alone (dense, centerness, detr, roi, rpn, soft, multilabel); '
                        'default: all but rpn and soft')


def add_classes(parser: argparse.ArgumentParser, what: str, default: str) -> None:
    """Read with :func:`read_classes`."""
    parser.add_argument('--classes', nargs='+', metavar='NAME', help='names of the classes '
                        f'{what}: all of them, or a text file with one a line (default: {default})')


def read_classes(names: Optional[Sequence[str]]) -> Optional[Sequence[str]]:
    """The names that ``--classes`` gives, or the file that it names has."""
    if names and len(names) == 1 and os.path.isfile(names[0]):
        from asl_det.files.reading import read_lines
        return read_lines(names[0])
    return names


def add_image_size(parser: argparse.ArgumentParser, what: str, default: str) -> None:
    """Read with :func:`read_image_size`."""
    parser.add_argument('--image-size', type=int, nargs='+', metavar='PX', help=f'{what} in pixels:'
                        f' one number for a square, or height and width (default: {default})')


def read_image_size(sizes: Optional[Sequence[int]],
                    square: bool = False) -> Optional[Tuple[int, int]]:
    """Height and width that ``--image-size`` gives; with ``square`` they must be the same.

    Raises:
        UserError: for other than one or two numbers from 1.
    """
    if sizes is None:
        return None
    if min(sizes) < 1 or len(sizes) > 2 or (square and len(set(sizes)) > 1):
        raise UserError(f'--image-size {" ".join(map(str, sizes))}: expected pixels, one number'
                        + (': here pictures are squares' if square else ', or height and width'))
    return sizes[0], sizes[-1]


def add_num_classes(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('--num-classes', metavar='auto|N', help='number of classes of every head; '
                        'auto: that of the data (default: as the config says, auto where it gives '
                        'none)')


def add_run(parser: argparse.ArgumentParser) -> None:
    """The arguments of a command that runs a config: see :func:`prepare_run`."""
    add_config(parser)
    add_num_classes(parser)
    parser.add_argument('--work-dir', metavar='DIR', help='folder of the run (default: '
                        'work_dirs/<name of the config>)')
    add_device(parser)
    add_batch_size(parser, 'pictures that a process computes together', None)
    parser.add_argument('--workers', type=int, metavar='N', help='processes that load pictures, '
                        'for each data set (default: as the config says)')
    add_image_size(parser, 'of what the pipelines resize to', 'as the config says')
    parser.add_argument('--verbose', action='store_true', help='show the whole log on the screen, '
                        'as it is in the file')
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none',
                        help='what started the processes of this run, where it has several')
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0,
                        help=argparse.SUPPRESS)  # given by older torch launchers


def add_threshold(parser: argparse.ArgumentParser, what: str, default: str) -> None:
    parser.add_argument('--threshold', metavar='T|FILE', help=f'{what}: a number, or the file that '
                        f'asl-det thresholds wrote (default: {default})')


def add_batch_size(parser: argparse.ArgumentParser, what: str, default: Optional[int]) -> None:
    parser.add_argument('--batch-size', type=int, default=default, metavar='N',
                        help=what + (' (default: as the config says)' if default is None else ''))


def add_own_data(parser: argparse.ArgumentParser, *splits: str) -> None:
    """Annotations and images of the user in the place of those of the config."""
    for split in splits or OWN_DATA:
        parser.add_argument(f'--{split}-json', metavar='FILE', help=f'COCO json to '
                            f'{OWN_DATA[split]}, whose classes the network gets (default: as the '
                            'config says)')
        parser.add_argument(f'--{split}-images', metavar='DIR', help='folder of the images of '
                            f'--{split}-json (default: as the config says)')


def add_device(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('--device', metavar='NAME',
                        help='cpu, cuda or cuda:1 (default: a GPU if there is one)')


def add_seed(parser: argparse.ArgumentParser, what: str) -> None:
    parser.add_argument('--seed', type=int, default=0, help=f'of {what}')


def add_metrics(parser: argparse.ArgumentParser, what: str) -> None:
    parser.add_argument('--metrics', nargs='+', metavar='PATTERN',
                        help=f'{what} (default: mAP and its parts, and seconds of a step)')


def add_overwrite(parser: argparse.ArgumentParser, what: str) -> None:
    parser.add_argument('--overwrite', action='store_true', help=what)


def prepare_run(args: argparse.Namespace) -> None:
    """Tell mmengine the rank that a launcher gave, and torch the GPU; before they are imported.

    mmengine takes the first GPU that torch sees, if it sees one.

    Raises:
        UserError: for a device that is none, or a process each of several.
    """
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    if args.device in (None, 'cuda'):
        return
    kind, _, index = args.device.partition(':')
    seen = [gpu for gpu in os.environ.get('CUDA_VISIBLE_DEVICES', '').split(',') if gpu]
    if args.device != 'cpu' and (kind != 'cuda' or not index.isdigit()
                                 or int(index) >= len(seen or range(128))):
        raise UserError(f'--device {args.device}: expected cpu, cuda or cuda:N'
                        + (f' with N under {len(seen)}, as CUDA_VISIBLE_DEVICES={",".join(seen)}'
                           if seen and kind == 'cuda' else ''))
    if args.launcher != 'none' and args.device != 'cpu':
        raise UserError(f'--device {args.device} with --launcher {args.launcher}: each process has '
                        'a GPU of its own, set CUDA_VISIBLE_DEVICES')
    os.environ['CUDA_VISIBLE_DEVICES'] = \
        '' if args.device == 'cpu' else (seen or [*map(str, range(128))])[int(index)]


def split_config(arguments: Sequence[str]) -> Tuple[Optional[str], List[str]]:
    """``[CONFIG] CHECKPOINT ...`` as the config, or None, and the rest."""
    if arguments and (arguments[0].endswith('.py') or '::' in arguments[0]):
        return arguments[0], list(arguments[1:])
    return None, list(arguments)


def with_new_names(arguments: Sequence[str], old: Mapping[str, str]) -> List[str]:
    """Arguments with the names that options have now; a line on stderr for each old one.

    Args:
        arguments: of a command.
        old: name that an option had -> the one it has.
    """
    renamed = []
    for text in arguments:
        name, equals, value = text.partition('=')
        if name in old:
            print(f'{name} is called {old[name]} now; the old name goes with the next release',
                  file=sys.stderr)
            name = old[name]
        renamed.append(name + equals + value)
    return renamed


def config_options(args: argparse.Namespace, **flags: str) -> Dict[str, Any]:
    """``--cfg-options``, with the other flags that change a config among them.

    Args:
        args: of the command line.
        flags: more of them than :data:`FLAGS`, with their names among the options of a config.

    Raises:
        UserError: if one is given in both ways, or is no KEY=VALUE.
    """
    from asl_det.config.key_values import read_key_values
    given = {name: read_key_values(f'--{name.replace("_", "-")}', getattr(args, name, None) or ())
             for name in KEY_VALUES}
    given['classes'] = read_classes(getattr(args, 'classes', None))
    given['image_size'] = read_image_size(getattr(args, 'image_size', None))
    options = given['cfg_options']
    for flag, key in {**FLAGS, **flags}.items():
        value = given.get(flag) or getattr(args, flag, None)
        if value is None:
            continue
        if key in options:
            raise UserError(f'--{flag.replace("_", "-")} {value} and --cfg-options '
                            f'{key}={options[key]} say the same: give one of them')
        options[key] = value
    return options


def one_line_errors(main: Callable[..., None]) -> Callable[..., None]:
    """End ``main`` with one line, not a traceback, for the mistakes that this package explains.

    A full disk and missing rights are among them; every other error keeps its traceback.
    """

    @functools.wraps(main)
    def run(*args: Any) -> None:
        for stream in (sys.stdout, sys.stderr):  # a terminal without a letter gets its number
            if hasattr(stream, 'reconfigure'):
                stream.reconfigure(errors='backslashreplace')
        try:
            main(*args)
            sys.stdout.flush()  # here, where a closed pipe can be told
        except UserError as error:
            sys.exit(f'error: {one_line(error)}')
        except ImportError:
            missing = missing_part()
            if missing is None:
                raise
            sys.exit('error: ' + needs('this command', missing))
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
            from mmengine.dist import is_main_process
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
