"""Cached features: of this network, and of these images."""

import json

import pytest
from mmengine.config import Config
from PIL import Image

from asl_det.multilabel.transforms import feature_path
from asl_det.preflight.cached_features import check_features
from asl_det.preflight.finding import collect
from asl_det.preflight.run import Run

BACKBONE = dict(type='TimmBackbone', model_name='resnet18', freeze=['conv1', 'bn1'])


@pytest.fixture
def run(tmp_path):
    """Two images with features, and the record of ``cache_features``."""
    (tmp_path / 'a.csv').write_text('0.png,cat\n1.png,dog\n')
    folder = tmp_path / 'features'
    for i in range(2):
        Image.new('RGB', (4, 4), (i, i, i)).save(tmp_path / f'{i}.png')
        path = feature_path(folder, tmp_path / f'{i}.png')
        path.parent.mkdir(parents=True)
        path.touch()
    (folder / 'features.json').write_text(json.dumps(dict(backbone=BACKBONE)))
    return Run(Config(dict(
        model=dict(backbone=dict(BACKBONE, freeze=(), skip=('conv1', 'bn1'))),
        train_dataloader=dict(dataset=dict(
            type='CSVMultiLabelDataset', data_root=str(tmp_path), ann_file='a.csv',
            metainfo=dict(classes=('cat', 'dog')),
            pipeline=[dict(type='LoadFeatures', folder=str(folder))])))), 'config.py', 'train')


def said(run):
    return [str(f) for f in collect(check_features(run)).errors]


def test_features_of_this_network_and_these_images_have_no_findings(run):
    assert said(run) == []


@pytest.mark.parametrize('change, says', [
    (dict(model_name='resnet34'), "the features are not those of model.backbone (model_name: "
     "'resnet18' -> 'resnet34')"),
    (dict(skip=('conv1',)), "freeze.1: 'bn1' -> nothing"),
    (dict(checkpoint='other.pth'), "checkpoint: nothing -> 'other.pth'")])
def test_features_of_another_network_are_found_before_the_training(run, change, says):
    run.cfg.model.backbone.update(change)
    line, = said(run)
    assert says in line and 'asl-det data features' in line


def test_a_tuple_of_the_config_is_the_list_of_the_record(run, tmp_path):
    record = tmp_path / 'features/features.json'
    record.write_text(json.dumps(dict(backbone=dict(BACKBONE, channels=[16, 16, 32, 32]))))
    run.cfg.model.backbone.channels = (16, 16, 32, 32)
    assert said(run) == []


@pytest.mark.parametrize('first', ['LoadImageFromFile', 'mmdet.LoadImageFromFile',
                                   'LoadImageWithPillow'])
def test_images_in_the_place_of_features_are_found_before_the_training(run, first):
    run.cfg.train_dataloader.dataset.pipeline = [dict(type=first)]
    line, = said(run)
    assert 'train_dataloader.dataset.pipeline: begins with LoadImage' in line
    assert 'model.backbone.skip leaves out conv1, bn1, whose features are expected' in line
    run.cfg.model.backbone.skip = ()
    assert said(run) == []


@pytest.mark.parametrize('content, says', [
    (None, 'does not exist: make them with'), ('{', 'cut off'), ('{}', 'does not say which')])
def test_the_record_of_the_features_must_be_there(run, tmp_path, content, says):
    record = tmp_path / 'features/features.json'
    if content is None:
        record.unlink()
    else:
        record.write_text(content)
    assert says in said(run)[0]


def test_images_that_were_changed_have_no_features(run, tmp_path):
    Image.new('RGB', (4, 4), (9, 9, 9)).save(tmp_path / '1.png')
    line, = said(run)
    assert '1 of 2 images that were looked at have no features' in line and '1.png' in line
