"""The network of a config, built to be looked at."""

import copy
from typing import Any, Dict, Iterator, Optional

from mmengine.registry import init_default_scope
from torch import nn

from asl_det.errors import DownloadError
from asl_det.preflight.finding import Finding
from asl_det.preflight.run import Run
from asl_det.registry import MODELS, is_type

NO_GROUP = 'process group has not been initialized'  # of a layer that wants a launcher, MMSyncBN
NOT_LOADED = ('checkpoint', 'pretrained', 'weights')


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


def without_weights(node: Any) -> Any:
    """A copy of a config of a network that loads no checkpoint."""
    if isinstance(node, dict):
        kept = {k: without_weights(v) for k, v in node.items() if not is_pretrained(k, v)}
        return type(node)(kept)
    if isinstance(node, (list, tuple)):
        return type(node)(without_weights(v) for v in node)
    return copy.deepcopy(node)


def is_pretrained(key: str, value: Any) -> bool:
    """Whether a key of a network's config names weights that it loads."""
    if key == 'init_cfg':
        return is_type(value, 'Pretrained', 'PretrainedInit')
    # torchvision's weights are a name
    return key in NOT_LOADED and isinstance(value, (str, bool))


def _asks_for_weights(node: Any) -> bool:
    """Whether an argument of a class names weights; ``init_cfg`` is read after building."""
    if isinstance(node, dict):
        return any(k in NOT_LOADED and is_pretrained(k, v) or _asks_for_weights(v)
                   for k, v in node.items())
    return isinstance(node, (list, tuple)) and any(map(_asks_for_weights, node))
