"""Importing and packaging."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from asl_det.commands.env import OPTIONAL

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


@pytest.mark.parametrize('hidden', [['mmdet'], ['mmengine'], ['mmengine', 'mmcv', 'mmdet']])
def test_without_mmdet_one_sentence_says_what_to_install(hidden):
    result = python(HIDE.format(hidden=hidden) + 'import asl_det; asl_det.detection')
    assert result.returncode == 1
    assert result.stderr.strip().splitlines()[-1] == (
        'ImportError: asl_det.detection needs MMDetection, but there is no module '
        f'{hidden[0]!r}: install a complete stack with: pip install "asl-det[openmmlab]"')


@pytest.mark.parametrize('command', [['train', 'x.py'], ['data', 'digits'], ['thresholds', 'x.npz'],
                                     ['config', 'x.py'], ['infer', 'x.pth', 'x.jpg']], ids=str)
def test_without_mmdet_a_command_says_in_one_line_what_to_install(command):
    result = python(HIDE.format(hidden=['mmengine', 'mmcv', 'mmdet'])
                    + f'from asl_det.commands.main import main; main({command})')
    assert (result.returncode, result.stderr) == (1, (
        "error: this command needs MMDetection, but there is no module 'mmengine': install a "
        'complete stack with: pip install "asl-det[openmmlab]"\n'))


TORCH_ALONE = """
import time, torch
start = time.process_time()
from asl_det.losses import AsymmetricLoss, asymmetric_loss
seconds = time.process_time() - start
assert seconds < 0.3, seconds

torch.manual_seed(0)
x, hidden = torch.randn(500, 20), torch.randn(20, 5)
y = (x @ hidden > 4).float()
model, loss = torch.nn.Linear(20, 5), AsymmetricLoss(adaptive=dict(delta_p_target=0.1))
optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
before = loss(model(x), y).item()
for _ in range(100):
    optimizer.zero_grad()
    loss(model(x), y).backward()
    optimizer.step()
print(loss(model(x), y) < before / 4, loss.gamma_neg != 4)
print(asymmetric_loss(torch.zeros(2, 3), torch.tensor([0, 3]), gamma_pos=0, gamma_neg=4,
                      clip=0.05).shape)
try:
    loss(torch.zeros(2, 3), torch.tensor([[0., 1, 0], [0, 0, 7]]))
except ValueError as error:
    print(error)
loss.adaptive.load_state_dict({}, strict=False)
"""


def test_the_loss_needs_torch_alone():
    """Quickly imported, trained with, and as clear about a mistake as ever."""
    hidden = ['mmdet', 'mmcv', 'mmengine', 'torchvision', 'numpy', 'scipy', 'matplotlib', 'rich',
              'pycocotools', 'PIL', 'cv2', 'yaml', 'sklearn']
    # So that torch may still ask for their specs.
    result = python(f'import sys; sys.modules.update(dict.fromkeys({hidden}))' + TORCH_ALONE)
    assert result.stdout.splitlines() == [
        'tensor(True) True', 'torch.Size([2, 3])',
        'target 7 at position [1, 2]: expected 0 to 1 (probabilities or 0 / 1), or ignore_index '
        '-1'], result.stderr
    assert 'the checkpoint has no gamma_neg: gamma_neg stays at' in result.stderr


@pytest.mark.parametrize('first', [
    'import mmdet.registry', 'import mmcv.ops', 'from asl_det.training.hooks import GuardHook',
    'asl_det.multilabel'])
def test_what_a_config_names_is_there_however_openmmlab_comes_in(first):
    """Not imported by the loss, and then all at once before anything else of it is."""
    result = python('import sys, asl_det\n'
                    'from asl_det.losses import AsymmetricLoss\n'
                    'assert not {"mmengine", "mmcv", "mmdet"} & set(sys.modules)\n'
                    f'{first}\n'
                    'import mmcv, mmdet, mmengine\n'
                    'from mmdet.registry import HOOKS, MODELS\n'
                    'assert MODELS.get("AsymmetricLoss") is AsymmetricLoss\n'
                    'assert HOOKS.get("mmdet.GuardHook") and asl_det.MODELS is MODELS\n'
                    'assert mmengine.__spec__.origin and mmengine.__spec__.name == "mmengine"\n'
                    'assert asl_det.multilabel is sys.modules["asl_det.multilabel"]\n'
                    'import mmdet.models; print(hasattr(asl_det, "no_such_room"))')
    assert result.stdout.splitlines()[-1:] == ['False'], result.stderr


def test_importing_is_cheap_and_makes_mmdet_models_importable():
    result = python('import sys, asl_det.registered\n'
                    'assert "mmdet.models" not in sys.modules\n'
                    'assert "matplotlib" not in sys.modules\n'
                    'assert "mmcv.ops" not in sys.modules\n'
                    'import mmdet.models; print("ok")')
    assert result.stdout.splitlines()[-1:] == ['ok'], result.stderr


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


def required():
    text = Path('pyproject.toml').read_text()
    return re.search(r'^dependencies = \[(.*?)\]', text, re.S | re.M).group(1)


def test_the_package_itself_requires_no_openmmlab_package():
    assert 'torch' in required()
    assert not re.search('mmdet|mmcv|mmengine|onedl', required())


OF_OPENMMLAB = {'mmengine', 'mmcv', 'mmdet', 'cv2', 'yaml', 'PIL'}
OF_TORCH = {'triton'}
OF_THE_USER = {'safetensors', 'pavi'}  # for files that only they write


def test_what_is_imported_is_required_or_named_by_env():
    for path in Path('asl_det').rglob('*.py'):
        nodes = list(ast.walk(ast.parse(path.read_text())))
        names = [node.module for node in nodes if isinstance(node, ast.ImportFrom)]
        names += [name.name for node in nodes if isinstance(node, ast.Import)
                  for name in node.names]
        found = {name.partition('.')[0] for name in names}
        for module in found - sys.stdlib_module_names - {'asl_det'}:
            name = module.replace('sklearn', 'scikit-learn')
            assert (f'"{name}' in required() or module in OPTIONAL
                    or module in OF_OPENMMLAB | OF_TORCH | OF_THE_USER), (path, module)


def test_nothing_in_the_package_imports_mmdet_models_at_import_time():
    for path in Path('asl_det').rglob('*.py'):
        assert not re.search(r'^(from|import) mmdet\.models', path.read_text(), re.M), path
