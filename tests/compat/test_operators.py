"""What the rest of the process sees of the stand-in."""

import importlib.util

import mmcv.ops
import pytest
import torch
from mmcv.utils import collect_env, ext_loader
from processes import python

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec('mmcv._ext').origin.endswith('.so'),
    reason='a compiled mmcv is installed, so there is no stand-in to test')


def test_an_operator_without_a_stand_in_says_what_to_install():
    with pytest.raises(NotImplementedError, match="operator 'box_iou_rotated' needs an mmcv with"):
        mmcv.ops.box_iou_rotated(torch.rand(2, 5), torch.rand(2, 5))


def test_the_environment_is_described_as_without_compiled_operators():
    found = collect_env()
    assert found['MMCV Compiler'] == found['MMCV CUDA Compiler'] == 'n/a'
    assert 'PyTorch' in found


def run(*lines):
    result = python('-c', '\n'.join(lines))
    assert result.returncode == 0, result.stderr
    return result.stdout.split()


CHECK = 'print(__import__("mmcv.utils.ext_loader", fromlist="x").check_ops_exist())'


def test_no_compiled_operators_are_reported():
    assert not ext_loader.check_ops_exist()
    assert run(CHECK, 'import asl_det', CHECK, 'import mmcv.ops', CHECK) == ['False'] * 3


COMPILED = '''
import sys, types
from importlib.machinery import ModuleSpec
class Compiled:  # as the path finder would find mmcv/_ext.so
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name == 'mmcv._ext':
            return ModuleSpec(name, Compiled)
    @staticmethod
    def create_module(spec):
        return types.ModuleType(spec.name)
    @staticmethod
    def exec_module(module):
        module.compiled = True
'''


def test_a_compiled_mmcv_is_left_alone():
    """A module that Python finds by itself wins over the stand-in, whatever the import order."""
    found = run('import asl_det', COMPILED,
                'sys.meta_path.insert(len(sys.meta_path) - 1, Compiled)', CHECK,
                'import mmcv._ext', 'print(mmcv._ext.compiled)', CHECK)
    assert found == ['True'] * 3
