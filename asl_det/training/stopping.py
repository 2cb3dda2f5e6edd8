"""Signals that ask a training to stop, and what is said of workers that the system killed."""

import os
import re
import signal
import threading
import time
from contextlib import contextmanager
from typing import Any, Iterator, Optional, Sequence

from torch.utils.data._utils.signal_handling import _error_if_any_worker_fails

from asl_det.errors import UserError

STOP = ('SIGINT', 'SIGTERM')
AT_ONCE = 1.0  # seconds after which another signal is no echo of the first by a launcher
KILLED = re.compile(r'DataLoader worker \(pid.*?\) (?:is killed by signal: ([\w ]+)|exited unexp)')


class Signals:
    """Which stop signal has come, if any.

    Attributes:
        number: of the first signal, 0 before.
    """

    def __init__(self) -> None:
        self.number = 0
        self._when = 0.0
        self._process = os.getpid()
        self._child: Any = None  # handler of SIGCHLD before

    def note(self, number: int, frame: Any = None) -> None:
        """Handle a signal: the first is noted, a later one ends the process."""
        if os.getpid() != self._process:
            return  # a DataLoader worker, which a Ctrl-C reaches too
        if not self.number:
            self.number, self._when = number, time.monotonic()
            # A worker that the same signal ended must not break the step: torch's handler raises.
            self._child = signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            name = signal.Signals(number).name
            os.write(2, f'\n{name}: saving a checkpoint after this step and stopping; once more '
                        f'ends it at once, without\n'.encode())
        elif time.monotonic() - self._when > AT_ONCE:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)


@contextmanager
def noted(names: Sequence[str]) -> Iterator[Signals]:
    """Note signals instead of ending, inside the block; only the main thread can.

    Args:
        names: as ``SIGTERM``.

    Raises:
        UserError: for a name that is none of a signal that can be handled.
    """
    numbers = [_number(name) for name in names]
    signals = Signals()
    if threading.current_thread() is not threading.main_thread():
        yield signals
        return
    before = {number: signal.signal(number, signals.note) for number in numbers}
    try:
        yield signals
    finally:
        if signals.number:
            before[signal.SIGCHLD] = signals._child
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


def _number(name: str) -> int:
    number = getattr(signal, name, None)
    if not isinstance(number, signal.Signals) or name in ('SIGKILL', 'SIGSTOP', 'SIGCHLD'):
        raise UserError(f'stop signal {name}: expected the name of a signal that can be handled, '
                        'e.g. SIGUSR1')
    return number


def killed_worker(error: BaseException, loader: str) -> Optional[UserError]:
    """What to do where the system killed a DataLoader worker.

    Args:
        error: what ended the run.
        loader: key of the config whose worker it was.

    Returns:
        An error for the user, or None if it was something else.
    """
    if isinstance(error, (ConnectionError, EOFError, FileNotFoundError)):
        # A batch that could not be fetched from a worker that is going: torch, or its handler of
        # SIGCHLD, says so when the system has noticed.
        try:
            for _ in range(10):
                _error_if_any_worker_fails()
                time.sleep(0.1)
        except RuntimeError as death:
            error = death
    found = KILLED.search(str(error)) if isinstance(error, RuntimeError) else None
    if found is None:
        return None
    how = (found[1] or 'by an unknown signal').strip()
    lower = f'lower {loader}.num_workers (each holds the data set and its batches)'
    if how == 'Bus error':
        return UserError(f'a worker of {loader} ended with a bus error, most likely because the '
                         f'shared memory (/dev/shm) is too small: enlarge it, in a container with '
                         f'--shm-size=8g, or {lower} or {loader}.batch_size')
    return UserError(f'a worker of {loader} was killed ({how}), most likely because the machine '
                     f'ran out of memory: {lower}, {loader}.batch_size, or the size of images')
