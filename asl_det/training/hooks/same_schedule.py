from typing import Any, Dict, List

from mmengine.hooks import Hook
from mmengine.runner import Runner

from asl_det.errors import UserError
from asl_det.registry import HOOKS, register
from asl_det.training.hooks.accumulation import optim_wrappers

# What a scheduler's course depends on; mmengine takes all of it from a resumed checkpoint.
SETTINGS = ('begin', 'end', 'total_steps', 'T_max', 'step_size', 'milestones', 'periods',
            'eta_max', 'eta_min', 'base_values')


@register(HOOKS)
class SameScheduleHook(Hook):
    """Refuses to resume with another schedule or learning rate than the checkpoint's.

    mmengine loads both from the checkpoint, so what the config says would be
    ignored: a longer one-cycle training fails where the old one ended, and a
    new learning rate is not used.

    Raises:
        UserError: with the values of both.
    """

    priority = 'VERY_HIGH'

    def before_run(self, runner: Runner) -> None:
        self._asked = settings(runner)

    def before_train(self, runner: Runner) -> None:
        for asked, loaded in zip(self._asked, settings(runner), strict=True):
            different = [name for name in asked if asked[name] != loaded.get(name)]
            if different:
                raise UserError('--resume: the checkpoint goes on with ' + ', '.join(
                    f'{name}={loaded.get(name)}' for name in different) + ', and the config asks '
                    'for ' + ', '.join(f'{name}={asked[name]}' for name in different)
                    + f' ({asked["of"]}): resume with the length and learning rate of the '
                    'interrupted run, or start a new one from its weights with --cfg-options '
                    'load_from=CHECKPOINT')


def settings(runner: Runner) -> List[Dict[str, Any]]:
    """The schedule: a dict for every scheduler, or of the learning rates if there is none."""
    schedulers = runner.param_schedulers or []
    groups = schedulers.values() if isinstance(schedulers, dict) else [schedulers]
    found = [dict({name: vars(s)[name] for name in SETTINGS if name in vars(s)},
                  of=type(s).__name__) for group in groups for s in group]
    if found:
        return found
    return [dict(lr=[g['lr'] for g in w.param_groups], of='optimizer')
            for w in optim_wrappers(runner.optim_wrapper) if hasattr(w, 'param_groups')]
