"""Weights and their exponential moving average: both trained, evaluated and saved."""

import logging
from contextlib import contextmanager
from typing import Any, Dict, Iterator, Optional

from mmengine.hooks import EMAHook
from mmengine.logging import print_log
from mmengine.model import ExponentialMovingAverage
from mmengine.runner import Runner, ValLoop
from torch import Tensor

from asl_det.errors import UserError
from asl_det.registry import HOOKS, LOOPS, MODELS, register


@register(MODELS)
class WeightedSumEMA(ExponentialMovingAverage):
    """mmengine's average, rounded as in the reference: a sum of two products.

    Its linear interpolation rounds less, and is 1e-6 away after 25 steps.
    """

    def avg_func(self, averaged_param: Tensor, source_param: Tensor, steps: Tensor) -> None:
        averaged_param.mul_(1 - self.momentum).add_(source_param, alpha=self.momentum)


@register(HOOKS)
class SafeEMAHook(EMAHook):
    """mmengine's EMAHook, which knows whether the model has the averaged weights.

    The engine puts it in the place of ``EMAHook``: after an error in a
    validation the weights that were trained are saved.
    """

    exchanged = False

    def _swap_ema_parameters(self) -> None:
        super()._swap_ema_parameters()
        self.exchanged = not self.exchanged

    def put_back(self) -> None:
        """Give the model the weights that are trained."""
        if self.exchanged:
            self._swap_ema_parameters()


@register(HOOKS)
class RawAndEMAHook(EMAHook):
    """Exponential moving average (EMA) of all that a checkpoint holds, beside the raw weights.

    After every step ``average = decay * average + (1 - decay) * weights``, from
    the weights before the first step on, buffers (statistics of batch norm)
    included; integers keep their start. Validate with :class:`RawAndEMAValLoop`,
    which evaluates both.

    Every checkpoint holds both sets. Its ``state_dict``, which any program
    loads, is the better of the two in the last validation before it was saved
    (the average before the first), so the best checkpoint keeps what was best.
    ``meta['state_dict_is']`` says which; ``ema_state_dict`` has the other set.
    A resumed training goes on with both.

    Args:
        decay: of a step, between 0 and 1.
        horizon: instead, the mean age of what is averaged, in epochs: over
            ``n`` steps in that time the decay is ``n / (n + 1)``.
        weights: what a test, or a training that starts from a checkpoint
            (``load_from``), takes of it: 'saved' (its ``state_dict``), 'raw'
            or 'ema'.

    Raises:
        UserError: for arguments out of range, or where a checkpoint has not
            what ``weights`` asks for.
    """

    def __init__(self, decay: Optional[float] = None, horizon: Optional[float] = None,
                 weights: str = 'saved') -> None:
        if (decay is None) == (horizon is None):
            raise UserError(f'RawAndEMAHook(decay={decay}, horizon={horizon}): give one of them; '
                            'horizon is in epochs')
        if decay is not None and not 0 < decay < 1:
            raise UserError(f'RawAndEMAHook(decay={decay}): expected a number between 0 and 1')
        if horizon is not None and not horizon > 0:
            raise UserError(f'RawAndEMAHook(horizon={horizon}): expected epochs, more than 0')
        if weights not in ('saved', 'raw', 'ema'):
            raise UserError(f"RawAndEMAHook(weights={weights!r}): expected 'saved', 'raw' or 'ema'")
        super().__init__('mmdet.WeightedSumEMA', strict_load=True, update_buffers=True)
        self.decay = decay
        self.horizon = horizon
        self.weights = weights
        self.better = 'ema'  # until a validation tells

    def before_run(self, runner: Runner) -> None:
        if not hasattr(self, 'ema_model'):  # a test after the training keeps the average
            super().before_run(runner)

    def before_train(self, runner: Runner) -> None:
        super().before_train(runner)
        steps = None if self.horizon is None else self.horizon * len(runner.train_dataloader)
        decay = self.decay if steps is None else steps / (steps + 1)
        self.ema_model.momentum = 1 - decay
        runner.logger.info(f'EMA of weights and buffers with decay {decay:g} a step')
        if not self.training:  # nor resumed: the first update copies
            self.ema_model.update_parameters(self.src_model)

    @property
    def training(self) -> bool:
        """Whether there is an average, because a training has begun."""
        return bool(self.ema_model.steps > 0)

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """The model has the averaged weights inside the block."""
        self._swap_ema_parameters()
        try:
            yield
        finally:
            self._swap_ema_parameters()

    def before_val_epoch(self, runner: Runner) -> None:
        pass  # the loop below evaluates both

    def after_val_epoch(self, runner: Runner, metrics: Optional[Dict[str, float]] = None) -> None:
        pass

    def before_test_epoch(self, runner: Runner) -> None:
        chosen = self.better if self.weights == 'saved' else self.weights
        if self.training and chosen == 'ema':  # without a training it was chosen at loading
            self._swap_ema_parameters()

    def after_test_epoch(self, runner: Runner, metrics: Optional[Dict[str, float]] = None) -> None:
        self.before_test_epoch(runner)  # a second swap puts all back

    def before_save_checkpoint(self, runner: Runner, checkpoint: Dict[str, Any]) -> None:
        checkpoint['ema_state_dict'] = self.ema_model.state_dict()
        if self.better == 'ema':
            self._swap_ema_state_dict(checkpoint)
        checkpoint['meta']['state_dict_is'] = self.better

    def after_load_checkpoint(self, runner: Runner, checkpoint: Dict[str, Any]) -> None:
        if 'ema_state_dict' not in checkpoint:
            if runner._resume:
                print_log('the checkpoint has no average: it starts from the weights', 'current',
                          logging.WARNING)
            elif self.weights != 'saved':
                raise UserError(f"RawAndEMAHook(weights={self.weights!r}): the checkpoint has only "
                                "one set of weights; leave it at 'saved'")
            return
        saved = checkpoint['meta'].get('state_dict_is', 'ema')  # as mmengine's EMAHook saves
        chosen = saved if self.weights == 'saved' else self.weights
        wanted = 'raw' if runner._resume else chosen
        if wanted != saved:
            self._swap_ema_state_dict(checkpoint)
        if runner._resume:
            self.better = saved
            self.ema_model.load_state_dict(checkpoint['ema_state_dict'])
        else:
            runner.logger.info(f'weights of the checkpoint: {wanted}')


