"""Wrong numbers, seeds and files on a command line: one line that names them, exit status 1."""

import json
import urllib.error

import numpy as np
import pytest
import timm
import torch
from command_line import CONFIG, run_command

from asl_det.errors import DownloadError, UserError
from asl_det.multilabel.backbones import TimmBackbone, TorchvisionBackbone
from asl_det.registry import MODELS

COCO = dict(images=[dict(id=i, file_name=f'{i}.png') for i in range(4)], categories=[],
            annotations=[dict(id=i, image_id=i % 4) for i in range(8)])
RANGE = 'expected a whole number from 0 to 4294967295'


def one_line(said, *parts):
    assert isinstance(said, str) and said.startswith('error: ') and '\n' not in said, said
    for part in parts:
        assert part in said, said


@pytest.fixture
def coco(tmp_path):
    def write(**change):
        (tmp_path / 'coco.json').write_text(json.dumps({**COCO, **change}))
        return tmp_path / 'coco.json'

    return write


@pytest.mark.parametrize('seed', [-1, 2**32])
@pytest.mark.parametrize('tool', ['data digits', 'data hide-boxes', 'data hold-out', 'thresholds',
                                  'train', 'sweep'])
def test_a_seed_that_not_every_generator_takes_is_refused(coco, tmp_path, monkeypatch, tool, seed):
    out = tmp_path / 'out'
    np.savez(tmp_path / 'a.npz', scores=np.ones((4, 1)), targets=np.ones((4, 1)), classes=['a'])
    arguments = {'data digits': (out,), 'data hide-boxes': (coco(), out, '--share', 0.5),
                 'data hold-out': (coco(), out, tmp_path / 'held'),
                 'thresholds': (tmp_path / 'a.npz', '--out', out),
                 'train': (CONFIG, '--work-dir', out),
                 'sweep': (CONFIG, '--work-dir', out, '--losses', 'asl')}[tool]
    said = run_command(tool, *arguments, '--seeds' if tool == 'sweep' else '--seed', seed)
    one_line(said, f'seed {seed}: {RANGE}')
    assert not out.exists()


@pytest.mark.parametrize('tool, arguments, says', [
    ('plot-loss', ('--gamma-neg', 'nan'), '--gamma-neg nan: expected a number from 0'),
    ('plot-loss', ('--gamma-focal', 'inf'), '--gamma-focal inf: expected a number from 0'),
    ('plot-loss', ('--clip', 'nan'), '--clip nan: expected a margin'),
    ('data digits', ('{out}', '--image-size', 10**9), 'size=1000000000: expected at most 4096'),
    ('thresholds', ('no.npz', '--fixed', 'nan'), '--fixed is nan; expected a number'),
    ('thresholds', ('no.npz', '--fixed', -1), '--fixed is -1.0; expected a number from 0'),
    ('thresholds', ('no.npz', '--iou', 'inf'), '--iou inf: expected a number above 0'),
    ('thresholds', ('no.npz', '--iou', 0), '--iou 0: expected a number above 0'),
    ('benchmark_loss', ('--rounds', 0), '--rounds 0: expected a whole number from 1'),
    ('benchmark_loss', ('--threads', -1), '--threads -1: expected'),
    ('benchmark_loss', ('--clip', 'nan'), '--clip nan: expected a margin'),
    ('benchmark_loss', ('--device', 'tpu9'), '--device tpu9: '),
    ('benchmark_loss', ('--table', '{other}'), 'other.json: expected what this command writes'),
    ('thresholds', ('--compare', 'A={other}'), 'other.json is no report of this command')])
def test_numbers_out_of_range_and_files_of_others_are_refused(tmp_path, monkeypatch, tool,
                                                              arguments, says):
    for text in ('{}', '[]', '3', '{"results": [{}]}', '{"metrics": {"cross_validated": 1}}'):
        (tmp_path / 'other.json').write_text(text)
        one_line(run_command(tool, *(str(a).format(
            out=tmp_path / 'out', other=tmp_path / 'other.json') for a in arguments)), says)


@pytest.mark.parametrize('change, says', [
    (dict(scores=np.array([['a', 'b']] * 4)), 'its scores are no numbers'),
    (dict(targets=np.array([[None, 1]] * 4)), 'has no scores as asl-det test writes them'),
    (dict(scores=np.ones(4)), 'scores have the shape (4,), targets (4, 2): expected 2 columns'),
    (dict(scores=np.ones((4, 0)), targets=np.ones((4, 0)), classes=[]), 'scores of no class'),
])
def test_scores_that_are_none_are_refused(tmp_path, monkeypatch, change, says):
    content = dict(scores=np.ones((4, 2)), targets=np.eye(4, 2), classes=['a', 'b'])
    np.savez(tmp_path / 'a.scores.npz', **{**content, **change})
    one_line(run_command('thresholds', tmp_path / 'a.scores.npz'), says)


MIXED = [dict(id=1), dict(id='2')]


