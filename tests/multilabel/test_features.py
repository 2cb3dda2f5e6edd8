"""Features that are computed once."""

import numpy as np
import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from PIL import Image

from asl_det.errors import UserError
from asl_det.multilabel import CSVMultiLabelDataset, LoadFeatures
from asl_det.multilabel.features import cache_features


def make_config(root, freeze=('conv1', 'bn1', 'act1', 'maxpool', 'layer1', 'layer2.0')):
    pipeline = [dict(type='LoadImageFromFile', imdecode_backend='pillow'),
                dict(type='PackMultiLabel')]
    model = dict(
        type='MultiLabelClassifier',
        data_preprocessor=dict(type='ImgDataPreprocessor', mean=[10] * 3, std=[99] * 3,
                               bgr_to_rgb=True),
        backbone=dict(type='TimmBackbone', model_name='resnet18', freeze=list(freeze),
                      zero_init_last=False),
        head=dict(type='LinearHead', num_classes=2, in_channels=512,
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


def test_an_interrupted_computation_goes_on_and_settings_are_not_mixed(images):
    config, folder = make_config(images), images / 'features'
    cache_features(config, folder)
    (folder / 'train' / '1.npy').unlink()
    assert cache_features(config, folder) == 1 and cache_features(config, folder) == 0
    with pytest.raises(UserError, match='made with another backbone or pipeline'):
        cache_features(make_config(images, freeze=('conv1', 'bn1', 'act1')), folder)


def test_mistakes_are_said(images):
    with pytest.raises(UserError, match='freeze names no module'):
        cache_features(make_config(images, freeze=()), images / 'features')
    with pytest.raises(UserError, match='tools/cache_features.py'):
        LoadFeatures('nowhere')(dict(img_path='a/b.png'))
    with pytest.raises(UserError, match='is not where the network begins: .* act1, maxpool'):
        cache_features(make_config(images, freeze=('conv1', 'bn1', 'layer1')), images / 'others')
    config = make_config(images)
    config.train_dataloader.dataset.data_prefix.img_path = str(images / 'other' / 'val')
    with pytest.raises(UserError, match='would share'):
        cache_features(config, images / 'features')
