import hashlib
import os
import sys
import urllib.error
import warnings
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Tuple

import numpy as np
import pytest
import torch
from mmengine.fileio.backends.registry_utils import backends
from mmengine.logging import HistoryBuffer, MessageHub
from mmengine.runner import CheckpointLoader, load_checkpoint
from processes import python

from asl_det.compat import UnsafeCheckpointError
from asl_det.compat.checkpoint import load_from_local
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


class Scripted(torch.nn.Module):
    """Loading this TorchScript archive makes a file."""

    def __init__(self, path):
        super().__init__()
        self.path = path

    def forward(self, x):
        return x

    @torch.jit.export
    def __getstate__(self) -> Tuple[str, bool]:
        return self.path, self.training

    @torch.jit.export
    def __setstate__(self, state: Tuple[str, bool]) -> None:
        self.path, self.training = state
        if torch.from_file(self.path, True, 4).numel() != 4:
            raise ValueError('not made')


@pytest.fixture
def torchscript(tmp_path):
    """A TorchScript archive, and the file that running it makes."""
    path, proof = str(tmp_path / 'scripted.pth'), tmp_path / 'executed'
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        torch.jit.script(Scripted(str(proof))).save(path)
        torch.jit.load(path)
    assert proof.exists()
    proof.unlink()
    return path, proof


def test_a_torchscript_archive_is_refused_and_not_run(torchscript):
    path, proof = torchscript
    with pytest.raises(UnsafeCheckpointError, match='scripted.pth.*it is a TorchScript archive'):
        CheckpointLoader.load_checkpoint(path)
    assert not proof.exists()


def test_a_disguised_torchscript_archive_is_not_run(torchscript):
    path, proof = torchscript
    disguised = path.replace('scripted', 'disguised')
    with zipfile.ZipFile(path) as good, zipfile.ZipFile(disguised, 'w') as bad:
        for name in good.namelist():
            bad.writestr(name.replace('constants.pkl', 'Constants.pkl'), good.read(name))
    with pytest.raises(UnsafeCheckpointError, match='disguised.pth.*it asks for __torch__'):
        CheckpointLoader.load_checkpoint(disguised)
    assert not proof.exists()


def test_torchs_own_switches_do_not_change_what_is_loaded(tmp_path, record, monkeypatch):
    torch.save(record, tmp_path / 'good.pth')
    for name in ('TORCH_FORCE_WEIGHTS_ONLY_LOAD', 'TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD'):
        monkeypatch.setenv(name, '1')
        assert load_from_local(str(tmp_path / 'good.pth'))['meta']['seed'] == 3
        monkeypatch.delenv(name)


def test_safetensors_load(tmp_path):
    save_file = pytest.importorskip('safetensors.torch').save_file
    save_file(dict(weight=torch.arange(3.0)), tmp_path / 'x.safetensors')
    loaded = CheckpointLoader.load_checkpoint(str(tmp_path / 'x.safetensors'))
    assert torch.equal(loaded['weight'], torch.arange(3.0))


@pytest.mark.parametrize('zipped', [True, False])
@pytest.mark.parametrize('keep', [0, 0.5, 0.99])
def test_a_damaged_checkpoint_is_named(tmp_path, record, keep, zipped):
    path = tmp_path / 'cut.pth'
    torch.save(record, path, _use_new_zipfile_serialization=zipped)
    path.write_bytes(path.read_bytes()[:int(keep * path.stat().st_size)])
    with pytest.raises(UserError, match='cut.pth (can not be read: it is damaged|is empty)'):
        load_checkpoint(torch.nn.Linear(1, 1), str(path))


@pytest.mark.parametrize('content', [b'<html>404</html>', b'PK\x03\x04 and no archive', b'\0' * 99])
def test_a_file_that_is_no_checkpoint_is_named(tmp_path, content):
    (tmp_path / 'page.pth').write_bytes(content)
    with pytest.raises(UserError, match='page.pth (can not be read: it is damaged|is an HTML)'):
        load_from_local(str(tmp_path / 'page.pth'))


def test_a_storage_that_claims_more_than_its_record_is_damage(tmp_path):
    # where torch does not look (before 2.10), this reads memory past the end
    torch.save(torch.arange(4.0), tmp_path / 'good.pth')
    with zipfile.ZipFile(tmp_path / 'good.pth') as good, \
            zipfile.ZipFile(tmp_path / 'bad.pth', 'w') as bad:
        for name in good.namelist():
            data = good.read(name)
            if name.endswith('data.pkl'):
                assert data.count(b'K\x04') == 2
                data = data.replace(b'K\x04', b'J\x00\x00\x00\x10')
            bad.writestr(name, data)
    with pytest.raises(UserError, match='bad.pth can not be read: it is damaged'):
        load_from_local(str(tmp_path / 'bad.pth'))


