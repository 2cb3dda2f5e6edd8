"""What a result was made with."""

import importlib
import importlib.metadata
import json
import multiprocessing
import os
import subprocess
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from small_digits import small_digits

import asl_det
import asl_det.config.run_identity
from asl_det.config.run_identity import run_identity
from asl_det.engine import train
from asl_det.errors import UserError
from asl_det.files.code import source_hash, versions
from asl_det.files.identity import differences, hold


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


@pytest.mark.parametrize('root, prefix', [
    ('data', 'images/'), ('data/', 'images'), ('./data', './images'), ('data//', 'images/.'),
    ('data/../data', 'images//')])
@pytest.mark.parametrize('kind', ['Some', 'BaseDataset'])
def test_a_folder_is_one_however_it_is_spelled(data, monkeypatch, root, prefix, kind):
    monkeypatch.chdir(data.parent)
    (data / 'train.json').write_text(json.dumps(dict(
        metainfo={}, data_list=[dict(img_path='1.png')])))

    def identity(root, prefix):
        cfg = config(root)
        cfg.train_dataloader.dataset.dataset.update(type=kind, data_prefix=dict(img_path=prefix),
                                                    metainfo=dict(classes=('a/', 'b')))
        return run_identity(cfg)
    assert differences(identity('data', 'images'), identity(root, prefix)) == []
    assert identity('data', 'images')['config'][
        'train_dataloader']['dataset']['dataset']['metainfo']['classes'] == ['a/', 'b']


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


