"""Pipelines that fail at an image, each named before the run starts."""

import copy
import json
import random
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.dataset import BaseDataset
from torch.utils.data import Dataset

from asl_det.data.digits import make_digits
from asl_det.engine import load_config, train
from asl_det.errors import PreflightError
from asl_det.preflight.checks import CHECKS
from asl_det.preflight.finding import collect
from asl_det.preflight.one_sample import check_samples
from asl_det.preflight.run import Run
from asl_det.registry import DATASETS, TRANSFORMS
from asl_det.training.random_state import random_state, set_random_state

CLASSIFIER = str(Path('configs/multilabel/resnet18-w16_asl_digits.py').resolve())
DETECTOR = str(Path('configs/digits/retinanet_r18-w16_fpn_asl-800i_digits.py').resolve())


@pytest.fixture(scope='module')
def digits(tmp_path_factory):
    root = tmp_path_factory.mktemp('data') / 'digits'
    make_digits(root, num_train=8, num_val=4, size=64, digit_size=(20, 32))
    return root


@pytest.fixture(scope='module')
def configs(digits):
    return {path: load_config(path, {'data_root': str(digits)}) for path in (DETECTOR, CLASSIFIER)}


@pytest.fixture
def detector(configs):
    return copy.deepcopy(configs[DETECTOR])


@pytest.fixture
def classifier(configs):
    return copy.deepcopy(configs[CLASSIFIER])


def said(cfg, purpose='train', error=True):
    report = collect(check_samples(Run(cfg, 'config.py', purpose)))
    return [str(f) for f in (report.errors if error else report.warnings)]


def leaf(cfg, split='train'):
    """The innermost data set of a split."""
    found = cfg[f'{split}_dataloader'].dataset
    while 'dataset' in found:
        found = found.dataset
    return found


def without(kind):
    def change(pipeline):
        pipeline[:] = [step for step in pipeline if step['type'] != kind]
    return change


def put(index, **step):
    return lambda pipeline: pipeline.insert(index, ConfigDict(step))


def last(**more):
    return lambda pipeline: pipeline[-1].update(more)


META = ('img_path', 'ori_shape', 'img_shape', 'scale_factor')
# What is done to the pipeline of a split of a detector, and what is said about it.
DETECTION = {
    'no LoadAnnotations': ('train', without('LoadAnnotations'), r'train_dataloader.dataset.pipeline'
                           r'.\d+ PackDetInputs: hands over no boxes, .* put LoadAnnotations'),
    'no PackDetInputs': ('train', without('PackDetInputs'), 'is the last step, and hands over no '
                         "'inputs' .* end the pipeline with PackDetInputs"),
    'no PackDetInputs in a validation': ('val', without('PackDetInputs'), 'with PackDetInputs'),
    'no LoadImageFromFile': ('train', without('LoadImageFromFile'), r'pipeline.\d+: \w+ fails'),
    'Mosaic over a plain data set': ('train', put(2, type='Mosaic', img_scale=(64, 64)), r'pipeline'
                                     r'.2: Mosaic fails .* MultiImageMixDataset.* CachedMosaic'),
    'MixUp over a plain data set': ('train', put(2, type='MixUp', img_scale=(64, 64)),
                                    'MixUp mixes several images'),
    'no img_id': ('val', last(meta_keys=META), 'hands over no img_id, which CocoMetric reads'),
    'no Resize in a validation': ('val', without('Resize'), 'no scale_factor, which the head'),
    'TestTimeAug': ('val', lambda p: p.__setitem__(slice(1, None), [ConfigDict(
        type='TestTimeAug', transforms=[[dict(type='Resize', scale=(64, 64))], [
            dict(type='PackDetInputs', meta_keys=META)]])]), 'several versions of an image, which '
        'RetinaNet does not take: .* tta_pipeline'),
    'an argument that a step refuses': ('train', put(2, type='RandomFlip', prob=2.0),
                                        'pipeline.2: RandomFlip can not be built'),
    'a step inside another': ('train', put(2, type='RandomChoice', transforms=[
        [dict(type='Normalize', mean=[0, 0], std=[1, 1])]]), 'RandomChoice fails in its Normalize'),
    'masks that are not there': ('train', lambda p: p[1].update(with_mask=True),
                                 r"pipeline.1: LoadAnnotations fails .*KeyError: 'mask'"),
}


@pytest.mark.parametrize('split, change, says', DETECTION.values(), ids=DETECTION)
def test_the_step_that_fails_is_named(detector, split, change, says):
    assert said(detector) == []
    change(leaf(detector, split).pipeline)
    line, = said(detector)
    assert re.search(says, line), line
    assert line.startswith(f'error: config.py: {split}_dataloader.dataset')


