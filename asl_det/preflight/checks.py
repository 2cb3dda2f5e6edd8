"""The list of checks, and how they run: everything is reported at once."""

import os
from dataclasses import replace
from typing import Callable, Iterable, List, Sequence

from asl_det.errors import UserError
from asl_det.preflight.annotations import check_annotations
from asl_det.preflight.cached_features import check_features
from asl_det.preflight.checkpoints import check_checkpoints
from asl_det.preflight.classes import check_classes
from asl_det.preflight.evaluators import check_evaluators
from asl_det.preflight.finding import IGNORE, Finding, Report, collect, guarded
from asl_det.preflight.images import check_images
from asl_det.preflight.input_size import check_input_size
from asl_det.preflight.keys import check_parts, check_top_keys, check_types
from asl_det.preflight.model import check_model
from asl_det.preflight.one_sample import check_samples
from asl_det.preflight.paths import check_data_files, check_outputs
from asl_det.preflight.resume import check_resume, check_schedule
from asl_det.preflight.run import Run
from asl_det.preflight.settings import (
    check_losses,
    check_saved,
    check_seeds,
    check_sizes,
    check_values,
    check_visualizer,
)

Check = Callable[[Run], Iterable[Finding]]

# What a config says by itself; what its data says; the rest.
CONFIG: Sequence[Check] = (check_top_keys, check_types, check_parts, check_seeds, check_sizes,
                           check_losses, check_values, check_visualizer, check_saved,
                           check_schedule)
DATA: Sequence[Check] = (check_data_files, check_annotations, check_evaluators, check_images,
                         check_features)
CHECKS: Sequence[Check] = (*CONFIG, *DATA, check_samples, check_classes, check_model,
                           check_input_size, check_checkpoints, check_resume, check_outputs)


def preflight(run: Run, checks: Sequence[Check] = CHECKS) -> Report:
    """Everything that is wrong with a run, before it starts.

    A check is a generator function ``(run) -> findings``, listed in
    ``CHECKS``. One that fails is an error itself and stops no other. What
    those find that ``$ASL_DET_IGNORE_CHECKS`` names (``check_images,...``)
    keeps no run from starting.
    """
    ignored = _ignored(checks)
    findings = []
    for check in checks:
        name = check.__name__
        found = guarded(name, run.config, check(run))
        findings += (replace(f, error=False) for f in found) if name in ignored else found
    return collect(findings)


def require(run: Run, checks: Sequence[Check] = CHECKS) -> Report:
    """Raise UserError with everything that keeps a run from starting; else what is suspicious."""
    report = preflight(run, checks)
    report.raise_errors()
    return report


def _ignored(checks: Sequence[Check]) -> List[str]:
    names = [name.strip() for name in os.environ.get(IGNORE, '').split(',') if name.strip()]
    known = [check.__name__ for check in (*CHECKS, *checks)]
    unknown = [name for name in names if name not in known]
    if unknown:
        raise UserError(f'{IGNORE}={",".join(names)}: there is no check {unknown[0]}; there are '
                        f'{", ".join(dict.fromkeys(known))}')
    return names
