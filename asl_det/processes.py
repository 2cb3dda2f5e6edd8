"""The processes that a launcher has started."""

from typing import Callable, TypeVar

import torch
from mmengine.config import Config
from mmengine.dist import broadcast_object_list, init_dist, is_distributed, is_main_process
from mmengine.utils.dl_utils import set_multi_processing

T = TypeVar('T')


def join_processes(cfg: Config) -> None:
    """Start the communication of a launcher's processes as the Runner would, before it is built."""
    if cfg.launcher == 'none' or is_distributed():
        return
    env = cfg.get('env_cfg') or {}
    set_multi_processing(**env.get('mp_cfg', {}), distributed=True)
    if cfg.launcher == 'pytorch' and not torch.cuda.is_available():
        torch.distributed.init_process_group('gloo')  # mmengine asks for GPUs
    else:
        init_dist(cfg.launcher, **env.get('dist_cfg', {}))


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
