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
