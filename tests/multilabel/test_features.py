"""Features that are computed once."""

import shutil

import numpy as np
import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from PIL import Image

from asl_det.config.run_identity import run_identity
from asl_det.errors import UserError
from asl_det.files.identity import differences, hold
from asl_det.multilabel import CSVMultiLabelDataset, LoadFeatures
from asl_det.multilabel.features import cache_features
from asl_det.multilabel.transforms import feature_path


def make_config(root, freeze=('conv1', 'bn1', 'act1', 'maxpool', 'layer1', 'layer2.0')):
    pipeline = [dict(type='LoadImageFromFile', imdecode_backend='pillow'),
                dict(type='PackMultiLabel')]
    model = dict(
        type='MultiLabelClassifier',
        data_preprocessor=dict(type='ImgDataPreprocessor', mean=[10] * 3, std=[99] * 3,
                               bgr_to_rgb=True),
        backbone=dict(type='TimmBackbone', model_name='resnet18', freeze=list(freeze),
                      zero_init_last=False, channels=(16, 16, 32, 32)),
        head=dict(type='LinearHead', num_classes=2, in_channels=32,
                  loss=dict(type='AsymmetricLoss', use_sigmoid=True)))
    loader = {split: dict(dataset=dict(
        type='CSVMultiLabelDataset', ann_file=str(root / f'{split}.csv'),
        metainfo=dict(classes=['a', 'b']), data_prefix=dict(img_path=str(root / split)),
        pipeline=pipeline)) for split in ('train', 'val')}
    return Config(dict(model=model, train_dataloader=loader['train'],
                       val_dataloader=loader['val']))


@pytest.fixture
def images(tmp_path):
    rng = np.random.default_rng(0)
    for split, count in (('train', 3), ('val', 2)):
        (tmp_path / split).mkdir()
        for i in range(count):
            Image.fromarray(rng.integers(0, 255, (64, 64, 3), np.uint8)).save(
                tmp_path / split / f'{i}.png')
        (tmp_path / f'{split}.csv').write_text(''.join(f'{i}.png,a\n' for i in range(count)))
    return tmp_path


def seeded(config):
    torch.manual_seed(0)
    return MODELS.build(config.model).eval()


def test_the_rest_of_the_network_on_cached_features_is_the_network_on_images(images):
    config, folder = make_config(images), images / 'features'
    torch.manual_seed(0)
    assert cache_features(config, folder) == 5
    full = seeded(config)
    rest = Config(dict(model=dict(config.model.to_dict(), data_preprocessor=dict(
        type='ImgDataPreprocessor'))))
    rest.model.backbone.update(skip=config.model.backbone['freeze'], freeze=[])
    rest = MODELS.build(rest.model).eval()
    rest.load_state_dict(full.state_dict(), strict=False)
    pipeline = config.val_dataloader.dataset.pipeline
    for mirror in (0.0, 1.0):
        cached = CSVMultiLabelDataset(
            **{k: v for k, v in config.val_dataloader.dataset.items() if k not in (
                'type', 'pipeline')},
            pipeline=[dict(type='LoadFeatures', folder=str(folder), mirror=mirror),
                      dict(type='PackMultiLabel')])
        plain = CSVMultiLabelDataset(**{k: v for k, v in config.val_dataloader.dataset.items()
                                        if k not in ('type', 'pipeline')}, pipeline=pipeline)
        for i in range(2):
            item = plain[i]
            if mirror:
                item['inputs'] = item['inputs'].flip(-1)
            got = rest(**rest.data_preprocessor(dict(inputs=[cached[i]['inputs']])))
            want = full(**full.data_preprocessor(dict(inputs=[item['inputs']])))
            assert torch.allclose(got, want, rtol=1e-2, atol=2e-3)  # stored in half precision


def test_an_interrupted_computation_goes_on(images):
    config, folder = make_config(images), images / 'features'
    torch.manual_seed(0)
    cache_features(config, folder)
    feature_path(folder, images / 'train' / '1.png').unlink()
    for new in (1, 0):
        torch.manual_seed(0)
        assert cache_features(config, folder) == new


def copy_with_new_contents(images, root):
    """The same file names and sizes of images, other photos."""
    shutil.copytree(images, root)
    for path in root.rglob('*.png'):
        with Image.open(path) as image:
            Image.fromarray(255 - np.asarray(image)).save(path)
    return root


