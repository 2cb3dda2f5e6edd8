"""The list of checks, and how they run: everything is reported at once."""

import traceback
from typing import Callable, Iterable, Iterator, Sequence

from asl_det.errors import UserError
from asl_det.preflight.annotations import check_annotations
from asl_det.preflight.checkpoints import check_checkpoints
from asl_det.preflight.classes import check_classes
from asl_det.preflight.features import check_features
from asl_det.preflight.finding import Finding, Report, collect
from asl_det.preflight.images import check_images
from asl_det.preflight.keys import check_parts, check_top_keys
from asl_det.preflight.model import check_model
from asl_det.preflight.places import check_data_files, check_outputs
from asl_det.preflight.resume import check_resume, check_schedule
from asl_det.preflight.run import Run
from asl_det.preflight.settings import check_losses, check_saved, check_sizes, check_values

Check = Callable[[Run], Iterable[Finding]]

# What a config says by itself; what its data says; the rest.
CONFIG: Sequence[Check] = (check_top_keys, check_parts, check_sizes, check_losses, check_values,
                           check_saved, check_schedule)
DATA: Sequence[Check] = (check_data_files, check_annotations, check_images, check_features)
CHECKS: Sequence[Check] = (*CONFIG, *DATA, check_classes, check_model, check_checkpoints,
                           check_resume, check_outputs)


def preflight(run: Run, checks: Sequence[Check] = CHECKS) -> Report:
    """Everything that is wrong with a run, before it starts.

    A check is a generator function ``(run) -> findings``, listed in
    ``CHECKS``. One that fails is a finding itself and stops no other.
    """
    return collect(finding for check in checks for finding in _guarded(check, run))


def require(run: Run, checks: Sequence[Check] = CHECKS) -> Report:
    """Raise UserError with everything that keeps a run from starting; else what is suspicious."""
    report = preflight(run, checks)
    report.raise_errors()
    return report


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
