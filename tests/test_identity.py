"""What a result was made with."""

import json
import multiprocessing
import subprocess
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from small_digits import small_digits

import asl_det
from asl_det.engine import train
from asl_det.errors import UserError
from asl_det.identity import differences, hold, run_identity, source_hash, versions


@pytest.fixture
def data(tmp_path):
    root = tmp_path / 'data'
    (root / 'images').mkdir(parents=True)
    (root / 'train.json').write_text('{"data_list": [1]}')
    (root / 'names.txt').write_text('cat\ndog\n')
    (root / 'images' / '1.png').write_bytes(b'one')
    return root


def config(root, **changes):
    dataset = dict(type='Some', data_root=str(root), ann_file='train.json',
                   metainfo=dict(classes='names.txt'), data_prefix=dict(img_path='images/'))
    return Config(dict(work_dir='somewhere', model=dict(a=1, b=(1, 2)), randomness=dict(seed=0),
                       train_dataloader=dict(batch_size=2, dataset=dict(
                           type='RepeatDataset', dataset=dataset)), **changes))


def test_the_order_of_keys_and_the_folder_of_the_run_are_no_part_of_an_identity(data):
    one = config(data)
    other = Config(dict(reversed(one.to_dict().items()), work_dir='elsewhere'))
    assert run_identity(one) == run_identity(other)
    assert json.loads(json.dumps(run_identity(one))) == run_identity(one)


def changed(data, change):
    before = run_identity(config(data))
    change()
    return ' '.join(differences(before, run_identity(config(data))))


@pytest.mark.parametrize('file', ['train.json', 'names.txt', 'images/2.png', 'images/1.png'])
def test_annotations_by_content_and_images_by_name_and_size_are_part_of_an_identity(data, file):
    text = changed(data, lambda: (data / file).write_text('{"data_list": [2]}'))
    assert text.startswith('data.') and str((data / file).parent if 'png' in file
                                            else data / file) in text
    assert changed(data, lambda: (data / file).touch()) == ''


def test_annotations_in_a_folder_count_by_content(data):
    (data / 'images' / '1.xml').write_text('<name>cat</name>')
    assert 'images' in changed(data, lambda: (data / 'images' / '1.xml').write_text(
        '<name>dog</name>'))


def test_folders_that_a_data_set_finds_under_its_root_count_too(data, tmp_path, monkeypatch):
    cfg = config(data)
    del cfg.train_dataloader.dataset.dataset['data_prefix']
    before = run_identity(cfg)
    (data / 'images' / '1.png').write_bytes(b'another')
    assert len(differences(before, run_identity(cfg))) == 1
    monkeypatch.chdir(data)  # a root that holds the working directory holds results too
    before = run_identity(cfg)
    (data / 'log.png').write_bytes(b'a picture')
    assert run_identity(cfg) == before


def test_initial_weights_count_by_content(data, tmp_path):
    weights = tmp_path / 'w.pth'
    weights.write_bytes(b'a')
    before = run_identity(config(data, load_from=str(weights)))
    weights.write_bytes(b'b')
    found = differences(before, run_identity(config(data, load_from=str(weights))))
    assert len(found) == 1 and str(weights) in found[0]


def test_a_difference_names_key_and_both_values():
    a = dict(x=dict(gamma=2.0, gone=1), steps=[dict(t='A'), dict(t='B')])
    b = dict(x=dict(gamma=4.0, new={}), steps=[dict(t='A'), dict(t='C')])
    assert differences(a, b) == ["steps.1.t: 'B' -> 'C'", 'x.gamma: 2.0 -> 4.0',
                                 'x.gone: 1 -> nothing', 'x.new: nothing -> {}']
    assert differences(a, a) == []


def test_the_code_is_its_version_and_the_content_of_the_package(tmp_path):
    package = tmp_path / 'package'
    (package / 'sub').mkdir(parents=True)
    (package / 'sub' / 'a.py').write_text('one')
    before = source_hash(package)
    (package / 'sub' / '__pycache__').mkdir()
    (package / 'sub' / '__pycache__' / 'a.pyc').write_text('one')
    assert source_hash(package) == before
    (package / 'sub' / 'a.py').write_text('two')
    assert source_hash(package) != before
    found = versions()
    assert found['asl_det'] == asl_det.__version__ and found['torch'] == torch.__version__
    assert found['asl_det_source'] == source_hash(Path(asl_det.__file__).parent)


def git(folder, *args):
    subprocess.run(['git', '-C', folder, '-c', 'user.name=a', '-c', 'user.email=a@b', *args],
                   check=True, capture_output=True)


def test_the_commit_is_that_of_the_package_not_of_the_working_directory(tmp_path, monkeypatch):
    package = tmp_path / 'clone' / 'package'
    package.mkdir(parents=True)
    (package / '__init__.py').write_text('')
    monkeypatch.chdir(Path(__file__).parent)
    assert versions(package)['commit'] is None
    git(tmp_path / 'clone', 'init')
    # An environment inside somebody's repository: their commit says nothing about the package.
    git(tmp_path / 'clone', 'commit', '--allow-empty', '-m', 'theirs')
    assert versions(package)['commit'] is None
    git(tmp_path / 'clone', 'add', '.')
    git(tmp_path / 'clone', 'commit', '-m', 'ours')
    commit = versions(package)['commit']
    assert commit and not commit.endswith('-dirty')
    (package / '__init__.py').write_text('changed')
    assert versions(package)['commit'] == f'{commit}-dirty'


def hold_until(folder, event, held):
    with hold(folder):
        held.set()
        event.wait()


@pytest.fixture
def another_process_holds(tmp_path):
    context = multiprocessing.get_context('fork')
    process = None

    def start(folder):
        nonlocal process
        held = context.Event()
        process = context.Process(target=hold_until, args=(folder, context.Event(), held))
        process.start()
        assert held.wait(20)
        return process

    yield start
    process.kill()
    process.join()


def test_a_folder_is_held_by_one_process_and_free_when_it_was_killed(tmp_path,
                                                                     another_process_holds):
    other = another_process_holds(tmp_path)
    with pytest.raises(UserError, match=f'{tmp_path} is in use by another process'), \
            hold(tmp_path):
        pass
    other.kill()
    other.join()
    with hold(tmp_path):
        pass


def test_two_trainings_in_one_folder_are_refused(tmp_path, another_process_holds):
    cfg = small_digits(tmp_path / 'digits')
    another_process_holds(tmp_path / 'run')
    with pytest.raises(UserError, match='run is in use by another process'):
        train(cfg, work_dir=str(tmp_path / 'run'))
