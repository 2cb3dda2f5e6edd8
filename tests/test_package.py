"""Importing and packaging."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

HIDE = '''
import sys
class Hide:
    def find_spec(name, path=None, target=None):
        if name.split('.')[0] in {hidden!r}:
            raise ModuleNotFoundError(f'No module named {{name!r}}', name=name)
sys.meta_path.insert(0, Hide)
'''


def python(code):
    return subprocess.run([sys.executable, '-W', 'ignore', '-c', code], capture_output=True,
                          text=True)


@pytest.mark.parametrize('hidden', [['mmdet'], ['mmengine'], ['mmdet', 'mmcv', 'mmengine']])
def test_without_mmdet_one_sentence_says_what_to_install(hidden):
    result = python(HIDE.format(hidden=hidden) + 'import asl_det')
    assert result.returncode == 1
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith('ImportError: asl_det needs MMDetection')
    assert 'pip install "asl-det[openmmlab]"' in last


def test_importing_is_cheap_and_makes_mmdet_models_importable():
    result = python('import sys, asl_det\n'
                    'assert "mmdet.models" not in sys.modules\n'
                    'assert "matplotlib" not in sys.modules\n'
                    'assert "mmcv.ops" not in sys.modules\n'
                    'import mmdet.models; print("ok")')
    assert result.stdout.strip() == 'ok', result.stderr


THEIRS = """
import mmdet.registry
class AsymmetricLoss:
    pass
mmdet.registry.{registry}.register_module(name='{name}', module=AsymmetricLoss)
"""
ASK = """
import os
os.environ.update({env})
import asl_det
from asl_det.detection import swap_losses
from asl_det.registry import MODELS
from mmengine.config import Config
cfg = Config(dict(model=dict(type='RetinaNet', bbox_head=dict(type='RetinaHead', loss_cls=dict(
    type='FocalLoss', use_sigmoid=True)))))
swap_losses(cfg, 'asl')
print(MODELS.get('AsymmetricLoss').__module__, cfg.model.bbox_head.loss_cls.type)
"""


@pytest.mark.parametrize('registry, name', [('MODELS', 'AsymmetricLoss'), ('HOOKS', 'GuardHook')])
def test_a_name_that_another_package_holds_is_told_in_one_line(registry, name):
    result = python(THEIRS.format(registry=registry, name=name) + 'import asl_det')
    last = result.stderr.strip().splitlines()[-1]
    assert result.returncode == 1
    assert re.search(f'^ImportError: asl_det can not register {name}, a name that __main__ has .*'
                     f'set ASL_DET_LEAVE={name} to .* or ASL_DET_REPLACE={name} to give it', last)


@pytest.mark.parametrize('variable, expected', [
    ('LEAVE', '__main__ asl_det.losses.module.AsymmetricLoss'),
    ('REPLACE', 'asl_det.losses.module AsymmetricLoss')])
def test_people_choose_whose_a_name_is(variable, expected):
    result = python(THEIRS.format(registry='MODELS', name='AsymmetricLoss')
                    + ASK.format(env={f'ASL_DET_{variable}': 'X,AsymmetricLoss'}))
    assert result.stdout.strip() == expected, result.stderr


def test_registering_twice_is_no_error():
    result = python('import asl_det, importlib\n'
                    'from mmengine.utils import import_modules_from_strings\n'
                    'import_modules_from_strings(["asl_det"]); asl_det.compat.install()')
    assert result.returncode == 0, result.stderr


def test_the_package_itself_requires_no_openmmlab_package():
    text = Path('pyproject.toml').read_text()
    required = re.search(r'^dependencies = \[(.*?)\]', text, re.S | re.M).group(1)
    assert 'torch' in required
    assert not re.search('mmdet|mmcv|mmengine|onedl', required)


def test_nothing_in_the_package_imports_mmdet_models_at_import_time():
    for path in Path('asl_det').rglob('*.py'):
        assert not re.search(r'^(from|import) mmdet\.models', path.read_text(), re.M), path
