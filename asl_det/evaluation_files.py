"""Where the metrics of a test write detections and scores."""

import inspect
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional

from mmengine.config import Config
from mmengine.evaluator import DumpResults
from mmengine.runner import Runner

from asl_det.preflight.walk import lookup
from asl_det.registry import METRICS

ARGUMENT = 'outfile_prefix'


def ask_for_files(cfg: Config, out: Path) -> List[Optional[str]]:
    """Have every metric of a test that can write files do so beside ``out``.

    Args:
        cfg: its ``test_evaluator`` is changed.
        out: json file of the metrics; ``results.json`` gives the files of a
            single metric names that begin with ``results``, those of several
            ``results.1``, ``results.2``, ...

    Returns:
        The beginning of the names for each metric; None where it writes none.
    """
    nodes = list(_metrics(cfg.get('test_evaluator')))
    able = [any(ARGUMENT in _arguments(parent) for parent in inspect.getmro(_class(node)))
            for node in nodes]
    prefix, several = str(out.with_suffix('')), sum(able) > 1
    prefixes: List[Optional[str]] = []
    for number, node in enumerate(nodes):
        place = f'{prefix}.{sum(able[:number + 1])}' if several else prefix
        prefixes.append(place if able[number] else None)
        # A child may hand it on, or fix the arguments of its parent.
        if able[number] and _takes(_class(node)):
            node[ARGUMENT] = place
    return prefixes


def set_files(runner: Runner, prefixes: List[Optional[str]], out: Path) -> None:
    """Do the same for what could not be said in the config, and log what writes nothing."""
    for metric, prefix in zip(runner.test_evaluator.metrics, prefixes, strict=True):
        name = type(metric).__name__
        if prefix is not None and getattr(metric, ARGUMENT, '') is None:
            setattr(metric, ARGUMENT, prefix)
        if prefix is None and not isinstance(metric, DumpResults):
            runner.logger.warning(f'{name} can write no detections or scores (it has no '
                                  f'{ARGUMENT}): {out} gets its metrics alone')
        elif len(set(prefixes) - {None}) > 1 and prefix is not None:
            runner.logger.info(f'{name} writes {prefix}.*')


def _metrics(node: Any) -> Iterator[Dict[str, Any]]:
    """The configs of metrics, in the order in which they are built."""
    if isinstance(node, dict):
        yield from _metrics(node['metrics']) if 'metrics' in node else [node]
    elif isinstance(node, (list, tuple)):
        for item in node:
            yield from _metrics(item)
    elif node is not None:  # built already
        yield from (dict(type=type(metric)) for metric in getattr(node, 'metrics', [node]))


def _class(node: Dict[str, Any]) -> type:
    kind = lookup(METRICS, node) if node.get('type') else None
    return kind if inspect.isclass(kind) else object


def _arguments(kind: type) -> Dict[str, inspect.Parameter]:
    return dict(inspect.signature(kind.__init__).parameters) if '__init__' in vars(kind) else {}


def _takes(kind: type) -> bool:
    """Whether a call with the argument does not fail, as far as signatures say."""
    for parent in inspect.getmro(kind):
        arguments = _arguments(parent)
        if ARGUMENT in arguments:
            return True
        if arguments and all(a.kind != a.VAR_KEYWORD for a in arguments.values()):
            return False
    return False
