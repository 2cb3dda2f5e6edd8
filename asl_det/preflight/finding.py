"""One thing that is wrong, said so that it can be mended; and all of them, together."""

import traceback
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Dict, Iterable, Iterator, List, Optional, Sequence, Tuple

import numpy as np
from rich.console import Console

from asl_det.errors import PreflightError, UserError

Box = Tuple[float, float, float, float]
SHOWN = 3  # findings of one rule and file; the rest is counted
IGNORE = 'ASL_DET_IGNORE_CHECKS'  # names of checks whose errors keep no run from starting


@dataclass(frozen=True)
class Finding:
    """One line: where, what came, what was expected, what to do.

    Attributes:
        rule: short name of the check, the same for all findings that repeat
            ('box without area').
        where: file with position, or dotted key of the config.
        message: what came, what was expected, what to do.
        error: whether the run can not start; otherwise a warning.
        images: image files that show it, for ``asl-det check --show``.
        boxes: x, y, width and height in pixels of the box that is meant in
            each of them, as the annotations have it; empty where none is.
    """

    rule: str
    where: str
    message: str
    error: bool = True
    images: Tuple[str, ...] = ()
    boxes: Tuple[Box, ...] = ()

    def __str__(self) -> str:
        return f'{"error" if self.error else "warning"}: {self.where}: {self.message}'


@dataclass
class Known:
    """What a COCO json holds, as metrics read it: files by image id, and classes in its order."""

    images: Dict[Any, str]
    classes: List[str]


@dataclass
class Contents:
    """What was read from the annotations of one data set, and what is wrong with it.

    Attributes:
        findings: in the order of the file.
        images: files as they are opened, folder included.
        sizes: width and height of the images as the file states them,
            ``(N, 2)`` float64, NaN where it does not; None where boxes do not
            depend on it.
        classes: names in the order of the labels.
        counts: objects (or images) of each class that a training would use;
            None where it is not known.
        known: what a COCO json holds in all.
        ids: of these the images that the data set yields, by id.
        masks: what is wrong with the masks, for runs that use them.
        few: a few of the images with their annotations: the content of a
            smaller annotation file (a dict of COCO json, a list of names) or
            a data set; None where there is none.
    """

    findings: List[Finding] = field(default_factory=list)
    images: Sequence[str] = ()
    sizes: Optional[np.ndarray] = None
    classes: Tuple[str, ...] = ()
    counts: Optional[np.ndarray] = None
    known: Optional[Known] = None
    ids: Optional[Dict[Any, str]] = None
    masks: Sequence[Finding] = ()
    few: Any = None


@dataclass
class Report:
    """What all checks found, printed with repetitions counted."""

    findings: List[Finding] = field(default_factory=list)

    @property
    def errors(self) -> List[Finding]:
        return [f for f in self.findings if f.error]

    @property
    def warnings(self) -> List[Finding]:
        return [f for f in self.findings if not f.error]

    def lines(self) -> List[str]:
        """Errors first; of each rule and file the first few, and how many more there are."""
        result, seen = [], Counter()
        repeated = Counter(_group(f) for f in self.findings)
        for finding in self.errors + self.warnings:
            group = _group(finding)
            seen[group] += 1
            if seen[group] <= SHOWN:
                result.append(str(finding))
            if seen[group] == repeated[group] > SHOWN:
                result.append(f'  ... {repeated[group] - SHOWN} more: {finding.rule}')
        return result

    def show(self, console: Console) -> None:
        for line in self.lines():
            style = {'e': 'red', 'w': 'yellow'}.get(line[0])
            console.print(line, style=style, highlight=False, markup=False, emoji=False,
                          soft_wrap=True)

    def raise_errors(self) -> None:
        """Raise PreflightError with every error, if there is one."""
        if self.errors:
            first, *others = [line for line in self.lines() if not line.startswith('warning')]
            raise PreflightError('\n'.join([first.removeprefix('error: '), *others]))


def _group(finding: Finding) -> Tuple[Any, ...]:
    return finding.rule, finding.error, finding.where.split(':')[0]


def guarded(check: str, where: str, findings: Iterable[Finding]) -> Iterator[Finding]:
    """The findings of a check, and as the last one that it failed.

    Args:
        check: its name.
        where: what it looked at.
        findings: its own.
    """
    try:
        yield from findings
    except UserError as error:
        yield Finding(check, where, str(error))
    except Exception as error:
        at = traceback.extract_tb(error.__traceback__)[-1]
        yield Finding('check failed', where, f'{check} could not look at it '
                      f'({type(error).__name__}: {error}, {at.filename}:{at.lineno}): mend it, or '
                      f'go on without this check, {IGNORE}={check}')


def collect(findings: Iterable[Finding]) -> Report:
    """Everything at once: the checks are generators, and none stops another."""
    return Report(list(findings))