def test_a_second_data_set_with_the_same_names_does_not_get_the_features_of_the_first(images,
                                                                                      tmp_path):
    folder = tmp_path / 'features'
    other = copy_with_new_contents(images, tmp_path / 'other')
    torch.manual_seed(0)
    cache_features(make_config(images), folder)
    load = LoadFeatures(str(folder))
    with pytest.raises(UserError, match=f'{other}/val/0.png has no features in {folder}'):
        load(dict(img_path=str(other / 'val' / '0.png')))
    torch.manual_seed(0)
    assert cache_features(make_config(other), folder) == 5
    one, two = (load(dict(img_path=str(root / 'val' / '0.png')))['img']
                for root in (images, other))
    assert one.shape == two.shape and not np.allclose(one, two, atol=0.1)
    # And the first set at another place needs none anew.
    torch.manual_seed(0)
    assert cache_features(make_config(shutil.copytree(images, tmp_path / 'third')), folder) == 0


def test_an_image_that_was_replaced_has_no_features(images):
    config, folder = make_config(images), images / 'features'
    torch.manual_seed(0)
    cache_features(config, folder)
    shutil.copyfile(images / 'train' / '0.png', images / 'train' / '1.png')
    assert LoadFeatures(str(folder))(dict(img_path=str(images / 'train' / '1.png')))
    Image.new('RGB', (64, 64)).save(images / 'train' / '1.png')
    with pytest.raises(UserError, match='1.png has no features'):
        LoadFeatures(str(folder))(dict(img_path=str(images / 'train' / '1.png')))


def with_pipeline(config):
    config.val_dataloader.dataset.pipeline.insert(1, dict(type='Resize', scale=(32, 32)))


@pytest.mark.parametrize('seed, change, says', [
    (0, lambda config: config.model.backbone.update(freeze=['conv1', 'bn1', 'act1']),
     "backbone.freeze.3: 'maxpool' -> nothing"),
    (1, lambda config: None, "weights: '"),
    (0, lambda config: config.model.data_preprocessor.update(mean=[1, 10, 10]),
     'preprocessor.mean.0: 10 -> 1'),
    (0, with_pipeline, "pipeline.1.type: 'PackMultiLabel' -> 'Resize'"),
], ids=['network', 'weights', 'preprocessor', 'pipeline'])
def test_features_of_another_network_are_not_mixed_and_the_difference_is_named(
        images, seed, change, says):
    folder = images / 'features'
    torch.manual_seed(0)
    cache_features(make_config(images), folder)
    config = make_config(images)
    change(config)
    torch.manual_seed(seed)
    with pytest.raises(UserError) as error:
        cache_features(config, folder)
    assert says in str(error.value) and 'another folder' in str(error.value)
    assert '\n' not in str(error.value)


def test_a_folder_of_features_without_its_record_is_refused(images):
    folder = images / 'features'
    cache_features(make_config(images), folder)
    (folder / 'features.json').unlink()
    with pytest.raises(UserError, match='something else .it has no features.json'):
        cache_features(make_config(images), folder)
    with hold(folder), pytest.raises(UserError, match='in use by another process'):
        cache_features(make_config(images), folder)


def test_runs_on_features_of_different_networks_differ(images):
    """The identity of a run knows by which network its features were made."""
    folder = images / 'features'
    cfg = Config(dict(train_dataloader=dict(dataset=dict(
        ann_file='train.csv', data_root=str(images),
        pipeline=[dict(type='LoadFeatures', folder=str(folder))]))))
    torch.manual_seed(0)
    cache_features(make_config(images), folder)
    before = run_identity(cfg)
    shutil.rmtree(folder)
    torch.manual_seed(1)
    cache_features(make_config(images), folder)
    names = [d.split(':')[0] for d in differences(before, run_identity(cfg))]
    assert f'data.{folder}/features.json' in names


def test_mistakes_are_said(images):
    with pytest.raises(UserError, match='freeze names no module'):
        cache_features(make_config(images, freeze=()), images / 'features')
    with pytest.raises(UserError, match='asl-det data features'):
        LoadFeatures('nowhere')(dict(img_path=str(images / 'val' / '0.png')))
    path = feature_path(images / 'features', images / 'val' / '0.png')
    path.parent.mkdir(parents=True)
    path.write_bytes(b'x')
    with pytest.raises(UserError, match='0.png, is cut off or broken'):
        LoadFeatures(str(images / 'features'))(dict(img_path=str(images / 'val' / '0.png')))
    with pytest.raises(UserError, match='is not where the network begins: .* act1, maxpool'):
        cache_features(make_config(images, freeze=('conv1', 'bn1', 'layer1')), images / 'others')
    assert [p.name for p in (images / 'others').iterdir()] == ['.lock']
