"""Configs that travel with the package, by names: asl_det::folder/name.py."""

from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.registry import init_default_scope

from asl_det.config.read import read_config
from asl_det.errors import UserError
from asl_det.registry import DATASETS, MODELS

# One of every folder.
CONFIGS = {p.parent: p for p in Path('configs').glob('**/*.py') if p.parent.name != '_base_'}


@pytest.mark.parametrize('path', CONFIGS.values(), ids=str)
def test_every_config_is_found_by_its_name(path):
    found = read_config(f'asl_det::{path.relative_to("configs").as_posix()}')
    expected = read_config(str(path))
    assert found.to_dict() == expected.to_dict()


def test_a_config_of_ones_own_is_built_on_one_by_its_name(tmp_path):
    mine = tmp_path / 'mine.py'
    mine.write_text("_base_ = ['asl_det::multilabel/resnet18-w16_asl_digits.py']\n"
                    "model = dict(head=dict(loss=dict(clip=0.2)))\n")
    cfg = Config.fromfile(mine)
    init_default_scope(cfg.default_scope)
    assert MODELS.build(cfg.model).head.loss_cls.clip == 0.2
    dataset = DATASETS.build(dict(cfg.val_dataloader.dataset, lazy_init=True))
    assert type(dataset).__name__ == 'CocoMultiLabelDataset' and dataset.pipeline.transforms


def test_a_name_of_no_config_is_told_in_one_line():
    with pytest.raises(UserError, match='^config asl_det::digits/none.py can not be read: .*digits'
                                        '/none.py" does not exist$'):
        read_config('asl_det::digits/none.py')
