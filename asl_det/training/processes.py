"""The processes that a launcher has started."""

import os
import shutil
from typing import Callable, TypeVar

import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.dist import broadcast_object_list, init_dist, is_distributed, is_main_process
from mmengine.utils.dl_utils import set_multi_processing

from asl_det.errors import UserError

T = TypeVar('T')
# What a launcher tells its processes, rank and number of processes first.
TOLD = {'pytorch': ('RANK', 'WORLD_SIZE', 'LOCAL_RANK', 'MASTER_PORT', 'MASTER_ADDR'),
        'slurm': ('SLURM_PROCID', 'SLURM_NTASKS', 'SLURM_NODELIST'),
        'mpi': ('OMPI_COMM_WORLD_RANK', 'OMPI_COMM_WORLD_SIZE', 'OMPI_COMM_WORLD_LOCAL_RANK',
                'MASTER_ADDR')}
STARTS = {'pytorch': 'torchrun --nproc_per_node=N -m asl_det train ... --launcher pytorch',
          'slurm': 'srun ... asl-det train ... --launcher slurm',
          'mpi': 'mpirun -np N -x MASTER_ADDR=HOST asl-det train ... --launcher mpi'}


def join_processes(cfg: Config) -> None:
    """Start the communication of a launcher's processes as the Runner would, before it is built."""
    if cfg.launcher == 'none' or is_distributed():
        return
    check_launcher(cfg.launcher)
    env = cfg.get('env_cfg') or {}
    set_multi_processing(**env.get('mp_cfg', {}), distributed=True)
    if cfg.launcher == 'pytorch' and not torch.cuda.is_available():
        torch.distributed.init_process_group('gloo')  # mmengine asks for GPUs
    else:
        init_dist(cfg.launcher, **env.get('dist_cfg', {}))


def check_launcher(launcher: str) -> None:
    """Raise UserError unless this process was started by the launcher, as its environment says."""
    if launcher not in TOLD:
        raise UserError(f'launcher={launcher!r}: expected none, {", ".join(TOLD)}')
    flag, told = f'--launcher {launcher}', TOLD[launcher]
    missing = [name for name in told if name not in os.environ]
    if missing:
        raise UserError(f'{flag}: {", ".join(missing)} {"are" if missing[1:] else "is"} not set, '
                        f'so no launcher has started this process: {STARTS[launcher]}')
    for name in told:
        value = os.environ[name]
        if not name.endswith(('ADDR', 'LIST')) and not value.strip().isdecimal():
            raise UserError(f'{flag}: {name}={value}: expected a number, as the launcher sets it')
    rank, size = (int(os.environ[name]) for name in told[:2])
    if rank >= size:
        raise UserError(f'{flag}: {told[0]}={rank} and {told[1]}={size}: expected ranks from 0 to '
                        f'{size - 1}')
    if launcher == 'slurm' and 'MASTER_ADDR' not in os.environ and not shutil.which('scontrol'):
        raise UserError(f'{flag}: there is no scontrol, which tells the first machine: set '
                        'MASTER_ADDR to its name')
    if launcher != 'pytorch' and get_device() == 'cpu':
        raise UserError(f'{flag} needs a GPU, and torch finds none: {STARTS["pytorch"]} trains on '
                        'CPUs')


def decided_by_main(decide: Callable[[], T]) -> T:
    """What the main process decides, the same for all; its error too."""
    found: list = [None, None]
    if is_main_process():
        try:
            found = [decide(), None]
        except Exception as error:
            found = [None, error]
    broadcast_object_list(found)
    if found[1] is not None:
        raise found[1]
    return found[0]
