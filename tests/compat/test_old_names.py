"""What version 0.1 wrote goes on: its code stopped ``run_of_0.1`` after six of eight steps."""

import shutil
import sys
from importlib import import_module
from pathlib import Path

import pytest
import torch
from interrupted import train

from asl_det.compat.old_names import OLD, new_name
from asl_det.config.new_style import find_registered
from asl_det.engine import load_config

FOLDER = Path(__file__).parent
RUN = FOLDER / 'run_of_0.1'
OF_ITS_CODE = 'asl_det.hooks.epoch_seed.EpochSeedHook'


@pytest.fixture
def config_of_0_1(tmp_path):
    """The dumped config, with a class by its path then."""
    text = (RUN / '20261130_235804.py').read_text()
    assert "'mmdet.EpochSeedHook'" in text
    path = tmp_path / 'config.py'
    path.write_text(text.replace("'mmdet.EpochSeedHook'", repr(OF_ITS_CODE)))
    return path


def test_a_run_of_0_1_is_resumed_and_ends_with_the_same_weights(tmp_path, config_of_0_1):
    shutil.copytree(RUN, tmp_path / 'run')
    last = train(load_config(str(config_of_0_1)), tmp_path / 'run', resume='auto')
    assert last.name == 'epoch_2.pth'
    found, then = (torch.load(path, weights_only=False)
                   for path in (last, FOLDER / 'uninterrupted_of_0.1.pth'))
    assert found['state_dict'].keys() == then['state_dict'].keys()
    for name, value in then['state_dict'].items():
        torch.testing.assert_close(found['state_dict'][name], value, rtol=1e-6, atol=1e-7)


def test_a_class_by_its_path_of_0_1_has_its_registered_name():
    assert find_registered(OF_ITS_CODE).name == 'EpochSeedHook'


@pytest.mark.parametrize('old', OLD)
def test_every_old_name_is_a_module(old):
    name = f'asl_det.{old}'
    module = import_module(name)
    assert module is import_module(new_name(name)) and module.__spec__.name == new_name(name)


def test_what_people_import_stays_where_it_was():
    import asl_det
    from asl_det.detection import print_swaps, swap_losses, take_swap  # noqa: F401
    from asl_det.inference import MultiLabelInferencer  # noqa: F401
    from asl_det.losses import (  # noqa: F401
        AdaptiveGamma,
        AsymmetricLoss,
        AsymmetricLossSingleLabel,
        RoIAsymmetricLoss,
        asymmetric_loss,
    )
    with pytest.warns(FutureWarning, match='asl_det.training.hooks now'):
        sys.modules.pop('asl_det.hooks', None)
        vars(asl_det).pop('hooks', None)
        assert asl_det.hooks.GuardHook


def test_other_names_are_not_found():
    assert new_name('asl_det.losses') is None and new_name('numpy.hooks') is None
    with pytest.raises(ModuleNotFoundError):
        __import__('asl_det.nothing')
