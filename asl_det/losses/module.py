"""The asymmetric loss as an MMDetection module."""

from typing import Any, Callable, Dict, NoReturn, Optional, Sequence, Union

import torch
from torch import Tensor, nn

from asl_det.losses.adaptive import AdaptiveGamma
from asl_det.losses.arguments import (
    class_weights,
    require,
    require_class_count,
    require_flag,
    require_gamma,
    require_ignore_index,
    require_number,
    require_reduction,
)
from asl_det.losses.functional import probability_to_logit
from asl_det.losses.one_pass import IMPLEMENTATIONS, reduced_loss, warn_once
from asl_det.losses.targets import (
    Values,
    check_probabilities,
    codes_absent_as_unknown,
    fit_target,
    fit_weight,
    flatten,
    is_checked,
    require_tensor,
)
from asl_det.losses.types import Settings, Statistics, is_traced

EPS = torch.finfo(torch.float32).eps  # mmdet adds it to avg_factor, which may be 0


class Loss(nn.Module):
    """A loss with ``class_weight``: float32, whatever dtype the model has."""

    class_weight: Optional[Tensor]

    def _apply(self, fn: Callable[[Tensor], Tensor], *args: Any, **kwargs: Any) -> 'Loss':
        kept = self.class_weight
        super()._apply(fn, *args, **kwargs)
        moved = self.class_weight
        if kept is not None and moved is not None and moved.dtype != kept.dtype:
            self.class_weight = kept.to(moved.device)  # .half() takes no digits
        return self

    def __prepare_scriptable__(self) -> NoReturn:
        """What torch.jit.script asks every module for first."""
        raise RuntimeError(f'{type(self).__name__} can not be compiled by TorchScript '
                           '(torch.jit.script): use torch.compile or torch.jit.trace, or script '
                           'the network without its loss')


