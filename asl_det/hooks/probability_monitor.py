import json
from pathlib import Path
from typing import Any, Dict, List, Optional

import torch
from mmengine.device import get_device
from mmengine.dist import all_reduce, is_main_process
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from torch import Tensor, nn

from asl_det.errors import UserError
from asl_det.losses.asymmetric_loss import as_tensor, fit_weight
from asl_det.losses.functional import dense_targets
from asl_det.losses.fused import entry_statistics
from asl_det.registry import HOOKS

FILE = 'probabilities.jsonl'


@HOOKS.register_module()
class ProbabilityMonitorHook(Hook):
    """Records what a classification loss does to positives and negatives.

    Every ``interval`` iterations, over all calls of the losses named
    ``loss_cls`` (one a level in detectors), all processes together, for any
    registered loss:

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
    ``tools/plot_training.py`` draws. Measuring takes one more call of the loss.

    Args:
        interval: iterations.

    Raises:
        UserError: if the model has no ``loss_cls``.
    """

    priority = 'NORMAL'  # before mmengine's logger reads the scalars

    def __init__(self, interval: int = 20) -> None:
        self.interval = interval
        self._calls: List[tuple] = []
        self._active = False
        self._handles: List[Any] = []

    def before_train(self, runner: Runner) -> None:
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        losses = [m for name, m in model.named_modules() if name.split('.')[-1] == 'loss_cls']
        if not losses:
            raise UserError(f'ProbabilityMonitorHook: {type(model).__name__} has no loss named '
                            'loss_cls')
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
            self._calls.append((loss, args, kwargs))

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Optional[Any] = None,
                         outputs: Optional[dict] = None) -> None:
        if not self._active:
            return
        calls, self._calls, self._active = self._calls, [], False
        sums = sum((measure(*call) for call in calls),
                   torch.zeros(7, dtype=torch.float64, device=get_device()))
        all_reduce(sums)
        record = summarize(sums.tolist(), calls[0][0] if calls else None)
        for name, value in record.items():
            runner.message_hub.update_scalar(f'train/{name}', value)
        if is_main_process():
            with open(Path(runner.work_dir) / FILE, 'a') as file:
                file.write(json.dumps(dict(step=runner.iter + 1, epoch=runner.epoch, **record))
                           + '\n')


def measure(loss: nn.Module, args: tuple, kwargs: Dict[str, Any]) -> Tensor:
    """Sums over a call: its Statistics, then the gradient of positives and of all entries."""
    pred, target, *rest = args
    pred = pred.detach().requires_grad_()
    training = loss.training
    loss.training = False  # an adaptive loss does not count this call
    try:
        with torch.enable_grad():
            loss(pred, target, *rest, **kwargs).sum().backward()
    finally:
        loss.training = training
    grad = pred.grad.abs()
    pred = pred.detach().float()
    ignore = getattr(loss, 'ignore_index', None)
    ignore = -1 if ignore is None else ignore
    y, known = dense_targets(as_tensor(pred, target, ignore, check=False), pred, ignore)
    if getattr(loss, 'activated', False):
        p = pred
    else:
        p = pred.sigmoid() if getattr(loss, 'use_sigmoid', True) else pred.softmax(-1)
    counted = known.expand_as(p)
    weight = rest[0] if rest else kwargs.get('weight')
    if weight is not None:
        counted = counted & (fit_weight(weight, pred) != 0)
    statistics = entry_statistics(p, y, counted, getattr(loss, 'clip', 0.0))
    return torch.stack([*statistics, *(grad[chosen].sum(dtype=torch.float64)
                                       for chosen in (counted & (y > 0.5), counted))])


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
