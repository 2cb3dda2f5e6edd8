"""What people set every day reaches every place of a config that depends on it."""

import json

import pytest
from command_line import run_command

from asl_det.commands.command_line import config_options
from asl_det.commands.main import parser_of
from asl_det.data.digits import make_digits
from asl_det.engine import load_config
from asl_det.errors import UserError
from asl_det.files.nested import dicts

CLASSIFIER = 'configs/multilabel/efficientnet-lite0_asl_coco18.py'
DETECTOR = 'configs/digits/retinanet_r18-w16_fpn_asl-800i_digits.py'
RETINANET = 'mmdet::retinanet/retinanet_r50_fpn_1x_coco.py'
YOLOX = 'mmdet::yolox/yolox_s_8xb8-300e_coco.py'
DETR = 'mmdet::deformable_detr/deformable-detr_r50_16xb2-50e_coco.py'


def loaded(config, *flags):
    args = parser_of('train').parse_args([config, *map(str, flags)])
    return load_config(config, config_options(args, batch_size='train_dataloader.batch_size'))


def sizes(node):
    keys = ('scale', 'scales', 'img_scale', 'size', 'border', 'crop_size', 'random_size_range')
    return [(key, d[key]) for _, d in dicts(node) for key in keys if key in d]


def test_a_batch_is_that_of_training_and_workers_are_those_of_all():
    cfg = loaded(RETINANET, '--batch-size', 3, '--workers', 0, '--val-interval', 5)
    before = load_config(RETINANET)
    assert cfg.train_dataloader.batch_size == 3 and cfg.train_cfg.val_interval == 5
    for split in ('train', 'val', 'test'):
        loader = cfg[f'{split}_dataloader']
        assert loader.num_workers == 0 and not loader.persistent_workers
        assert split == 'train' or loader.batch_size == before[f'{split}_dataloader'].batch_size
    with pytest.raises(UserError, match='--workers -1: expected a number from 0'):
        loaded(RETINANET, '--workers', -1)


def test_sizes_of_all_pipelines_change_in_proportion():
    cfg = loaded(YOLOX, '--image-size', 320)
    text = str([sizes(cfg[f'{split}_dataloader']) for split in ('train', 'test')])
    assert '320, 320' in text and '-160, -160' in text and '640' not in text
    assert ('random_size_range', (240, 400)) in sizes(cfg.model.data_preprocessor)
    cfg = loaded(DETR, '--image-size', 400, 1333)  # height, width: half as high
    found = sizes(cfg.train_dataloader)
    assert ('crop_size', (272, 424)) in found  # the least and the most of both sides
    assert any((240, 1333) in value and (400, 1333) in value for _, value in found)
    for config in (CLASSIFIER, DETECTOR):
        cfg = loaded(config, '--image-size', 96)
        assert ('scale', (96, 96)) in sizes(cfg.train_dataloader)
        assert ('scale', (96, 96)) in sizes(cfg.test_dataloader)
    assert ('scale', (0.02, 0.2)) in sizes(loaded(CLASSIFIER, '--image-size', 96).train_dataloader)


@pytest.mark.parametrize('old, square, lying', [  # lying: 320 high, 640 wide
    (dict(type='Resize', scale=640), (320, 320), (640, 320)),
    (dict(type='FixScaleResize', scale=(640, 640)), (320, 320), (640, 320)),
    (dict(type='RandomCrop', crop_size=(600, 400)), (300, 200), (600, 200)),
    (dict(type='RandomCrop', crop_size=(384, 600), crop_type='absolute_range'), (192, 300),
     (272, 424)),
    (dict(type='RandomCenterCropPad', crop_size=(400, 600)), (200, 300), (200, 600)),
    (dict(type='BatchSyncRandomResize', random_size_range=(480, 800)), (240, 400), (240, 400)),
    (dict(type='BatchFixedSizePad', size=(640, 1280)), (320, 640), (320, 1280))])
def test_the_order_of_a_size_is_that_of_its_transform(tmp_path, old, square, lying):
    test = [dict(type='Resize', scale=(640, 640))]
    path = tmp_path / 'one.py'
    path.write_text('model = dict()\n'
                    f'train_dataloader = dict(dataset=dict(pipeline=[{old}]))\n'
                    f'test_dataloader = dict(dataset=dict(pipeline={test}))\n')
    for size, expected in (((320, 320), square), ((320, 640), lying)):
        cfg = load_config(str(path), {'image_size': size})
        assert sizes(cfg.train_dataloader) == [(list(old)[1], expected)]
        assert sizes(cfg.test_dataloader) == [('scale', size[::-1])]


