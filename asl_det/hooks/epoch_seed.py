from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.runner import Runner, set_random_seed

from asl_det.errors import UserError
from asl_det.registry import HOOKS


@HOOKS.register_module()
class EpochSeedHook(Hook):
    """Random numbers of an epoch depend on the seed and the epoch alone.

    A resumed training then ends with the weights of one that ran through, and
    augmentation draws new numbers every epoch (mmengine starts the workers of
    every epoch with the same ones). For trainings that go by epochs and start
    their workers anew for each (``persistent_workers=False``).
    """

    def before_train(self, runner: Runner) -> None:
        loader = runner.train_dataloader
        if loader.num_workers and loader.persistent_workers:
            raise UserError('EpochSeedHook needs train_dataloader.persistent_workers=False: '
                            'workers that live on keep random numbers of their own')
        # torch seeds random, numpy and torch in every worker from the main process.
        loader.worker_init_fn = None

    def before_train_epoch(self, runner: Runner) -> None:
        set_random_seed((runner.seed + 1_000_003 * (runner.epoch + 1) + get_rank()) % 2**32)