def test_a_training_does_not_start_with_a_pipeline_that_fails(detector, tmp_path):
    without('LoadAnnotations')(leaf(detector).pipeline)
    with pytest.raises(PreflightError, match='put LoadAnnotations'):
        train(detector, work_dir=str(tmp_path / 'work'))
    assert check_samples in CHECKS and not (tmp_path / 'work').exists()


def test_no_mask_for_a_network_of_masks_is_found(digits):
    cfg = load_config('mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py')
    for split in ('train', 'val'):
        leaf(cfg, split).update(data_root=str(digits), ann_file=f'instances_{split}.json',
                                data_prefix=dict(img=f'{split}/'), metainfo=dict(
                                    classes=tuple(map(str, range(10)))))
    leaf(cfg).pipeline[1].with_mask = False
    assert 'hands over no masks, which MaskRCNN learns from' in said(cfg)[0]


def switch(pipeline):
    return [dict(type='PipelineSwitchHook', switch_epoch=1, switch_pipeline=pipeline)]


def test_the_pipeline_of_a_switch_hook_is_tried_too(detector):
    steps = [step.to_dict() for step in leaf(detector).pipeline]
    detector.custom_hooks = switch(steps)
    assert said(detector) == []
    detector.custom_hooks = switch(steps[:-1])
    assert 'PackDetInputs' in said(detector)[0]
    detector.custom_hooks = switch([steps[0], dict(type='Mosaic'), *steps[1:]])
    line, = said(detector)
    assert line.startswith('error: config.py: custom_hooks.0.switch_pipeline.1: Mosaic fails')


def mixed(cfg, *steps):
    """Several images are mixed, as YOLOX does it."""
    inner = leaf(cfg)
    load, pack = inner.pipeline[:2], inner.pipeline[-1]
    inner.pipeline = load
    cfg.train_dataloader.dataset = ConfigDict(type='MultiImageMixDataset', dataset=inner, pipeline=[
        dict(type='Mosaic', img_scale=(64, 64)), *steps, pack])


def test_a_switch_over_a_wrapper_is_found(detector):
    steps = [step.to_dict() for step in leaf(detector).pipeline]
    inner = leaf(detector)
    detector.custom_hooks = switch(steps)
    detector.train_dataloader.dataset = ConfigDict(type='RepeatDataset', times=2, dataset=inner)
    assert 'is a RepeatDataset, so that the switch has no effect' in said(detector, error=False)[0]
    mixed(detector)
    assert 'whose pipeline can not be switched: use YOLOXModeSwitchHook' in said(detector)[0]


def test_the_pipeline_that_is_left_when_mosaic_ends_is_tried_too(detector):
    hook = dict(type='YOLOXModeSwitchHook', num_last_epochs=1)
    detector.custom_hooks = [hook]
    assert 'YOLOXModeSwitchHook needs a MultiImageMixDataset' in said(detector)[0]
    mixed(detector)
    assert said(detector) == []
    detector.custom_hooks = [dict(hook, skip_type_keys=('Mosaic', 'PackDetInputs'))]
    assert 'after custom_hooks.0 (YOLOXModeSwitchHook) has switched' in said(detector)[0]


def test_a_step_of_a_wrapper_is_named(detector):
    mixed(detector, dict(type='RandomCrop', crop_size=(32, 32), crop_type='absolute'),
          dict(type='Normalize', mean=[0, 0], std=[1, 1]))
    assert 'train_dataloader.dataset.pipeline.2: Normalize fails' in said(detector)[0]


@pytest.mark.parametrize('wrap', [
    lambda d: dict(type='RepeatDataset', times=2, dataset=d),
    lambda d: dict(type='ConcatDataset', datasets=[d, d]),
    lambda d: dict(type='ClassBalancedDataset', oversample_thr=0.1, dataset=d),
    lambda d: dict(type='RepeatDataset', times=2, dataset=dict(type='ConcatDataset', datasets=[d])),
], ids=['repeat', 'concat', 'balanced', 'nested'])
def test_data_sets_in_wrappers_are_tried(detector, wrap):
    inner = leaf(detector)
    detector.train_dataloader.dataset = ConfigDict(wrap(inner))
    assert said(detector) == []
    without('PackDetInputs')(inner.pipeline)
    detector.train_dataloader.dataset = ConfigDict(wrap(inner))
    assert 'PackDetInputs' in said(detector)[0]


def test_every_part_of_a_concatenation_is_tried(detector):
    first = leaf(detector)
    second = ConfigDict(first, pipeline=[*first.pipeline[:1], dict(type='Mosaic')])
    detector.train_dataloader.dataset = ConfigDict(type='ConcatDataset', datasets=[first, second])
    assert 'train_dataloader.dataset.datasets.1.pipeline.1: Mosaic' in said(detector)[0]


