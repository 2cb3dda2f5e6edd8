"""Text is UTF-8 whatever the locale says."""

import ast
import csv
import os
import subprocess
import sys
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.registry import MODELS
from PIL import Image

CLASSES = ['猫', 'Eichhörnchen']
CONFIG = f"""
default_scope = 'mmdet'
classes = {CLASSES}
model = dict(
    type='MultiLabelClassifier',
    data_preprocessor=dict(type='ImgDataPreprocessor', mean=[0, 0, 0], std=[255, 255, 255]),
    backbone=dict(type='TimmBackbone', model_name='test_resnet'),
    head=dict(type='LinearHead', num_classes=2,
              loss=dict(type='AsymmetricLoss', use_sigmoid=True)))
test_dataloader = dict(
    batch_size=2, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(type='CSVMultiLabelDataset', ann_file='FOLDER/labels.csv',
                 data_prefix=dict(img_path='FOLDER'), metainfo=dict(classes=classes),
                 test_mode=True, pipeline=[dict(type='LoadImageFromFile'),
                                           dict(type='PackMultiLabel')]))
test_evaluator = dict(type='MultiLabelMetric', classwise=True)
test_cfg = dict(type='TestLoop')
custom_imports = dict(imports=['asl_det'], allow_failed_imports=False)
"""


def in_the_locales_encoding(call):
    """Whether a call opens text and does not say with which encoding."""
    name = getattr(call.func, 'attr', getattr(call.func, 'id', ''))
    given = {k.arg: k.value for k in call.keywords}
    if name == 'open' and isinstance(call.func, ast.Name):
        mode = call.args[1] if len(call.args) > 1 else given.get('mode', ast.Constant('r'))
        place = None if 'b' in mode.value else 3
    else:
        place = dict(read_text=0, write_text=1).get(name) if hasattr(call.func, 'attr') else None
    return place is not None and 'encoding' not in given and len(call.args) <= place


def test_no_text_is_read_or_written_in_the_encoding_of_the_locale():
    assert not [f'{path}:{node.lineno}' for folder in ('asl_det', 'tools')
                for path in sorted(Path(folder).rglob('*.py'))
                for node in ast.walk(ast.parse(path.read_text('utf-8')))
                if isinstance(node, ast.Call) and in_the_locales_encoding(node)]


def test_class_names_of_any_script_are_tested_and_written_in_an_ascii_locale(tmp_path):
    config = tmp_path / 'config.py'
    config.write_text(CONFIG.replace('FOLDER', str(tmp_path)), 'utf-8')
    (tmp_path / 'labels.csv').write_text('a.png,猫\nb.png,Eichhörnchen\n', 'utf-8')
    for name in ('a.png', 'b.png'):
        Image.new('RGB', (32, 32)).save(tmp_path / name)
    model = MODELS.build(dict(Config.fromfile(config).model, _scope_='mmdet'))
    torch.save(dict(state_dict=model.state_dict(), meta={}), tmp_path / 'a.pth')
    env = dict(os.environ, LC_ALL='C', PYTHONUTF8='0', PYTHONCOERCECLOCALE='0')
    result = subprocess.run(
        [sys.executable, 'tools/test.py', str(config), str(tmp_path / 'a.pth'), '--work-dir',
         str(tmp_path / 'run'), '--out', str(tmp_path / 'results.json')],
        capture_output=True, env=env)
    assert result.returncode == 0, result.stderr[-3000:]
    with open(tmp_path / 'results.classes.csv', newline='', encoding='utf-8') as file:
        assert [row['class'] for row in csv.DictReader(file)] == CLASSES
