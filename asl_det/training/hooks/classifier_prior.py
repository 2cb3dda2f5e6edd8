import math
from typing import Any, Dict, Iterator, List, Sequence

from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.model import bias_init_with_prob
from mmengine.runner import Runner
from torch import Tensor, nn

from asl_det.compat.weights import unwrap
from asl_det.errors import UserError
from asl_det.registry import HOOKS, register

# What mmdet's heads call the layers that predict classes.
CLASSIFIERS = ('retina_cls', 'conv_cls', 'atss_cls', 'gfl_cls', 'vfnet_cls', 'tood_cls', 'rtm_cls',
               'cls_prob_module', 'rpn_cls', 'reppoints_cls_out', 'cls_score',
               'multi_level_conv_cls', 'convs_pred', 'cls_branches', 'aux_cls_branches', 'fc_cls')


@register(HOOKS)
class ClassifierPriorHook(Hook):
    """Starts the classifiers of detection heads at a probability.

    Dense heads of mmdet start every class at 0.01, some in a default of their
    ``init_cfg``, others in code that no config reaches. Under the margin of an
    asymmetric loss negatives have no gradient there. This sets the biases
    after mmdet has initialised its heads, and before a checkpoint is loaded.

    Args:
        prior: the probability, in (0, 1).
        heads: dotted names of the heads in the model, e.g. ``['bbox_head']``
            or ``['roi_head.bbox_head']``; where there is none of the name, those
            whose names end with it (``student.bbox_head``).

    Raises:
        UserError: if the model has no such head, or it has no classifier with
            a bias that is known here.
    """

    priority = 'VERY_HIGH'

    def __init__(self, prior: float, heads: Sequence[str]) -> None:
        if isinstance(prior, bool) or not isinstance(prior, (int, float)) or not 0 < prior < 1:
            raise UserError(f'ClassifierPriorHook: prior={prior!r}: expected a number between 0 '
                            'and 1')
        self.prior = prior
        self.heads = [heads] if isinstance(heads, str) else list(heads)
        self._done = False

    def before_run(self, runner: Runner) -> None:
        self._done = False

    def after_load_checkpoint(self, runner: Runner, checkpoint: Dict[str, Any]) -> None:
        self._set(runner)  # mmengine calls this before the weights reach the model

    def before_train(self, runner: Runner) -> None:
        self._set(runner)

    def _set(self, runner: Runner) -> None:
        if self._done:
            return
        self._done = True
        model = unwrap(runner.model)
        for head in self.heads:
            names = set_prior(model, head, self.prior)
            print_log(f'{", ".join(names)}: classes start at {self.prior:g}', 'current')


def set_prior(model: nn.Module, head: str, prior: float) -> List[str]:
    """Set the biases of the classifiers of a head; returns the names of the layers.

    Raises:
        UserError: as :class:`ClassifierPriorHook`.
    """
    changed = []
    modules = dict(model.named_modules())
    modules = ({head: modules[head]} if head in modules else
               {name: m for name, m in modules.items() if name.endswith(f'.{head}')})
    if not modules:
        raise UserError(f'ClassifierPriorHook: the model has no {head}; it has '
                        + ', '.join(name for name, _ in model.named_children()))
    for name, module in modules.items():
        for part in module if isinstance(module, nn.ModuleList) else [module]:
            for layer in CLASSIFIERS:
                for bias in _biases(part, layer):
                    bias.fill_(_start(layer, prior))
                    changed += [f'{name}.{layer}'] * (f'{name}.{layer}' not in changed)
    if not changed:
        kinds = ', '.join(sorted({type(m).__name__ for m in modules.values()}))
        raise UserError(f'ClassifierPriorHook: {head} ({kinds}) has no classifier with a bias that '
                        f'is known ({", ".join(CLASSIFIERS)}): leave it out of heads, and set its '
                        'start in its own init_cfg')
    return changed


def _start(layer: str, prior: float) -> float:
    """The bias from which classes start at a probability."""
    if layer != 'cls_score':
        return bias_init_with_prob(prior)
    # YOLOF's classes pass through an objectness that starts at one half: odds = e^b / (2 + e^b).
    odds = prior / (1 - prior)
    if odds >= 1:
        raise UserError(f'ClassifierPriorHook: prior={prior}: the classes of YOLOF start below 0.5')
    return math.log(2 * odds / (1 - odds))


def _biases(head: nn.Module, name: str) -> Iterator[Tensor]:
    """What belongs to classes in the biases of a classifier, which may be one for every level."""
    layer = getattr(head, name, None)
    if not isinstance(layer, nn.Module):
        return
    found = [m.bias.detach() for m in layer.modules()
             if isinstance(getattr(m, 'bias', None), Tensor)]
    for bias in found[-1:] if isinstance(layer, nn.Sequential) else found:
        if name == 'convs_pred':  # YOLOv3: boxes and objectness stand before the classes
            yield bias.view(head.num_base_priors, -1)[:, 5:]
        elif name == 'fc_cls' and bias.numel() == head.num_classes + 1:  # background stands last
            yield bias[:-1]
        else:
            yield bias
