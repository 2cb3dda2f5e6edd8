import numpy as np
from mmengine.dataset import worker_init_fn as mmengine_worker_init_fn
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.runner import Runner, set_random_seed

from asl_det.errors import UserError
from asl_det.registry import HOOKS, register


@register(HOOKS)
class EpochSeedHook(Hook):
    """Random numbers depend on the seed, the epoch and the rank alone.

    A resumed training then ends with the weights of one that ran through, and
    augmentation draws new numbers every epoch (mmengine starts the workers of
    every epoch with the same ones). The three are hashed (numpy's
    ``SeedSequence``), so that the streams of neighbouring seeds, epochs and
    ranks have nothing in common. For trainings that go by epochs and start
    their workers anew for each (``persistent_workers=False``).

    In a worker, torch seeds ``random``, ``numpy`` and ``torch`` from the main
    process; a ``train_dataloader.worker_init_fn`` of the config is called after
    that. mmengine's own, which would seed every epoch alike, is not.
    """

    def before_train(self, runner: Runner) -> None:
        loader = runner.train_dataloader
        if loader.num_workers and loader.persistent_workers:
            raise UserError('EpochSeedHook needs train_dataloader.persistent_workers=False: '
                            'workers that live on keep random numbers of their own')
        init = loader.worker_init_fn
        if getattr(init, 'func', init) is mmengine_worker_init_fn:
            loader.worker_init_fn = None

    def before_train_epoch(self, runner: Runner) -> None:
        set_random_seed(epoch_seed(runner.seed, runner.epoch, get_rank()))


def epoch_seed(seed: int, epoch: int, rank: int) -> int:
    """A seed in ``[0, 2**32)`` for an epoch (from 0) of a process."""
    return int(np.random.SeedSequence((seed, epoch, rank)).generate_state(1)[0])
