"""From which score a network predicts: as asked for, as its checkpoint says, or by its loss."""

from dataclasses import replace
from typing import Any, Dict, NamedTuple, Optional, Sequence, Union

import numpy as np
import torch
from mmengine.config import Config
from mmengine.runner import CheckpointLoader, Runner

from asl_det.compat.weights import unwrap
from asl_det.detection.places import find_losses, takes_sigmoid
from asl_det.losses.functional import asymmetric_loss
from asl_det.multilabel.classifier import is_classifier
from asl_det.multilabel.thresholds import Thresholds, probability
from asl_det.registry import type_name
from asl_det.training.hooks import DecideHook
from asl_det.training.screen import log_lines

EVEN = 0.5  # of probabilities that mean what they say, and where a loss is not known
SURE = 0.99  # where the margin lets what is as likely as not rise without end


class Chosen(NamedTuple):
    """Thresholds, and where they come from, for the reader."""

    thresholds: Thresholds
    why: str


def choose_thresholds(asked: Union[Thresholds, float, None], model: Dict[str, Any],
                      classes: Sequence[str], meta: Dict[str, Any], checkpoint: str) -> Chosen:
    """The thresholds of a network, and how its scores are calibrated.

    Args:
        asked: of the user. A number is on the scores that leave the program:
            the checkpoint calibrates them. Thresholds bring their own
            calibration. None for those of the checkpoint, or else the usual.
        model: config of the network.
        classes: their names.
        meta: of the checkpoint.
        checkpoint: its name.

    Raises:
        UserError: if thresholds are no such, or of other classes.
    """
    if isinstance(asked, Thresholds):
        chosen = Chosen(asked, 'as asked for')
    else:
        chosen = _own(model, classes, meta, checkpoint)
        if asked is not None:
            own = replace(chosen.thresholds, default=probability(asked, 'threshold'), classes={})
            chosen = Chosen(own, 'as asked for' + (', on calibrated scores' if own.calibrates
                                                   else ''))
    chosen.thresholds.on_logits(classes)  # says which are unknown
    return chosen


def _own(model: Dict[str, Any], classes: Sequence[str], meta: Dict[str, Any],
         checkpoint: str) -> Chosen:
    if meta.get('thresholds') is not None:
        own = Thresholds.from_dict(meta['thresholds'], f'thresholds in checkpoint {checkpoint}')
        made = own.source.get('chosen_on') or own.source.get('results')
        return Chosen(own, f'chosen on {made}' if made else 'as the checkpoint says')
    if not is_classifier(model):
        return Chosen(Thresholds(usual_threshold(model)), 'the usual one of its loss: the '
                      'checkpoint has none')
    threshold = model.get('threshold', EVEN)
    by_class = dict(zip(classes, threshold, strict=False)) if isinstance(
        threshold, (list, tuple)) else {}
    return Chosen(Thresholds(usual_threshold(model), by_class, model.get('temperature', 1.0),
                             model.get('bias', 0.0)), 'model.threshold of the config: the '
                  'checkpoint has none')


def decide(runner: Runner, cfg: Config, checkpoint: str,
           asked: Union[Thresholds, float, None]) -> Optional[Chosen]:
    """Have a test predict labels, or draw boxes, from the thresholds on.

    Args:
        runner: of the test.
        cfg: its config.
        checkpoint: file or URL.
        asked: see :func:`choose_thresholds`.

    Returns:
        None where the data set names no classes.
    """
    classes = (getattr(runner.test_loop.dataloader.dataset, 'metainfo', None) or {}).get('classes')
    if not classes:
        return None
    content: Any = CheckpointLoader.load_checkpoint(checkpoint, map_location='cpu')
    meta = content.get('meta') if isinstance(content, dict) else None
    chosen = choose_thresholds(asked, cfg.model, classes, meta if isinstance(meta, dict) else {},
                               checkpoint)
    if is_classifier(cfg.model):
        model: Any = unwrap(runner.model)
        model.use_thresholds(chosen.thresholds, classes, calibrate=False)
    runner.register_hook(DecideHook(chosen.thresholds, classes))
    log_lines(runner, [f'thresholds: {chosen.why}'])
    return chosen


def usual_threshold(model: Dict[str, Any]) -> float:
    """The score of a place that is as likely an object as not, by the loss of the last head.

    Of a classifier its own ``threshold``.

    Args:
        model: config of a network.

    Returns:
        In (0, 1).
    """
    if is_classifier(model):
        return float(np.mean(model.get('threshold', EVEN)))
    losses = [place.loss for place in find_losses(model)
              if place.key == 'loss' or place.key.endswith('loss_cls')]
    return even_odds(losses[-1]) if losses else EVEN


def even_odds(loss: Dict[str, Any]) -> float:
    """The probability that a loss is lowest at where positives and negatives are equally many.

    Args:
        loss: config of an asymmetric, focal or cross-entropy loss; 0.5 for others.
    """
    settings = _settings(loss)
    if settings is None:
        return EVEN
    p = torch.linspace(0, 1, 4003, dtype=torch.float64)[1:-1]
    slopes = []
    for target in (torch.ones, torch.zeros):
        logits = torch.logit(p).unsqueeze(1).requires_grad_()
        cost = asymmetric_loss(logits, target(logits.shape, dtype=p.dtype), **settings)
        slopes.append(torch.autograd.grad(cost.sum(), logits)[0].squeeze(1))
    falling = torch.nonzero(slopes[0] + slopes[1] >= 0)  # positives and negatives pull alike
    return round(float(p[falling[0, 0]]), 3) if len(falling) else SURE


def _settings(loss: Dict[str, Any]) -> Optional[Dict[str, Any]]:
    """Its parameters in the equation of the asymmetric loss."""
    name = type_name(loss)
    if 'AsymmetricLoss' in name:
        defaults = dict(gamma_neg=4.0, gamma_pos=0.0, clip=0.05, alpha=None,
                        disable_torch_grad_focal_loss=False)
        return {key: loss.get(key, default) for key, default in defaults.items()}
    if name == 'FocalLoss':
        gamma = loss.get('gamma', 2.0)
        return dict(gamma_neg=gamma, gamma_pos=gamma, clip=0.0, alpha=loss.get('alpha', 0.25))
    if name == 'CrossEntropyLoss' and takes_sigmoid(loss):
        return dict(gamma_neg=0.0, gamma_pos=0.0, clip=0.0)
    return None
