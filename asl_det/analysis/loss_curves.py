"""The paper's figures of the loss and its gradient, from parameters."""

from pathlib import Path
from typing import Dict, List, Tuple, Union

import numpy as np
import torch
from matplotlib.figure import Figure

from asl_det.analysis.style import COLOURS, LINES, save
from asl_det.losses.functional import asymmetric_loss

Curve = Tuple[np.ndarray, np.ndarray]


def losses_to_compare(gamma_neg: float, clip: float, gamma_focal: float
                      ) -> Dict[str, Dict[str, float]]:
    """The losses of the figures as points of the same equation."""
    return {
        'cross-entropy': dict(gamma_neg=0.0, clip=0.0),
        f'focal, γ={gamma_focal:g}': dict(gamma_neg=gamma_focal, clip=0.0),
        f'probability shifting, m={clip:g}': dict(gamma_neg=0.0, clip=clip),
        f'ASL, γ-={gamma_neg:g}, m={clip:g}': dict(gamma_neg=gamma_neg, clip=clip),
    }


def negative_curves(gamma_neg: float, clip: float, constant_focus: bool = False,
                    points: int = 4001) -> Tuple[Curve, Curve]:
    """Loss and gradient of a negative over its probability.

    Args:
        gamma_neg, clip: parameters.
        constant_focus: gradient with the focusing weight held constant.
        points: probabilities between 0 and 1.

    Returns:
        ``(p, loss)`` and ``(p, gradient with respect to the logit)``.
    """
    p = np.linspace(0, 1, points + 2)[1:-1]
    logits = torch.logit(torch.from_numpy(p)).unsqueeze(1).requires_grad_()
    loss = asymmetric_loss(logits, torch.zeros_like(logits), gamma_pos=0.0, gamma_neg=gamma_neg,
                           clip=clip, disable_torch_grad_focal_loss=constant_focus)
    gradient, = torch.autograd.grad(loss.sum(), logits)
    return (p, loss.detach().squeeze(1).numpy()), (p, gradient.squeeze(1).numpy())


def peak(curve: Curve) -> float:
    """Where a curve is highest."""
    return float(curve[0][np.argmax(curve[1])])


def plot_losses(out: Union[str, Path], *, gamma_neg: float, clip: float, gamma_focal: float
                ) -> List[Path]:
    """Loss against probability of a negative, PNG and PDF; ``out`` without suffix."""
    figure = Figure(figsize=(4.6, 3.4), layout='constrained')
    axes = figure.subplots()
    for (label, settings), colour, line in zip(
            losses_to_compare(gamma_neg, clip, gamma_focal).items(), COLOURS, LINES, strict=False):
        p, loss = negative_curves(**settings)[0]
        axes.plot(p, loss, label=label, color=colour, linestyle=line)
    axes.set(xlabel='probability p of a negative', ylabel='loss', xlim=(0, 1), ylim=(0, 3))
    axes.legend(frameon=False, fontsize='small')
    return save(figure, out)


def plot_gradients(out: Union[str, Path], *, gamma_neg: float, clip: float) -> List[Path]:
    """Gradient against probability of a negative, with the three regimes, PNG and PDF.

    The left panel has the full gradient, the right one the gradient with the
    focusing weight held constant in the backward pass.
    """
    compared = {
        'CE': dict(gamma_neg=0.0, clip=0.0),
        f'CE + PS, m={clip:g}': dict(gamma_neg=0.0, clip=clip),
        f'AF, γ-={gamma_neg:g}': dict(gamma_neg=gamma_neg, clip=0.0),
        f'ASL, γ-={gamma_neg:g}, m={clip:g}': dict(gamma_neg=gamma_neg, clip=clip),
    }
    figure = Figure(figsize=(8.6, 3.6), layout='constrained')
    for axes, constant, title in zip(
            figure.subplots(1, 2, sharey=True), (False, True),
            ('full gradient', 'focusing weight held constant'), strict=True):
        for (label, settings), colour, line in zip(compared.items(), COLOURS, LINES, strict=False):
            curve = negative_curves(**settings, constant_focus=constant)[1]
            axes.plot(*curve, label=label, color=colour, linestyle=line)
        top = peak(curve)  # of ASL, the last
        for left, right, name, shade in ((0, clip, 'discarded', '0.85'),
                                         (clip, top, 'attenuated\nby focusing', '1.0'),
                                         (top, 1, 'hard, mislabelled?', '0.93')):
            axes.axvspan(left, right, color=shade, zorder=0)
            axes.text((left + right) / 2, 1.57, name, ha='center', va='top', fontsize='x-small',
                      rotation=90 if right - left < 0.18 else 0)
        axes.axvline(top, color='0.4', linewidth=0.8)
        axes.annotate(f'p = {top:.3f}', (top, 0.02), fontsize='x-small', ha='right',
                      xytext=(-3, 0), textcoords='offset points')
        axes.set(title=title, xlabel='probability p of a negative', xlim=(0, 1), ylim=(0, 1.6))
    figure.axes[0].set_ylabel('gradient of the logit')
    figure.axes[0].legend(frameon=False, fontsize='small', loc='center left')
    return save(figure, out)
