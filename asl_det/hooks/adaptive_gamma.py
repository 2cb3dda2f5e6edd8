from mmengine.hooks import Hook
from mmengine.runner import Runner

from asl_det.accumulation import optim_wrappers
from asl_det.losses import AdaptiveGamma
from asl_det.registry import HOOKS, register


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
