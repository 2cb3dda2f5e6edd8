"""Gradients that a training holds between two steps: part of its state."""

from typing import Any, Dict, List

import torch
from mmengine.dist import all_gather, all_gather_object, get_rank, get_world_size
from mmengine.hooks import Hook
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.runner import Runner
from torch import Tensor, nn

from asl_det.losses import AdaptiveGamma
from asl_det.registry import HOOKS, register


def optim_wrappers(optim_wrapper: Any) -> List[Any]:
    """Every wrapper of a training, which may have several optimizers."""
    several = isinstance(optim_wrapper, OptimWrapperDict)
    return list(optim_wrapper.values()) if several else [optim_wrapper]


def counts(optim_wrapper: Any) -> List[int]:
    """How many gradients every wrapper has had; mmengine restores that of a single one alone."""
    return [w.inner_count for w in optim_wrappers(optim_wrapper) if isinstance(w, OptimWrapper)]


def set_counts(optim_wrapper: Any, saved: List[int]) -> None:
    ours = [w for w in optim_wrappers(optim_wrapper) if isinstance(w, OptimWrapper)]
    if len(ours) == len(saved):
        for wrapper, count in zip(ours, saved, strict=True):
            wrapper._inner_count = count


def may_hold_gradients(optim_wrapper: Any) -> bool:
    """Whether there may be gradients that no step has used; the same in all processes.

    One of several optimizers leaves those of its loss in the parameters of the others.
    """
    wrappers = optim_wrappers(optim_wrapper)
    return len(wrappers) > 1 or any(
        isinstance(w, OptimWrapper) and not w.should_update() for w in wrappers)


def accumulated(model: nn.Module, alone: bool) -> List[Dict[str, Dict[str, Tensor]]]:
    """Gradients, and what an adaptive loss has counted, of every process, on the CPU.

    Args:
        model: without its wrapper. Several processes gather one gradient
            after the other: no device holds more than one of all processes.
        alone: of this process only.
    """
    own = dict(gradients={name: p.grad for name, p in model.named_parameters()
                          if p.grad is not None},
               counted={name: m.counted for name, m in model.named_modules()
                        if isinstance(m, AdaptiveGamma)})
    if alone or get_world_size() == 1:
        return [{kind: {name: t.detach().cpu() for name, t in tensors.items()}
                 for kind, tensors in own.items()}]
    named: List[List[str]] = all_gather_object(list(own['gradients']))
    result: List[Dict[str, Dict[str, Tensor]]] = [dict(gradients={}, counted={}) for _ in named]
    parameters = dict(model.named_parameters())
    for kind, names in (('gradients', sorted(set().union(*named))), ('counted', own['counted'])):
        for name in names:
            mine = own[kind].get(name)
            mine = torch.zeros_like(parameters[name]) if mine is None else mine
            for rank, tensor in enumerate(all_gather(mine.detach().contiguous())):
                if kind == 'counted' or name in named[rank]:
                    result[rank][kind][name] = tensor.cpu()
    return result


def set_accumulated(model: nn.Module, saved: List[Dict[str, Dict[str, Tensor]]]) -> None:
    """Go on where :func:`accumulated` was called; other processes than then get the mean."""
    if len(saved) == get_world_size():
        saved = [saved[get_rank()]]
    modules, parameters = dict(model.named_modules()), dict(model.named_parameters())
    for name in set().union(*(one['gradients'] for one in saved)):
        if name in parameters:
            found = [one['gradients'][name] for one in saved if name in one['gradients']]
            p = parameters[name]
            p.grad = (sum(found[1:], found[0]) / len(saved)).to(p.device, p.dtype)
    for name in saved[0]['counted']:
        if isinstance(modules.get(name), AdaptiveGamma):
            modules[name].counted = sum(one['counted'][name] for one in saved) / len(saved)


@register(HOOKS)
class AdaptiveGammaHook(Hook):
    """Adaptive losses of the model follow the optimizers of the training, in all processes alike.

    The engine adds it. A training of several processes that is started by
    other means (mmdet's own ``tools/train.py``) names it in ``default_hooks``.
    """

    def before_train(self, runner: Runner) -> None:
        for module in runner.model.modules():
            if isinstance(module, AdaptiveGamma):
                for wrapper in optim_wrappers(runner.optim_wrapper):
                    module.follow(wrapper.optimizer)