@register(LOOPS)
class RawAndEMAValLoop(ValLoop):
    """Validates the averaged and the raw weights of :class:`RawAndEMAHook`.

    Metrics are those of the better, as a whole; ``<key>_raw`` and ``<key>_ema``
    tell them apart. What is saved has the better as ``state_dict``. Outside a training
    (``Runner.val``) the loaded weights are validated.

    Args:
        runner, dataloader, evaluator, fp16: as in mmengine.
        key: the metric that decides; higher is better.

    Raises:
        UserError: without the hook, or if there is no such metric.
    """

    def __init__(self, *args: Any, key: str = 'multilabel/mAP', **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.key = key

    def run(self) -> Dict[str, float]:
        hooks = [hook for hook in self.runner.hooks if isinstance(hook, RawAndEMAHook)]
        if not hooks:
            raise UserError('val_cfg.type=RawAndEMAValLoop needs a RawAndEMAHook: add one, or '
                            "validate with val_cfg=dict(type='ValLoop')")
        hook, = hooks
        if not hook.training:
            return super().run()
        self.runner.call_hook('before_val')
        self.runner.call_hook('before_val_epoch')
        self.runner.model.eval()
        with hook.averaged():
            found = dict(ema=self._evaluate())
        found['raw'] = self._evaluate()
        better = max(found, key=lambda name: found[name][self.key])  # the average where equal
        both = {f'{self.key}_{name}': found[name][self.key] for name in ('raw', 'ema')}
        metrics = {self.key: found[better][self.key], **both, **found[better]}
        hook.better = better
        self.runner.call_hook('after_val_epoch', metrics=metrics)
        self.runner.call_hook('after_val')
        return metrics

    def _evaluate(self) -> Dict[str, float]:
        """One pass over the validation set, as in mmengine's loop."""
        for index, batch in enumerate(self.dataloader):
            self.run_iter(index, batch)
        metrics = self.evaluator.evaluate(len(self.dataloader.dataset))
        if self.key not in metrics:
            raise UserError(f'val_cfg.key={self.key}: there is no such metric, but '
                            f'{", ".join(metrics)}')
        return metrics