class AsymmetricLoss(Loss):
    r"""Asymmetric loss (ASL) for every sigmoid classification head.

    The equation and its parameters are in
    :func:`asl_det.losses.asymmetric_loss`.

    Args:
        use_sigmoid: must be True. mmdet's heads read it from the config to
            decide on the number of channels, so a config must state it.
        gamma_neg: focusing exponent for negatives, >= 0.
        gamma_pos: focusing exponent for positives, >= 0.
        clip: probability margin in [0, 1): negatives at or below it cost
            nothing and have no gradient. None is 0.
        alpha: class balance in [0, 1] as in mmdet's ``FocalLoss``: positives
            times ``alpha``, negatives times ``1 - alpha``. None: no balance.
        disable_torch_grad_focal_loss: hold the focusing weights constant in
            the backward pass, as the reference's training script does.
        class_weight: one weight >= 0 per class, applied to every entry of
            that class; float32 in a model of any dtype.
        reduction: 'mean', 'sum' or 'none'.
        loss_weight: factor of the result, >= 0.
        activated: ``pred`` holds probabilities instead of logits.
        ignore_index: target value for "unknown": such entries contribute
            neither to the sum nor to the count of a mean. No target: not 0
            or 1, and for class indices not from 0 to C.
        check_targets: whether the values of targets, weights and
            probabilities (``activated``) are checked at every call. None:
            on CPU always, on CUDA only where the environment variable
            ``ASL_DET_CHECK_TARGETS=1`` is set, since reading them
            synchronises the GPU. Never inside ``torch.compile`` or
            ``torch.func``.
        adaptive: adjust ``gamma_neg`` during training: arguments of
            :class:`~asl_det.losses.adaptive.AdaptiveGamma`, e.g.
            ``dict(delta_p_target=0.1)``. ``gamma_neg`` is where it starts.
        impl: the path that computes it. A named one runs or raises.

            =========  =====================================================
            'auto'     'triton' on CUDA where it runs, else 'fused'; 'torch'
                       inside ``torch.compile`` and ``torch.func``, if
                       targets or weights need a gradient, and where a
                       gradient is differentiated
            'torch'    the plain definition under autograd: every device and
                       dtype, differentiable twice, the most memory
            'fused'    value and gradient in one pass: compiled C on CPU (one
                       pass of the memory, built at the first call; chunks of
                       torch without a C compiler, in float64 and on GPUs)
            'triton'   the same as one CUDA kernel
            =========  =====================================================

    Attributes:
        gamma_neg: the exponent in use; with ``adaptive`` the adjusted one.
        statistics: with ``want_statistics = True`` set on the module, the
            :class:`~asl_det.losses.types.Statistics` of the last call, from
            the same pass and without synchronising a GPU (the plain definition
            takes a pass of its own).

    Raises:
        TypeError: for an argument of another type.
        ValueError: for an argument outside its range.

    Reference:
        Ridnik et al., Asymmetric Loss For Multi-Label Classification,
        ICCV 2021, arXiv 2009.14119.
    """

    def __init__(self,
                 use_sigmoid: bool = True,
                 gamma_neg: float = 4.0,
                 gamma_pos: float = 0.0,
                 clip: Optional[float] = 0.05,
                 alpha: Optional[float] = None,
                 disable_torch_grad_focal_loss: bool = False,
                 class_weight: Optional[Sequence[float]] = None,
                 reduction: str = 'mean',
                 loss_weight: float = 1.0,
                 activated: bool = False,
                 ignore_index: int = -1,
                 check_targets: Optional[bool] = None,
                 adaptive: Optional[Dict[str, float]] = None,
                 impl: str = 'auto') -> None:
        super().__init__()
        require_flag('use_sigmoid', use_sigmoid)
        if not use_sigmoid:
            raise ValueError('AsymmetricLoss got use_sigmoid=False, but it is a sigmoid loss: set '
                             'use_sigmoid=True in the config of the head, or keep a softmax loss')
        clip = 0.0 if clip is None else clip
        require_gamma('gamma_neg', gamma_neg)
        require_gamma('gamma_pos', gamma_pos)
        require_number('clip', clip, 'a probability margin in [0, 1)', 0, below=1)
        if alpha is not None:
            require_number('alpha', alpha, 'None or a number in [0, 1]', 0, 1)
        require_number('loss_weight', loss_weight, 'a number >= 0', 0)
        require_flag('disable_torch_grad_focal_loss', disable_torch_grad_focal_loss)
        require_flag('activated', activated)
        if check_targets is not None:
            require_flag('check_targets', check_targets)
        require_ignore_index(ignore_index, targets=(0, 1))
        require_reduction(reduction)
        require('impl', impl, impl in IMPLEMENTATIONS, "'auto', 'torch', 'fused' or 'triton'")
        self.use_sigmoid = use_sigmoid
        self.adaptive = None if adaptive is None else AdaptiveGamma(gamma_neg, **adaptive)
        self.gamma_neg = gamma_neg
        self.gamma_pos = gamma_pos
        self.clip = clip
        self.alpha = alpha
        self.disable_torch_grad_focal_loss = disable_torch_grad_focal_loss
        self.reduction = reduction
        self.loss_weight = loss_weight
        self.activated = activated
        self.ignore_index = ignore_index
        self.check_targets = check_targets
        self.impl = impl
        self.want_statistics = False
        self.statistics: Optional[Statistics] = None
        self._absent_is_known = False
        self.register_buffer('class_weight', class_weights(class_weight), persistent=False)

    @property
    def gamma_neg(self) -> Union[float, Tensor]:
        return self._gamma_neg if self.adaptive is None else self.adaptive.value()

    @gamma_neg.setter
    def gamma_neg(self, value: float) -> None:
        self._gamma_neg = value

    def forward(self,
                pred: Tensor,
                target: Values,
                weight: Optional[Values] = None,
                avg_factor: Union[float, Tensor, None] = None,
                reduction_override: Optional[str] = None) -> Tensor:
        """The loss of a batch, in float32 (float64 for float64 logits).

        An entry that is ignored or has weight 0 costs nothing and has no
        gradient, whatever its logit; elsewhere NaN stays NaN. A negative at
        -inf costs nothing, a positive there costs inf.

        Args:
            pred: logits ``(N, C)`` (probabilities if ``activated``), or
                ``(..., C)``: the last axis is the classes.
            target: class indices ``(N,)`` from 0 to C, where C is background,
                of an integer dtype; or values in [0, 1] of the shape of
                ``pred``, of any dtype; or a pair of indices ``(N,)`` and
                scores ``(N,)`` in [0, 1], floats, which stands for a soft
                target at the index (heads built for quality focal loss). On
                the device of ``pred``; numpy arrays and lists of numbers are
                moved there. For one class give floats as ``(N, 1)``: integers
                ``(N,)`` are indices, 0 the class and 1 background.
            weight: ``(N,)``, ``(N, C)``, or ``(N * C,)`` flattened; finite and
                >= 0. Labels and weights of a shape that fits logits with the
                classes on the second axis are not guessed.
            avg_factor: divisor of the sum instead of the number of entries,
                with reduction 'mean' only; one number >= 0.
            reduction_override: reduction of this call.

        Returns:
            A scalar, or the shape of ``pred`` for reduction 'none'. A mean
            over no known entry is 0 and keeps its graph.

        Raises:
            TypeError: for what is no tensor, or no dense one of real numbers.
            ValueError: for shapes or devices that do not fit, float or bool
                targets ``(N,)`` beside ``(N, C)``, targets, weights
                or probabilities out of range (see ``check_targets``), an
                unknown reduction, or ``avg_factor`` together with reduction
                'sum'.
        """
        reduction = reduction_override or self.reduction
        require_reduction(reduction, avg_factor)
        require_tensor('pred', pred, pred, floating=True)
        check = is_checked(pred, self.check_targets)
        target = fit_target(target, pred, self.ignore_index, check)
        if check and not self._absent_is_known and target.shape == pred.shape:
            self._look_for_absent(target)
        require_class_count(self.class_weight, pred)
        if weight is not None:
            weight = fit_weight(weight, pred, check)
        if self.activated:
            if check:
                check_probabilities(pred)
            pred = probability_to_logit(pred)
        scale, factor = self.loss_weight, None
        if avg_factor is not None and reduction == 'mean':
            reduction = 'sum'
            if isinstance(avg_factor, Tensor) and (is_traced() or avg_factor.device.type != 'cpu'):
                factor = (avg_factor.detach() + EPS).reciprocal()
            else:
                scale = scale / (float(avg_factor) + EPS)
        adaptive = self.adaptive if self.training and torch.is_grad_enabled() else None
        shape = pred.shape
        logits, batch = flatten(pred, target, weight)
        if self.class_weight is not None:
            batch = batch._replace(col_weight=self.class_weight.to(pred.device))
        loss, statistics = reduced_loss(
            logits, batch if factor is None else batch._replace(factor=factor),
            Settings(self.gamma_pos, self.gamma_neg, self.clip, self.alpha,
                     self.disable_torch_grad_focal_loss, self.ignore_index, scale),
            impl=self.impl, reduction=reduction, check=check,
            want_statistics=self.want_statistics or adaptive is not None)
        if self.want_statistics:
            self.statistics = statistics
        if adaptive is not None and statistics is not None:
            adaptive.observe(statistics, loss)
        return loss.reshape(shape) if reduction == 'none' else loss

    def _look_for_absent(self, target: Tensor) -> None:
        """Warn of -1 beside 1 without any 0, until a batch shows how absent is written."""
        coded = codes_absent_as_unknown(target, self.ignore_index)
        if coded:
            warn_once(f'the target has {self.ignore_index} and 1, but no 0: {self.ignore_index} is '
                      'the ignore_index, unknown, and costs nothing, so that there is no negative. '
                      f'If {self.ignore_index} says absent, give target.clamp(min=0)')
        self._absent_is_known = coded is not None

    def _load_from_state_dict(self, state_dict: Dict[str, Any], prefix: str, *args: Any) -> None:
        if self.adaptive is None:  # a checkpoint of an adaptive loss
            for key in [k for k in state_dict if k.startswith(f'{prefix}adaptive.')]:
                del state_dict[key]
        super()._load_from_state_dict(state_dict, prefix, *args)

    def extra_repr(self) -> str:
        return (f'gamma_neg={self.gamma_neg}, gamma_pos={self.gamma_pos}, clip={self.clip}, '
                f'alpha={self.alpha}, reduction={self.reduction!r}, '
                f'loss_weight={self.loss_weight}')