def test_multi_label_pipelines_are_tried(classifier):
    assert said(classifier) == []
    without('PackMultiLabel')(leaf(classifier).pipeline)
    assert 'end the pipeline with PackMultiLabel' in said(classifier)[0]


def test_the_random_numbers_of_a_run_stay_as_they_were(detector):
    def numbers():
        return random.random(), np.random.random(), torch.rand(1).item()
    state = random_state()
    expected = numbers()
    set_random_state(state)
    assert said(detector) == [] and numbers() == expected


def test_a_missing_image_is_left_to_the_check_of_images(detector, digits):
    leaf(detector).data_prefix = dict(img='nowhere/')
    assert said(detector) == []


@DATASETS.register_module(force=True)
class Numbers(Dataset):
    """A data set of a user's own, with no pipeline."""

    def __init__(self, wrong=False):
        self.wrong = wrong

    def __len__(self):
        return 3

    def __getitem__(self, i):
        return dict(inputs=[][i] if self.wrong else i)


@DATASETS.register_module(force=True)
class Broken(BaseDataset):

    def load_data_list(self):
        raise OSError('no connection')


@TRANSFORMS.register_module(force=True)
class DropMost:
    """Returns None but for every n-th call."""

    def __init__(self, every):
        self.every, self.calls = every, 0

    def __call__(self, results):
        self.calls += 1
        return results if self.every and self.calls % self.every == 0 else None


def test_data_sets_of_users_are_tried(detector):
    detector.model = dict(type='ImgDataPreprocessor')
    for split in ('train', 'val'):
        detector[f'{split}_dataloader'].dataset = ConfigDict(type='Numbers')
    assert said(detector) == []
    detector.train_dataloader.dataset = ConfigDict(type='Numbers', wrong=True)
    assert 'train_dataloader.dataset: Numbers fails at a sample (IndexError' in said(detector)[0]
    detector.train_dataloader.dataset = ConfigDict(type='Broken')
    assert 'Broken can not be built (OSError: no connection)' in said(detector)[0]


def test_a_pipeline_that_drops_some_images_is_right_and_one_that_drops_all_is_said(detector):
    put(2, type='DropMost', every=3)(leaf(detector).pipeline)
    assert said(detector) == said(detector, error=False) == []
    leaf(detector).pipeline[2].every = 0
    line, = said(detector, error=False)
    assert 'train_dataloader.dataset.pipeline.2: returns None for' in line
    put(1, type='DropMost', every=0)(leaf(detector, 'val').pipeline)
    assert 'while testing no image may be left out' in said(detector)[0]


def test_only_what_a_command_uses_is_tried(detector):
    without('PackDetInputs')(leaf(detector).pipeline)
    assert said(detector, 'test') == []


# mmdet's own pipelines of many kinds, on images of the digits that have masks of their own.
OWN = ['mask_rcnn/mask-rcnn_r50_fpn_1x_coco', 'yolox/yolox_s_8xb8-300e_coco',
       'boxinst/boxinst_r50_fpn_ms-90k_coco', 'rtmdet/rtmdet-ins_s_8xb32-300e_coco',
       'centernet/centernet_r18-dcnv2_8xb16-crop512-140e_coco', 'ssd/ssd300_coco',
       'soft_teacher/soft-teacher_faster-rcnn_r50-caffe_fpn_180k_semi-0.1-coco',
       'grounding_dino/grounding_dino_swin-t_finetune_16xb2_1x_coco']


@pytest.fixture(scope='module')
def masked(digits):
    for split in ('train', 'val'):
        path = digits / f'instances_{split}.json'
        content = json.loads(path.read_text())
        for a in content['annotations']:
            x, y, w, h = a['bbox']
            a['segmentation'] = [[x, y, x + w, y, x + w, y + h, x, y + h]]
        path.with_name(f'masks_{split}.json').write_text(json.dumps(content))
    return digits


@pytest.mark.parametrize('name', OWN)
def test_pipelines_of_mmdet_are_right(masked, name):
    cfg = load_config(f'mmdet::{name}.py')
    run = Run(cfg, name, 'check')
    for split in ('train', 'val', 'test'):
        for _, dataset in run.data_sets(split):
            kind = 'train' if split == 'train' else 'val'
            dataset.update(data_root=str(masked), ann_file=f'masks_{kind}.json', data_prefix=dict(
                img=f'{kind}/'), metainfo=dict(classes=tuple(map(str, range(10)))))
    assert said(cfg, 'check') == said(cfg, 'check', error=False) == []