def png(path, value=0):
    """An image; of any value it has as many bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes([value]) * 100)


def coco(root, *names):
    (root / 'coco.json').write_text(json.dumps(dict(
        images=[dict(id=i, file_name=str(n), width=9, height=9) for i, n in enumerate(names)],
        annotations=[dict(id=i + 1, image_id=i, category_id=1, bbox=[0, 0, 4, 4], area=16,
                          iscrowd=0) for i in range(len(names))],
        categories=[dict(id=1, name='cat')])))
    return dict(type='CocoDataset', data_root=str(root), ann_file='coco.json',
                data_prefix=dict(img=''), metainfo=dict(classes=('cat',)))


def csv(root, *names):
    (root / 'labels.csv').write_text(''.join(f'{n},cat\n' for n in names))
    return dict(type='CSVMultiLabelDataset', data_root=str(root), ann_file='labels.csv',
                metainfo=dict(classes=('cat',)))


def voc(root, *names):
    (root / 'VOC/Annotations').mkdir(parents=True)
    for name in names:
        (root / f'VOC/Annotations/{name}.xml').write_text(
            '<annotation><size><width>9</width><height>9</height></size><object>'
            '<name>cat</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>4</xmax><ymax>4</ymax>'
            '</bndbox></object></annotation>')
    (root / 'list.txt').write_text('\n'.join(names))
    return dict(type='XMLDataset', data_root=str(root), ann_file='list.txt',
                metainfo=dict(classes=('cat',)))


# The data set of a root, and the images that it names.
REACHED = {
    'below a prefix': (lambda r: dict(coco(r, 'a.png'), data_prefix=dict(img='im/')),
                       'r/im/a.png'),
    'beside the prefix': (lambda r: dict(coco(r, '../far/a.png'), data_prefix=dict(img='im/')),
                          'r/far/a.png'),
    'outside the root': (lambda r: coco(r, '../a.png'), 'a.png'),
    'absolute': (lambda r: dict(coco(r, r.parent / 'a.png'), data_prefix=dict(img='im/')),
                 'a.png'),
    'without a prefix': (lambda r: coco(r, 'deep/er/a.png'), 'r/deep/er/a.png'),
    'absolute in a csv': (lambda r: csv(r, r.parent / 'a.png'), 'a.png'),
    'relative to where we are': (lambda r: dict(csv(r, 'r/a.png'), data_root=''), 'r/a.png'),
    'a list of VOC': (lambda r: dict(voc(r, 'a'), data_prefix=dict(sub_data_root='VOC/')),
                      'r/VOC/JPEGImages/a.jpg'),
}


@pytest.mark.parametrize('how, inside', [*((how, '') for how in REACHED), (
    'outside the root', 'RepeatDataset'), ('absolute in a csv', 'ConcatDataset')])
def test_an_image_counts_however_a_data_set_reaches_it(tmp_path, monkeypatch, how, inside):
    monkeypatch.chdir(tmp_path)
    make, image = REACHED[how]
    (tmp_path / 'r/im').mkdir(parents=True)
    dataset, image = make(tmp_path / 'r'), tmp_path / image
    if how.startswith('relative'):
        dataset['ann_file'] = 'r/labels.csv'
    if inside:
        key = 'dataset' if inside == 'RepeatDataset' else 'datasets'
        dataset = {'type': inside, key: dataset if key == 'dataset' else [dataset]}
    cfg = Config(dict(train_dataloader=dict(dataset=dataset)))
    png(image)
    before = run_identity(cfg)
    os.utime(image, (0, 0))
    assert run_identity(cfg) == before
    png(image, 1)  # of the same size
    change, = differences(before, run_identity(cfg))
    assert change.startswith('data.files of train_dataloader.dataset')
    png(tmp_path / 'r/im/other.png')  # which no sample names
    png(tmp_path / 'r/im/a.png.old')
    image.unlink()
    assert len(differences(before, run_identity(cfg))) == 1


def test_images_behind_links_count_as_the_data_set_names_them(data, tmp_path):
    png(tmp_path / 'store/b.png')
    (data / 'images/more').symlink_to(tmp_path / 'store')
    (data / 'images/loop').symlink_to(data / 'images')
    assert 'images' in changed(data, lambda: png(tmp_path / 'store/b.png', 1))


def test_large_sets_count_by_names_and_sizes_and_the_content_of_labels(data, monkeypatch):
    monkeypatch.setattr(asl_det.config.run_identity, 'CONTENT', 99)
    png(data / 'images/2.png')
    (data / 'images/1.xml').write_text('cat')
    assert not changed(data, lambda: png(data / 'images/2.png', 1))
    assert changed(data, lambda: (data / 'images/1.xml').write_text('dog'))
    assert changed(data, lambda: (data / 'images/2.png').write_bytes(b'short'))


@pytest.mark.parametrize('more', [
    lambda folder: dict(val_evaluator=dict(type='Panoptic', seg_prefix=folder)),
    lambda folder: dict(val_evaluator=[dict(type='A'), dict(type='B', seg_prefix=folder)]),
    lambda folder: dict(model=dict(language_model=dict(name=folder))),
    lambda folder: dict(train_dataloader=dict(dataset=dict(
        type='Any', pipeline=[dict(type='Paste', folder=folder)])))])
def test_other_folders_that_are_read_count_and_those_that_are_written_do_not(tmp_path, more):
    png(tmp_path / 'read/1.png')
    cfg = Config(dict(work_dir=str(tmp_path / 'written'), test_evaluator=dict(
        type='B', outfile_prefix=str(tmp_path / 'written')), **more(str(tmp_path / 'read'))))
    before = run_identity(cfg)
    png(tmp_path / 'written/1.png')
    assert run_identity(cfg) == before
    png(tmp_path / 'read/1.png', 1)
    assert len(differences(before, run_identity(cfg))) == 1


def test_weights_in_a_package_count_by_content(tmp_path, monkeypatch):
    png(tmp_path / 'some_weights/__init__.py')
    png(tmp_path / 'some_weights/a.pth')
    monkeypatch.syspath_prepend(tmp_path)
    cfg = Config(dict(model=dict(checkpoint='package://some_weights/a.pth')))
    before = run_identity(cfg)
    png(tmp_path / 'some_weights/a.pth', 1)
    assert len(differences(before, run_identity(cfg))) == 1


@pytest.fixture
def project(tmp_path, monkeypatch):
    """Modules of a user's, two of which are imported by what ``custom_imports`` names."""
    name = f'mine_{tmp_path.name}'.replace('-', '_')
    files = {'nets/__init__.py': '', 'nets/first.py': 'from . import second\nimport NAME_tool\n'
             'def late():\n    import NAME_late\n', 'nets/second.py': 'import torch, yaml\n',
             'nets/unused.py': '', 'space/inside.py': 'class Net:\n    pass\n',
             'whole/__init__.py': '', 'whole/found_by_a_loop.py': ''}
    for path, text in files.items():
        path = tmp_path / 'project' / f'{name}_{path}'
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.replace('NAME', name))
    for single in ('tool', 'late'):
        (tmp_path / f'project/{name}_{single}.py').write_text('')
    monkeypatch.syspath_prepend(tmp_path / 'project')
    for module in ('nets.first', 'space.inside', 'whole'):
        importlib.import_module(f'{name}_{module}')
    return tmp_path / 'project', name