@pytest.mark.parametrize('change, says', [
    (dict(images=MIXED), 'coco.json: the ids of images are not all numbers'),
    (dict(annotations=[dict(a, image_id=1) for a in MIXED]),
     'coco.json: the ids of annotations are not all'),
    (dict(annotations=[dict(id={}, image_id=1)]), 'annotations[0].id is {}'),
    (dict(annotations=[dict(id=1, image_id=[1])]), 'annotations[0].image_id is [1]')])
@pytest.mark.parametrize('tool', ['data hide-boxes', 'data hold-out'])
def test_ids_that_can_not_be_sorted_are_named(coco, tmp_path, monkeypatch, tool, change, says):
    one_line(run_command(tool, coco(**change), tmp_path / 'a', *(
        ['--share', 0.5] if tool == 'data hide-boxes' else [tmp_path / 'b'])), says, 'coco.json')


def test_an_image_under_two_ids_is_not_in_both_parts(coco, tmp_path, monkeypatch):
    images = [dict(id=i, file_name=f'{i % 3}.png') for i in range(4)]
    said = run_command('data hold-out', coco(images=images), tmp_path / 'a', tmp_path / 'b')
    one_line(said, '0.png is there twice, as the images 0 and 3, and could be in both parts')


@pytest.mark.parametrize('images', [[dict(id=1), dict(id=1)], [dict()]])
def test_images_without_an_id_of_their_own_are_not_completed(coco, tmp_path, monkeypatch, images):
    images = [dict(image, width=1, height=1) for image in images]
    said = run_command('data complete', coco(images=images, annotations=[]),
                    tmp_path / 'a')
    one_line(said, f'images[{len(images) - 1}] has the id', 'expected a number, each once')


@pytest.fixture
def no_network(tmp_path, monkeypatch):
    def download(*args, **kwargs):
        raise urllib.error.URLError('no route')

    monkeypatch.setattr(torch.hub, 'download_url_to_file', download)
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'cache'))


URL = 'https://example.com/model.pth'
GONE = f'weights {URL} can not be downloaded (<urlopen error no route>): put the file at '


@pytest.mark.parametrize('tool, arguments', [
    ('convert', (URL, '{out}')), ('export', (URL, '--out', '{out}')),
    ('infer', (URL, 'README.md', '--out', '{out}'))])
def test_a_checkpoint_that_can_not_be_downloaded_is_one_line(no_network, tmp_path, monkeypatch,
                                                             tool, arguments):
    said = run_command(tool, *(a.format(out=tmp_path / 'out') for a in arguments))
    one_line(said, GONE)


@pytest.mark.parametrize('path, says', [
    (URL, 'can not be downloaded'), ('torchvision://resnet18', 'can not be downloaded'),
    ('torchvision://resnet19', 'there is no such model; near it: resnet1'),
    ('mmcls://vgg12', 'there is no such model; near it: vgg1'),
    ('s3://bucket/model.pth', 'petrel'), ('pavi://model', 'the package pavi is not installed'),
    ('no.pth', 'no.pth does not exist')])
def test_weights_of_a_network_that_can_not_be_had_are_one_line(no_network, path, says):
    with pytest.raises(UserError, match=says):
        MODELS.build(dict(type='TimmBackbone', model_name='test_resnet', checkpoint=path))


def test_weights_that_timm_or_torchvision_can_not_fetch_are_one_line(no_network, monkeypatch):
    def offline(*args, **kwargs):
        raise OSError("We couldn't connect to 'https://huggingface.co'\nCheck your connection")

    with pytest.raises(DownloadError, match='can not be downloaded'):
        TorchvisionBackbone('resnet18', weights='DEFAULT')
    with pytest.raises(UserError, match=r"torchvision does not make resnet18 with .*'colour'"):
        TorchvisionBackbone('resnet18', colour=1)
    with pytest.raises(UserError, match=r"timm does not make test_resnet with .*'colour'"):
        TimmBackbone('test_resnet', colour=1)
    with pytest.raises(UserError, match='has no model 3'):
        TimmBackbone(3)
    monkeypatch.setattr(timm, 'create_model', offline)
    with pytest.raises(DownloadError) as error:
        TimmBackbone('test_resnet', pretrained=True)
    assert "couldn't connect to 'https://huggingface.co' Check" in str(error.value)
    assert 'give them as checkpoint=FILE' in str(error.value)


@pytest.mark.parametrize('threshold, says', [
    ([0.5] * 3, 'has 3 numbers and the head 4 classes'), ([], 'has 0 numbers and the head 4'),
    ([0.5, 0.5, 2, 0.5], r'model.threshold\[2\] is 2.0; expected a number from 0 to 1'),
    ('x', "model.threshold is 'x'; expected a number"), (float('nan'), 'model.threshold is nan')])
def test_thresholds_of_another_number_of_classes_are_refused(threshold, says):
    config = dict(type='MultiLabelClassifier', threshold=threshold, head=dict(
        type='LinearHead', num_classes=4, loss=dict(type='AsymmetricLoss', use_sigmoid=True)),
        backbone=dict(type='TimmBackbone', model_name='test_resnet'))
    with pytest.raises(UserError, match=says):
        MODELS.build(config)
    for right in (0.5, [0.1] * 4, (0, 1, 0, 1)):
        MODELS.build(dict(config, threshold=right))
