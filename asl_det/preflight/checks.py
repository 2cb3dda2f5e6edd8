"""The list of checks, and how they run: everything is reported at once."""

import traceback
from typing import Callable, Iterable, Iterator, Sequence

from asl_det.errors import UserError
from asl_det.preflight.finding import Finding, Report, collect
from asl_det.preflight.run import Run

Check = Callable[[Run], Iterable[Finding]]

CHECKS: Sequence[Check] = ()


def preflight(run: Run, checks: Sequence[Check] = CHECKS) -> Report:
    """Everything that is wrong with a run, before it starts.

    A check is a generator function ``(run) -> findings``, listed in
    ``CHECKS``. One that fails is a finding itself and stops no other.
    """
    return collect(finding for check in checks for finding in _guarded(check, run))


def _guarded(check: Check, run: Run) -> Iterator[Finding]:
    try:
        yield from check(run)
    except UserError as error:
        yield Finding(check.__name__, run.config, str(error))
    except Exception as error:
        at = traceback.extract_tb(error.__traceback__)[-1]
        yield Finding('check failed', run.config,
                      f'{check.__name__} could not look at it ({type(error).__name__}: {error}, '
                      f'{at.filename}:{at.lineno})', error=False)