@pytest.mark.skipif(torch.cuda.is_available(), reason='there it loads')
@pytest.mark.parametrize('zipped', [True, False])
def test_a_gpu_checkpoint_without_gpu_keeps_torchs_message(tmp_path, monkeypatch, zipped):
    monkeypatch.setattr(torch.serialization, 'location_tag', lambda storage: 'cuda:0')
    torch.save(dict(weight=torch.ones(1)), tmp_path / 'gpu.pth',
               _use_new_zipfile_serialization=zipped)
    path = str(tmp_path / 'gpu.pth')
    with pytest.raises(RuntimeError, match=r'torch.cuda.is_available\(\) is False'):
        load_from_local(path)
    assert load_from_local(path, 'cpu')['weight'] == 1


@pytest.mark.parametrize('problem', [torch.cuda.OutOfMemoryError('CUDA out of memory'),
                                     MemoryError(), ValueError('my own'), KeyError('cuda:7')])
def test_errors_of_the_device_keep_their_message(tmp_path, problem):
    torch.save(dict(weight=torch.ones(1)), tmp_path / 'x.pth')

    def map_location(storage, location):
        raise problem

    with pytest.raises(type(problem)) as error:
        load_from_local(str(tmp_path / 'x.pth'), map_location)
    assert error.value is problem


def test_a_missing_checkpoint_is_named():
    with pytest.raises(FileNotFoundError, match='checkpoint nowhere.pth does not exist'):
        load_checkpoint(torch.nn.Linear(1, 1), 'nowhere.pth')


SCHEMES = ['', 'file', 'https://example.com/model.pth', 'torchvision://resnet18',
           'modelzoo://resnet18', 'mmcls://vgg11', 'open-mmlab://detectron/resnet50_caffe',
           'openmmlab://mine', 's3://bucket/model.pth', 'open-mmlab:s3://bucket/model.pth',
           'petrel://bucket/model.pth', 'pavi://team/model.pth']


@pytest.fixture
def everywhere(tmp_path, monkeypatch):
    """Puts a checkpoint behind each scheme that mmengine knows."""

    def put(content):
        torch.save(content, tmp_path / 'model.pth')
        data = (tmp_path / 'model.pth').read_bytes()

        class Petrel:

            def __init__(self, **kwargs):
                pass

            def get(self, filename):
                return data

        model = SimpleNamespace(
            name='model.pth', download=lambda path: Path(path).write_bytes(data))
        monkeypatch.setattr(torch.hub, 'download_url_to_file',
                            lambda url, path, *args: Path(path).write_bytes(data))
        monkeypatch.setitem(backends, 'petrel', Petrel)
        monkeypatch.setitem(sys.modules, 'pavi', SimpleNamespace(
            modelcloud=SimpleNamespace(get={'team/model.pth': model}.get)))
        monkeypatch.setenv('TORCH_HOME', str(tmp_path))
        monkeypatch.setenv('MMENGINE_HOME', str(tmp_path))
        (tmp_path / 'open_mmlab.json').write_text('{"mine": "model.pth"}')

    return put


@pytest.mark.parametrize('name', SCHEMES)
def test_every_scheme_of_mmengine_loads_by_the_same_allow_list(tmp_path, everywhere, name):
    path = name if '://' in name else str(tmp_path / 'model.pth')
    everywhere(dict(state_dict={'backbone.a': torch.ones(1)}, meta=dict(loss=HistoryBuffer())))
    assert 'state_dict' in CheckpointLoader.load_checkpoint(path)


@pytest.mark.parametrize('name', SCHEMES)
def test_every_scheme_of_mmengine_refuses_code(tmp_path, everywhere, name):
    path = name if '://' in name else str(tmp_path / 'model.pth')
    everywhere(dict(extra=Payload(tmp_path / 'executed')))
    with pytest.raises(UnsafeCheckpointError, match='mkdir'):
        CheckpointLoader.load_checkpoint(path)
    assert not (tmp_path / 'executed').exists()


def test_no_scheme_of_mmengine_is_forgotten():
    known = {'', 'http://', 'https://', 'pavi://', r'(\S+\:)?s3://', r'(\S+\:)?petrel://',
             'modelzoo://', 'torchvision://', 'open-mmlab://', 'openmmlab://', 'mmcls://'}
    assert set(CheckpointLoader._schemes) - {'package://'} == known


def test_a_model_that_no_list_has_is_named():
    with pytest.raises(UserError, match='open-mmlab://nonsense: mmengine lists no such model'):
        CheckpointLoader.load_checkpoint('open-mmlab://nonsense')