def test_a_size_is_refused_where_it_stands_elsewhere_too(tmp_path):
    with pytest.raises(UserError, match='--image-size 200 200: model.* is made for one size'):
        loaded('mmdet::ssd/ssd300_coco.py', '--image-size', 200)
    for size in ('x', (1, 2, 3), (0, 5), (1.5, 2)):
        with pytest.raises(UserError, match='--image-size .*: expected pixels'):
            load_config(DETECTOR, {'image_size': size})
    assert ('scale', (96, 96)) in sizes(load_config(DETECTOR, {'image_size': 96}).test_dataloader)
    path = tmp_path / 'none.py'
    path.write_text('model = dict()\ntest_dataloader = dict(dataset=dict(pipeline=[]))\n')
    with pytest.raises(UserError, match='no Resize to a size'):
        load_config(str(path), {'image_size': (200, 200)})


@pytest.fixture
def own(tmp_path):
    for name, ids in (('a', (7, 3)), ('b', (7, 3))):
        (tmp_path / f'{name}.json').write_text(json.dumps(dict(
            images=[], annotations=[], categories=[dict(id=i, name=f'class {i}') for i in ids])))
    return ('--train-json', tmp_path / 'a.json', '--train-images', tmp_path / 'x',
            '--val-json', tmp_path / 'b.json', '--val-images', tmp_path / 'y')


@pytest.mark.parametrize('config, prefix, kind', [
    (RETINANET, 'img', 'CocoDataset'), (YOLOX, 'img', 'CocoDataset'),
    (DETECTOR, 'img', 'CocoDataset'),
    (CLASSIFIER, 'img_path', 'CocoMultiLabelDataset')])
def test_own_data_is_set_at_all_its_places_with_the_classes_of_the_file(own, tmp_path, config,
                                                                        prefix, kind):
    cfg = loaded(config, *own)
    for split, file, images in (('train', 'a', 'x'), ('val', 'b', 'y'), ('test', 'b', 'y')):
        (node,) = (d for _, d in dicts(cfg[f'{split}_dataloader']) if 'ann_file' in d)
        assert node.type == kind and node.data_root == ''
        assert node.ann_file == str(tmp_path / f'{file}.json')
        assert node.data_prefix == {prefix: str(tmp_path / images)}
        assert node.metainfo.classes == ('class 7', 'class 3')
        for _, metric in dicts(cfg.get(f'{split}_evaluator')):
            assert metric.get('ann_file', node.ann_file) == node.ann_file
    assert {d['num_classes'] for _, d in dicts(cfg.model) if 'num_classes' in d} == {2}
    cfg = loaded(config, *own, '--classes', 'class 3')
    assert cfg.test_dataloader.dataset.metainfo.classes == ('class 3',)


def test_config_and_check_take_own_data_too(own, tmp_path, capsys):
    assert run_command('config', DETECTOR, *own, '--out', tmp_path / 'out.py') is None
    assert load_config(str(tmp_path / 'out.py')).pretty_text == loaded(DETECTOR, *own).pretty_text
    make_digits(tmp_path / 'mine', num_train=3, num_val=2)
    places = [(f'--{split}-json', tmp_path / f'mine/instances_{split}.json',
               f'--{split}-images', tmp_path / f'mine/{split}') for split in ('train', 'val')]
    capsys.readouterr()
    assert run_command('check', DETECTOR, *places[0], *places[1]) is None
    boxes = sum(len(json.loads(place[1].read_text())['annotations']) for place in places)
    assert f'5 images and {boxes} labels were looked at; at most' in capsys.readouterr().out


def test_half_of_own_data_and_data_sets_of_another_kind_are_refused(own):
    with pytest.raises(UserError, match='expected --val-json and --val-images together'):
        loaded(DETECTOR, *own[:6])
    with pytest.raises(UserError, match='--data-root and --train-json say both where the data is'):
        loaded(DETECTOR, *own, '--data-root', 'x')
    with pytest.raises(UserError, match='is a VOCDataset: take a config of CocoDataset'):
        loaded('mmdet::pascal_voc/ssd300_voc0712.py', *own[4:])


@pytest.mark.parametrize('device, seen, gives', [
    ('cpu', None, ''), ('cpu', '2,3', ''), ('cuda:1', None, '1'), ('cuda:1', '2,3', '3'),
    ('cuda', '2,3', '2,3'), ('cuda:2', '2,3', None), ('tpu', None, None), ('cuda:x', None, None)])
def test_a_device_is_what_torch_may_see(monkeypatch, device, seen, gives):
    from os import environ
    monkeypatch.setattr('asl_det.engine.load_config', lambda *args: exit('starts'))
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', seen or '')
    if seen is None:
        monkeypatch.delenv('CUDA_VISIBLE_DEVICES')
    said = run_command('train', DETECTOR, '--device', device)
    if gives is None:
        assert said.startswith(f'error: --device {device}: expected cpu, cuda or cuda:N')
    else:
        assert said == 'starts' and environ['CUDA_VISIBLE_DEVICES'] == gives
