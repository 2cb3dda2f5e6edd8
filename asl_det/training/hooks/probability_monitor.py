import inspect
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence

import torch
from mmengine.device import get_device
from mmengine.dist import all_reduce, is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor, nn

from asl_det.compat.weights import unwrap
from asl_det.errors import UserError
from asl_det.files.records import PROBABILITIES, append_record
from asl_det.losses.backends.eager import CHUNK, entry_statistics
from asl_det.losses.targets import dense_targets, fit_target, fit_weight
from asl_det.losses.types import sum_dtype
from asl_det.registry import HOOKS, register
from asl_det.training.hooks.safe_logger import surviving


@register(HOOKS)
class ProbabilityMonitorHook(Hook):
    """Records what a classification loss does to positives and negatives.

    Every ``interval`` iterations, over all calls of the classification losses
    (one a level in detectors), all processes together. A classification loss
    is a module with the attribute ``use_sigmoid``, which mmdet's heads read.

    ==================  ====================================================
    ``prob_pos``        mean probability of positives
    ``prob_neg``        mean probability of negatives
    ``delta_p``         ``prob_pos - (1 - prob_neg)``
    ``under_margin``    share of negatives at or under the margin (losses
                        with ``clip``)
    ``grad_pos``        share of positives in the summed absolute gradient
                        of the logits
    ``gamma_neg``       where the loss has one
    ==================  ====================================================

    They go to the log and to every backend of the visualizer (TensorBoard
    too), and to ``probabilities.jsonl`` in the run's folder, which
    ``asl-det plot-training`` draws. Measuring takes one more call of the loss.

    Args:
        interval: iterations.
        losses: names of the modules to watch, as ``model.named_modules()``
            gives them, e.g. ``['roi_head.bbox_head.loss_cls']``. None: all
            classification losses, unless some of them are ours: then those.

    Raises:
        UserError: if the model has no such loss.
    """

    priority = 'NORMAL'  # before mmengine's logger reads the scalars

    def __init__(self, interval: int = 20, losses: Optional[Sequence[str]] = None) -> None:
        self.interval = interval
        self.losses = losses
        self._calls: List[tuple] = []
        self._active = False
        self._handles: List[Any] = []

    def before_train(self, runner: Runner) -> None:
        model = unwrap(runner.model)
        losses = find_losses(model, self.losses)
        self._handles = [m.register_forward_pre_hook(self._remember, with_kwargs=True)
                         for m in losses]

    def after_train(self, runner: Runner) -> None:
        for handle in self._handles:
            handle.remove()

    def before_train_iter(self, runner: Runner, batch_idx: int,
                          data_batch: Optional[Any] = None) -> None:
        self._active = self.every_n_train_iters(runner, self.interval)
        self._calls = []

    def _remember(self, loss: nn.Module, args: tuple, kwargs: Dict[str, Any]) -> None:
        if self._active and loss.training and torch.is_grad_enabled():
            call = inspect.signature(loss.forward).bind(*args, **kwargs)
            name = next(iter(call.arguments))
            call.arguments[name] = call.arguments[name].detach()  # its graph need not be kept
            self._calls.append((loss, call))

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Optional[Any] = None,
                         outputs: Optional[dict] = None) -> None:
        if not self._active:
            return
        calls, self._calls, self._active = self._calls, [], False
        device = torch.device(get_device())
        sums = sum((measure(*call) for call in calls),
                   torch.zeros(7, dtype=sum_dtype(device), device=device))
        all_reduce(sums)
        record = summarize(sums.tolist(), calls[0][0] if calls else None)
        for name, value in record.items():
            runner.message_hub.update_scalar(f'train/{name}', value)
        if is_main_process():
            with surviving(runner, 'probabilities'):
                append_record(Path(runner.work_dir) / PROBABILITIES,
                              dict(step=runner.iter + 1, epoch=runner.epoch, **record))


def find_losses(model: nn.Module, names: Optional[Sequence[str]] = None) -> List[nn.Module]:
    """The classification losses of a model, or those of some names.

    Raises:
        UserError: if there is none, or none of such a name.
    """
    found = {name: m for name, m in model.named_modules()
             if hasattr(m, 'use_sigmoid') and not getattr(m, 'use_mask', False)}
    if names is not None:
        unknown = [name for name in names if name not in found]
        if unknown:
            raise UserError(f'ProbabilityMonitorHook: {type(model).__name__} has no classification '
                            f'loss {unknown[0]!r}: it has {", ".join(found) or "none"}')
        return [found[name] for name in names]
    if not found:
        raise UserError(f'ProbabilityMonitorHook: {type(model).__name__} has no classification '
                        'loss (a module with the attribute use_sigmoid)')
    ours = [m for m in found.values() if type(m).__module__.startswith('asl_det.')]
    return ours or list(found.values())


