"""The multi-label digits config on a few images, for a training of one epoch."""

from mmengine.config import Config

from asl_det.data.digits import make_digits

CONFIG = 'configs/multilabel/resnet18-w16_asl_digits.py'


def small_digits(root):
    """Make the images in ``root``; the config that reads them."""
    make_digits(root, num_train=16, num_val=8, size=64, digits_per_image=(1, 3),
                digit_size=(20, 32), clutter=2)
    cfg = Config.fromfile(CONFIG)
    cfg.merge_from_dict({
        **{f'{split}_dataloader.dataset.data_root': str(root) for split in ('train', 'val')},
        'train_cfg.max_epochs': 1, 'train_cfg.val_interval': 1, 'train_dataloader.batch_size': 8,
        'default_hooks.monitor.interval': 1})
    cfg.param_scheduler = []
    return cfg