@pytest.mark.parametrize('name,digest', [
    ('resnet18-f37072fd.pth', 'f37072fd'),
    ('retinanet_r50_fpn_1x_coco_20200130-c2398f9e.pth', 'c2398f9e'),
    ('model-20210101-c2398f9e.pth.tar', 'c2398f9e'),
    ('model-12345678.pth', '12345678'),
    ('model-20211399.pth', '20211399'),
    ('model-20210101.pth', None),
    ('model-20210101235959.pth', None),
    ('model_20210101.pth', None),
    ('model-20210101.v2-c2398f9e.pth', 'c2398f9e'),
    ('model-fine.pth', None)])
def test_a_date_in_a_files_name_is_not_a_hash(tmp_path, monkeypatch, name, digest):
    asked = []

    def download(url, path, hash_prefix=None, progress=True):
        asked.append(hash_prefix)
        torch.save(dict(weight=torch.ones(1)), path)

    monkeypatch.setattr(torch.hub, 'download_url_to_file', download)
    monkeypatch.setenv('TORCH_HOME', str(tmp_path))
    CheckpointLoader.load_checkpoint(f'https://example.com/{name}')
    assert asked == [digest]


@pytest.fixture
def served(tmp_path, monkeypatch):
    """What torch.hub would download, by URL; and the URLs that were."""
    content, asked = {}, []

    def download(url, path, hash_prefix=None, progress=True):
        asked.append(url)
        torch.save(dict(weight=torch.full((1,), content[url])), path)

    monkeypatch.setattr(torch.hub, 'download_url_to_file', download)
    monkeypatch.setenv('TORCH_HOME', str(tmp_path))
    return content, asked


def test_weights_of_one_name_are_told_apart_by_their_whole_url(served, tmp_path):
    content, asked = served
    content.update({'https://a.org/run1/epoch_12.pth': 1, 'https://a.org/run2/epoch_12.pth': 2,
                    'http://b.org/run1/epoch_12.pth': 3, 'https://a.org/get/?id=4': 4,
                    'https://a.org/get/?id=5': 5, 'https://a.org/run1/epoch_12.pth?v=6': 6})
    # As torch.hub keeps them: of whichever URL it was.
    (tmp_path / 'hub/checkpoints').mkdir(parents=True)
    torch.save(dict(weight=torch.zeros(1)), tmp_path / 'hub/checkpoints/epoch_12.pth')
    for _ in range(2):
        for url, value in content.items():
            assert CheckpointLoader.load_checkpoint(url)['weight'].item() == value
    assert asked == list(content)  # once each


def test_a_cached_file_is_known_by_the_hash_in_its_name_if_it_is_that_of_its_content(
        served, tmp_path):
    content, asked = served
    cache = tmp_path / 'hub/checkpoints'
    cache.mkdir(parents=True)
    torch.save(dict(weight=torch.zeros(1)), cache / 'a')
    digest = hashlib.sha256((cache / 'a').read_bytes()).hexdigest()[:8]
    (cache / 'a').rename(cache / f'net-{digest}.pth')
    assert CheckpointLoader.load_checkpoint(
        f'https://a.org/net-{digest}.pth')['weight'].item() == 0 and not asked
    torch.save(dict(weight=torch.ones(1)), cache / f'net-{digest}.pth')
    content[f'https://a.org/net-{digest}.pth'] = 2
    assert CheckpointLoader.load_checkpoint(
        f'https://a.org/net-{digest}.pth')['weight'].item() == 2


def test_weights_that_can_not_be_downloaded_are_explained(tmp_path, monkeypatch):

    def download(url, path, hash_prefix=None, progress=True):
        raise urllib.error.URLError('no route')

    monkeypatch.setattr(torch.hub, 'download_url_to_file', download)
    monkeypatch.setenv('TORCH_HOME', str(tmp_path))
    with pytest.raises(ConnectionError, match='example.com/model.pth can not be downloaded'):
        CheckpointLoader.load_checkpoint('https://example.com/model.pth')


CHANGED = '''
from importlib.util import find_spec
from mmengine.runner import CheckpointLoader, checkpoint
def loading():
    schemes = {k: v for k, v in CheckpointLoader._schemes.items() if k != 'package://'}
    return schemes, checkpoint.load_url
before = loading()
import asl_det
print(loading() != before, find_spec('mmcv._ext') is not None)
'''


@pytest.mark.parametrize('env,changed', [
    ({'ASL_DET_CHECKPOINTS': '0'}, 'False True'), ({'ASL_DET_OPERATORS': '0'}, 'True False')])
def test_an_environment_variable_switches_off_each_change_of_importing(env, changed):
    result = python('-c', CHANGED, env={**os.environ, **env})
    assert result.stdout.strip() == changed, result.stderr
