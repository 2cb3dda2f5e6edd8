import signal
from typing import Any, Optional


class UserError(ValueError):
    """A mistake in the input, explained in one line: what came, what to do."""


class OutputError(OSError, UserError):
    """A file that can not be written: ``OutputError(errno, strerror, filename)``."""

    def __str__(self) -> str:
        return (f'{self.filename} can not be written ({self.strerror}): make room or give the '
                'rights, or give another place')


class MissingError(FileNotFoundError, UserError):
    """A file that is asked for and not there."""


class DownloadError(ConnectionError, UserError):
    """What can not be fetched."""


class Stopped(KeyboardInterrupt):
    """A signal has ended a training between two steps.

    Args:
        number: of the signal.
        iteration: how many the training has behind it.
        checkpoint: where its state was saved; None if the config asks for no
            CheckpointHook of mmengine.

    Attributes:
        status: exit status of a process that such a signal ends, 128 + number.
    """

    def __init__(self, number: int, iteration: int, checkpoint: Optional[str]) -> None:
        super().__init__(number, iteration, checkpoint)
        self.status = 128 + number
        self.checkpoint = checkpoint
        self.name = signal.Signals(number).name
        self.iteration = iteration

    def __str__(self) -> str:
        where = f'stopped by {self.name} after iteration {self.iteration}'
        if self.checkpoint is None:
            return (f'{where}: nothing is saved, because the config has no CheckpointHook of '
                    'mmengine')
        return (f'{where}, which {self.checkpoint} holds: the same command with --resume goes on '
                'from there')


class PreflightError(UserError):
    """Several mistakes that were found before a run started, each in a line of its own."""


MOST_SEED = 2**32 - 1  # numpy's


def check_seed(seed: Any, name: str = 'seed') -> None:
    """Raise UserError for what is no seed of every generator: a whole number up to 2**32 - 1."""
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed <= MOST_SEED:
        raise UserError(f'{name} {seed!r}: expected a whole number from 0 to {MOST_SEED}')