@pytest.mark.parametrize('imports, file, counts', [
    ('nets.first', 'nets/first.py', True), ('nets.first', 'nets/second.py', True),
    ('nets.first', 'nets/__init__.py', True), ('nets.first', 'tool.py', True),
    ('nets.first', 'late.py', True), ('nets.first', 'nets/unused.py', False),
    ('nets', 'nets/unused.py', True), ('nets', 'tool.py', True),
    ('space.inside', 'space/inside.py', True), ('whole', 'whole/found_by_a_loop.py', True),
    ('whole', 'nets/first.py', False)])
def test_modules_that_a_config_imports_count_and_what_they_import(project, imports, file, counts):
    folder, name = project
    cfg = Config(dict(custom_imports=dict(imports=['asl_det', f'{name}_{imports}'])))
    before = run_identity(cfg)
    (folder / f'{name}_{file}').write_text('import json  # changed\n')
    changes = differences(before, run_identity(cfg))
    assert bool(changes) == counts
    assert all(change.startswith('code.modules.') for change in changes)


def test_a_class_that_a_config_imports_brings_its_module(project, tmp_path):
    folder, name = project
    (tmp_path / 'config.py').write_text(
        f'from {name}_space.inside import Net\nfrom torch import nn\n'
        'model = dict(type=Net, layer=dict(type=nn.Linear))\n')
    cfg = Config.fromfile(tmp_path / 'config.py')
    before = run_identity(cfg)
    assert before['config']['model']['type'] == f'{name}_space.inside.Net'
    assert list(before['code']['modules']) == [f'{name}_space.inside']
    (folder / f'{name}_space/inside.py').write_text('class Net:\n    changed = True\n')
    assert len(differences(before, run_identity(cfg))) == 1


def test_of_installed_packages_that_a_module_imports_the_version_counts(project, monkeypatch):
    import yaml
    cfg = Config(dict(custom_imports=[f'{project[1]}_nets.first']))
    before = run_identity(cfg)
    assert before['code']['modules']['yaml'] == yaml.__version__
    monkeypatch.setattr(yaml, '__version__', '0.1')
    assert differences(before, run_identity(cfg)) == [
        f'code.modules.yaml: {before["code"]["modules"]["yaml"]!r} -> \'0.1\'']


@pytest.mark.parametrize('name', ['mmcv', 'mmdet', 'mmengine', 'torchvision', 'numpy', 'cv2',
                                  'PIL', 'torch'])
def test_versions_of_the_libraries_count(monkeypatch, name):
    before = run_identity(Config())
    monkeypatch.setattr(importlib.import_module(name), '__version__', '0.1')
    assert [d.partition(':')[0] for d in differences(before, run_identity(Config()))] == [
        f'code.{name}']


def test_versions_of_what_is_installed_besides_and_compiled_operators_count(monkeypatch):
    before = run_identity(Config())
    assert before['code']['timm'] == importlib.metadata.version('timm')
    monkeypatch.setattr(importlib.metadata, 'version', lambda name: '0.1')
    monkeypatch.setattr('mmcv.utils.ext_loader.check_ops_exist', lambda: True)
    assert [d.partition(':')[0] for d in differences(before, run_identity(Config()))] == [
        'code.mmcv_operators', 'code.pycocotools', 'code.scipy', 'code.timm']


def test_a_clone_of_mmdet_counts_by_its_sources(monkeypatch, tmp_path):
    (tmp_path / 'mmdet').mkdir()
    monkeypatch.setattr('mmdet.__file__', str(tmp_path / 'mmdet/__init__.py'))
    before = run_identity(Config())
    (tmp_path / 'mmdet/edited.py').write_text('')
    assert [d.partition(':')[0] for d in differences(before, run_identity(Config()))] == [
        'code.mmdet']


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
