"""The network of a config, built to be looked at."""

from typing import Any, Dict, Iterator, Optional

from mmengine.registry import init_default_scope
from torch import nn

from asl_det.config.walk import WEIGHTS, is_pretrained, without_weights
from asl_det.errors import DownloadError
from asl_det.files.nested import dicts
from asl_det.preflight.finding import Finding
from asl_det.preflight.run import Run
from asl_det.registry import MODELS

NO_GROUP = 'process group has not been initialized'  # of a layer that wants a launcher, MMSyncBN


def check_model(run: Run) -> Iterator[Finding]:
    """The network can be built."""
    if run.purpose == 'labels' or 'type' not in (run.cfg.get('model') or {}):
        return
    if build_model(run) is not None:
        return
    error = run.memo['model error']
    if run.purpose != 'check' and _asks_for_weights(run.cfg.model):
        return  # a class of the user's may need what was left out here
    yield Finding('model', f'{run.config}: model', 'can not be built: '
                  f'{" ".join(str(error).split()) or type(error).__name__}',
                  error=not (isinstance(error, DownloadError) or NO_GROUP in str(error)))


def build_model(run: Run) -> Optional[nn.Module]:
    """The network without its pretrained weights, built once; None if that fails."""
    if 'model' not in run.memo:
        init_default_scope(run.cfg.get('default_scope') or 'mmdet')
        try:
            run.memo['model'] = MODELS.build(without_weights(run.cfg.model))
        except Exception as error:
            run.memo['model'], run.memo['model error'] = None, error
    return run.memo['model']


def build_part(node: Dict[str, Any]) -> Optional[nn.Module]:
    """A part of a network without its weights; None if it can not be built alone."""
    try:
        return MODELS.build(without_weights(node))
    except Exception:
        return None


def _asks_for_weights(node: Any) -> bool:
    """Whether an argument of a class names weights; ``init_cfg`` is read after building."""
    return any(key in WEIGHTS and is_pretrained(key, value)
               for _, part in dicts(node) for key, value in part.items())
