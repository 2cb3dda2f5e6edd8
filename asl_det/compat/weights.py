"""Weights from a checkpoint into a network, all or those that fit, and a word on the rest."""

import hashlib
import os
from typing import Any, Dict, Iterable, List, Mapping

import torch
from mmengine.logging import print_log
from mmengine.model import BaseTTAModel, is_model_wrapper
from torch import Tensor, nn

from asl_det.errors import UserError

COUNTER = 'num_batches_tracked'


def unwrap(model: nn.Module) -> nn.Module:
    """The network itself, in a wrapper for several GPUs or for test-time augmentation."""
    while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
        model = model.module
    return model


def require_checkpoint(path: str) -> None:
    """Raise UserError if a local checkpoint is not there; URLs are left to mmengine."""
    if '://' not in path and not os.path.exists(os.path.expanduser(path)):
        raise UserError(f'checkpoint {path} does not exist: train one with '
                        'asl-det train CONFIG, which writes to work_dirs/')


def weights_of(checkpoint: Any, source: str) -> Dict[str, Tensor]:
    """The state dict in the content of a checkpoint file.

    Args:
        checkpoint: mmengine's form (``state_dict``), that of the official
            ASL files and of DeiT (``model``), or a state dict itself.
        source: its name, for errors.

    Raises:
        UserError: if there are no weights in it, or one is NaN.
    """
    found = checkpoint
    for key in ('state_dict', 'model'):
        if isinstance(found, dict) and isinstance(found.get(key), dict):
            found = found[key]
    if not isinstance(found, dict) or not any(isinstance(v, Tensor) for v in found.values()):
        raise UserError(f'checkpoint {source} holds no weights but {_describe(found)}: expected a '
                        "state dict, alone or under 'state_dict' or 'model'")
    for name in [k for k in found if k.startswith('module.')]:
        found[name.removeprefix('module.')] = found.pop(name)  # in place: torch's versions stay
    broken = [k for k, v in found.items() if isinstance(v, Tensor) and v.is_floating_point()
              and bool(v.isnan().any())]
    if broken:
        raise UserError(f'checkpoint {source} has weights that are NaN ({_short(broken, 3)}): the '
                        'training that wrote it had diverged; give an earlier one')
    return found


def _describe(content: Any) -> str:
    if isinstance(content, Tensor):
        return f'a tensor {tuple(content.shape)}'
    if isinstance(content, dict) and 'param_groups' in content:
        return 'the state of an optimizer'
    if isinstance(content, dict):
        return f'a dict of {_short(map(str, content), 4) or "nothing"}'
    return f'a {type(content).__name__}'


def load_weights(model: nn.Module, weights: Dict[str, Tensor], source: str, *, take: str,
                 hint: str, not_used: Iterable[str] = (), quiet: bool = False) -> Dict[str, Tensor]:
    """Load weights by name and say what was loaded.

    Args:
        model: the network, or a wrapper of it.
        weights: its state dict; names that older versions of the network had
            are converted by the network itself.
        source: where they come from, for errors and the log.
        take: 'all' weights of the network, no more and no less; its 'body',
            where heads keep initial values if they do not fit; or 'any',
            whatever fits.
        hint: what to do if they do not fit.
        not_used: what the caller left out, for the log.
        quiet: say nothing in the log.

    Returns:
        The weights that fit.

    Raises:
        UserError: if they do not fit; for 'any' if none of the body does.
    """
    model = unwrap(model)
    own = model.state_dict()
    misfits = [k for k in weights if k in own and own[k].shape != weights[k].shape]
    shapes = [f'{k} {tuple(weights[k].shape)} instead of {tuple(own[k].shape)}' for k in misfits]
    for name in misfits:
        del weights[name]
    missing, left_over = model.load_state_dict(weights, strict=False)
    missing = [k for k in missing if k not in misfits]
    told = '; '.join(f'{what}: {_short(names)}' for what, names in (
        ('missing', missing), ('of another shape', shapes), ('left over', left_over)) if names)
    wanted = {k for k in own if not k.endswith(COUNTER)}  # torch counts from 0 without a word
    loaded = f'{len(wanted.difference(missing, misfits))} of {len(wanted)} weights'
    name = type(model).__name__
    body = {k for k in wanted if 'head.' not in k} or wanted  # a head's bias always fits
    lost = body.intersection([*missing, *misfits])
    if body == lost or (told and take == 'all') or (lost and take == 'body'):
        raise UserError(f'checkpoint {source} does not fit {name}, {loaded} would be loaded; '
                        f'{told}: {hint}')
    rest = f'; keep their initial values: {_short(missing + shapes)}' if missing + shapes else ''
    unused = [*left_over, *not_used]
    rest += f'; not used: {_short(unused)}' if unused else ''
    if not quiet:
        print_log(f'{name}: {loaded} from {source}{rest}', logger='current')
    for key in left_over:
        weights.pop(key, None)
    return weights


def _short(names: Iterable[str], most: int = 8) -> str:
    names: List[str] = list(names)
    return ', '.join(names[:most]) + (f' and {len(names) - most} more' if names[most:] else '')


def hash_weights(weights: Mapping[str, Tensor]) -> str:
    """A hash over the names and values of a state dict."""
    total = hashlib.sha256()
    for name, value in weights.items():
        total.update(name.encode())
        total.update(value.cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return total.hexdigest()[:12]
