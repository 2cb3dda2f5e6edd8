import os
import urllib.error

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer, MessageHub
from mmengine.runner import CheckpointLoader, load_checkpoint

from asl_det.compat import UnsafeCheckpointError, checkpoint
from asl_det.errors import UserError


class Payload:
    """Unpickling this makes a folder: the sign that code was run."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


class GetattrPayload(Payload):

    def __reduce__(self):
        return getattr, (HistoryBuffer, '__init__')


@pytest.fixture
def record(request):
    hub = MessageHub.get_instance(request.node.name)
    hub.update_scalar('loss', 1.5)
    hub.update_scalar('loss', np.float32(0.5))
    hub.update_info('metric', np.float64(0.25))
    return dict(state_dict=dict(weight=torch.arange(3.0)), message_hub=hub.state_dict(),
                meta=dict(seed=np.int64(3), classes=('a', 'b'), array=np.arange(4)))


def old_torch(path, map_location=None):
    """What _load does where torch takes no named allow-list (before 2.6)."""
    return torch.load(path, map_location=map_location, weights_only=False,
                      pickle_module=checkpoint._restricted_pickle())


@pytest.fixture(params=['this torch', 'torch before 2.6'])
def loader(request, monkeypatch):
    if request.param != 'this torch':
        monkeypatch.setattr(checkpoint, '_load', old_torch)


@pytest.mark.usefixtures('loader')
def test_mmengines_own_checkpoints_load(tmp_path, record):
    path = str(tmp_path / 'good.pth')
    torch.save(record, path)
    loaded = CheckpointLoader.load_checkpoint(path)
    assert torch.equal(loaded['state_dict']['weight'], torch.arange(3.0))
    history = loaded['message_hub']['log_scalars']['loss']
    assert history.data[0].tolist() == [1.5, 0.5]
    assert history.statistics('mean') == 1.0
    assert loaded['message_hub']['runtime_info']['metric'] == 0.25
    assert loaded['meta']['seed'] == 3 and loaded['meta']['array'].tolist() == [0, 1, 2, 3]


@pytest.mark.usefixtures('loader')
@pytest.mark.parametrize('payload', [Payload, GetattrPayload])
def test_a_checkpoint_that_carries_code_is_refused(tmp_path, record, payload):
    path, proof = str(tmp_path / 'bad.pth'), tmp_path / 'executed'
    torch.save(dict(record, extra=payload(proof)), path)
    with pytest.raises(UnsafeCheckpointError) as error:
        load_checkpoint(torch.nn.Linear(1, 1), path)
    assert not proof.exists()
    message = str(error.value)
    assert path in message and 'could run code' in message and '\n' not in message
    assert ('mkdir' if payload is Payload else 'getattr') in message


@pytest.mark.parametrize('keep', [0, 0.5])
def test_a_damaged_checkpoint_is_named(tmp_path, record, keep):
    path = tmp_path / 'cut.pth'
    torch.save(record, path)
    path.write_bytes(path.read_bytes()[:int(keep * path.stat().st_size)])
    with pytest.raises(UserError, match='cut.pth can not be read: it is damaged'):
        load_checkpoint(torch.nn.Linear(1, 1), str(path))


def test_a_missing_checkpoint_is_named():
    with pytest.raises(FileNotFoundError, match='checkpoint nowhere.pth does not exist'):
        load_checkpoint(torch.nn.Linear(1, 1), 'nowhere.pth')


@pytest.mark.parametrize('prefix', ['', 'torchvision://', 'open-mmlab://'])
def test_weights_from_a_url_are_read_by_the_same_allow_list(tmp_path, monkeypatch, prefix):
    downloaded = []

    def download(url, path, hash_prefix=None, progress=True):
        downloaded.append(url)
        torch.save(dict(extra=Payload(tmp_path / 'executed')), path)

    monkeypatch.setattr(torch.hub, 'download_url_to_file', download)
    monkeypatch.setenv('TORCH_HOME', str(tmp_path))
    name = {'torchvision://': 'resnet18', 'open-mmlab://': 'detectron/resnet50_caffe'}.get(
        prefix, 'https://example.com/model.pth')
    with pytest.raises(UnsafeCheckpointError):
        CheckpointLoader.load_checkpoint(prefix + name)
    assert len(downloaded) == 1 and downloaded[0].startswith('https://')
    assert not (tmp_path / 'executed').exists()


def test_weights_that_can_not_be_downloaded_are_explained(tmp_path, monkeypatch):

    def download(url, path, hash_prefix=None, progress=True):
        raise urllib.error.URLError('no route')

    monkeypatch.setattr(torch.hub, 'download_url_to_file', download)
    monkeypatch.setenv('TORCH_HOME', str(tmp_path))
    with pytest.raises(ConnectionError, match='example.com/model.pth can not be downloaded'):
        CheckpointLoader.load_checkpoint('https://example.com/model.pth')
