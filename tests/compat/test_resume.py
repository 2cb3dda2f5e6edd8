"""mmdet's own tools/train.py resumes a run of a config that imports asl_det."""

import os
from pathlib import Path

import mmdet
import pytest
from processes import python

from asl_det.compat.checkpoint import load_from_local

CONFIG = '''
custom_imports = dict(imports=['asl_det', 'toy'], allow_failed_imports=False)
default_scope = 'mmdet'
model = dict(type='Toy')
train_dataloader = dict(
    batch_size=2, sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(type='ToyData', metainfo=dict(tree=dict(deep=dict(a=1)), classes=('a', 'b'))))
train_cfg = dict(by_epoch=True, max_epochs=1)
optim_wrapper = dict(optimizer=dict(type='AdamW', lr=0.1))
param_scheduler = dict(type='OneCycleLR', eta_max=0.1, total_steps=4, by_epoch=False)
'''
TOY = '''
import datetime
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch
from mmengine.dataset import BaseDataset
from mmengine.logging import MessageHub
from mmengine.model import BaseModel
from mmdet.registry import DATASETS, MODELS


@DATASETS.register_module()
class ToyData(BaseDataset):

    def load_data_list(self):
        self._metainfo['names'] = tuple(np.array(['cat', 'dog']))
        return [dict(x=float(i)) for i in range(4)]


@MODELS.register_module()
class Toy(BaseModel):

    def __init__(self, data_preprocessor=None):
        super().__init__(data_preprocessor)
        self.layer = torch.nn.Linear(1, 1)

    def forward(self, inputs=None, mode='tensor', **kwargs):
        hub = MessageHub.get_current_instance()
        epochs = hub.get_info('epochs', defaultdict(list))
        epochs.setdefault(hub.get_info('epoch'), []).append(datetime.date(2026, 11, 24))
        hub.update_info('epochs', epochs)
        hub.update_info('where', Path('here'))
        return dict(loss=self.layer(torch.tensor(kwargs['x'])[:, None]).mean())
'''
TRAIN = Path(mmdet.__file__).parent / '.mim/tools/train.py'


def train(folder, *args):
    env = {**os.environ, 'PYTHONPATH': os.pathsep.join([os.getcwd(), str(folder)]),
           'OMP_NUM_THREADS': '1'}
    result = python(TRAIN, folder / 'config.py', '--work-dir', folder / 'run', *args, env=env)
    return result.returncode, (result.stdout + result.stderr)[-6000:]


@pytest.mark.skipif(not TRAIN.exists(), reason='an mmdet without its tools')
def test_mmdets_own_training_resumes(tmp_path):
    (tmp_path / 'config.py').write_text(CONFIG)
    (tmp_path / 'toy.py').write_text(TOY)
    code, log = train(tmp_path)
    assert code == 0, log
    code, log = train(tmp_path, '--resume', '--cfg-options', 'train_cfg.max_epochs=2')
    assert code == 0, log
    assert 'resumed epoch: 1, iter: 2' in log
    assert (tmp_path / 'run/epoch_2.pth').exists()
    # what the first half has recorded goes on in the second
    saved = load_from_local(str(tmp_path / 'run/epoch_2.pth'))
    assert len(saved['message_hub']['log_scalars']['train/loss'].data[0]) == 4
    assert set(saved['message_hub']['runtime_info']['epochs']) == {0, 1}
    assert saved['meta']['dataset_meta']['tree'].deep.a == 1