def measure(loss: nn.Module, call: inspect.BoundArguments) -> Tensor:
    """Sums over a call: its Statistics, then the gradient of positives and of all entries."""
    names = list(call.arguments)
    pred, target = (call.arguments[name] for name in names[:2])
    leaf = pred.detach().float().requires_grad_()  # small gradients vanish in half precision
    training = loss.training
    loss.training = False  # an adaptive loss does not count this call
    try:
        with torch.enable_grad():
            again = inspect.BoundArguments(call.signature, {**call.arguments, names[0]: leaf})
            loss(*again.args, **again.kwargs).sum().backward()
    finally:
        loss.training = training
    grad, logits = leaf.grad.flatten(0, -2), leaf.detach().flatten(0, -2)
    as_index = not isinstance(target, (tuple, list)) and target.dim() < pred.dim()
    y = _targets(target, as_index, logits, getattr(loss, 'ignore_index', None))
    weight = call.arguments.get('weight')
    if weight is not None:
        weight = fit_weight(weight, pred, check=False).flatten(0, -2)
    step = CHUNK if logits.device.type == 'cpu' else 32 * CHUNK
    step = max(1, step // logits.size(1))
    total = torch.zeros(7, dtype=sum_dtype(logits.device), device=logits.device)
    for begin in range(0, len(logits), step):
        rows = slice(begin, begin + step)
        total += _measure_rows(loss, logits[rows], y[rows], grad[rows],
                               None if weight is None else weight[rows])
    return total


def _measure_rows(loss: nn.Module, logits: Tensor, y: Tensor, grad: Tensor,
                  weight: Optional[Tensor]) -> Tensor:
    y, known = dense_targets(y, logits, -1)
    counted = known.expand_as(logits)
    if weight is not None:
        counted = counted & (weight != 0)
    if getattr(loss, 'activated', False):
        p = logits
    else:
        p = logits.sigmoid() if loss.use_sigmoid else logits.softmax(-1)
    statistics = entry_statistics(p, y, counted, getattr(loss, 'clip', 0.0))
    shares = (torch.where(chosen, grad.abs(), 0).sum(dtype=sum_dtype(p.device))
              for chosen in (counted & (y > 0.5), counted))
    return torch.stack([*statistics, *shares])


def _targets(target: Any, as_index: bool, logits: Tensor, ignore: Optional[int]) -> Tensor:
    """Labels (N,) or dense targets (N, C), where -1 is unknown and so is what is out of range."""
    if isinstance(target, (tuple, list)):
        labels, scores = (t.flatten() for t in target)
        return fit_target((_labels(labels, logits, ignore), scores), logits, -1, check=False)
    if as_index:
        return _labels(target.flatten(), logits, ignore)
    target = target.reshape(logits.shape)
    known = (target >= 0) & (target <= 1) & (target != (-1 if ignore is None else ignore))
    return torch.where(known, target, -1)


def _labels(labels: Tensor, logits: Tensor, ignore: Optional[int]) -> Tensor:
    labels = labels.long()
    known = (labels >= 0) & (labels <= logits.size(1)) & (labels != (-1 if ignore is None
                                                                     else ignore))
    return torch.where(known, labels, -1)


def summarize(sums: List[float], loss: Optional[nn.Module]) -> Dict[str, float]:
    """The record of a step; what is not defined (no positives) is left out."""
    p_pos, p_neg, n_pos, n_neg, n_under, g_pos, g_all = sums
    record = {}
    if n_pos:
        record['prob_pos'] = p_pos / n_pos
    if n_neg:
        record['prob_neg'] = p_neg / n_neg
    if n_pos and n_neg:
        record['delta_p'] = record['prob_pos'] - (1 - record['prob_neg'])
    if n_neg and hasattr(loss, 'clip'):
        record['under_margin'] = n_under / n_neg
    if g_all:
        record['grad_pos'] = g_pos / g_all
    if hasattr(loss, 'gamma_neg'):
        record['gamma_neg'] = float(loss.gamma_neg)
    return record
