"""Official checkpoints become checkpoints of our classifier, with the official logits."""

import json
from pathlib import Path

import golden
import numpy as np
import pytest
import torch
from command_line import run_command
from golden import case, weight
from mmengine.config import Config
from PIL import Image

from asl_det import engine
from asl_det.errors import UserError
from asl_det.inference import MultiLabelInferencer
from asl_det.inference.convert import THRESHOLD, classifier_config, convert
from asl_det.inference.infer import build_inferencer
from asl_det.inference.opening import open_checkpoint

NAMES = {i: f'class {i}' for i in range(80)}


def official(path, weights, names=NAMES, **more):
    torch.save({'model': weights, 'num_classes': len(names), 'idx_to_class': names, **more}, path)
    return str(path)


def network(path):
    return open_checkpoint(None, str(path)).build('cpu')


def flat(name):
    """Official weights of one number each, so that files are small."""
    shapes = json.loads((Path(golden.__file__).parent / 'tresnet.json').read_text())[name]['keys']
    return {k: torch.full((1,) * len(shape), 0.01).expand(shape) for k, shape in shapes.items()}


@pytest.mark.parametrize('name', ['tresnet_m', 'tresnet_l'])
def test_a_converted_tresnet_gives_the_official_logits(name, tmp_path):
    weights, inputs, logits = case('tresnet', name)
    done = convert(official(tmp_path / 'a.pth', weights), tmp_path / 'b.pth')
    assert (done.network, done.head) == (name, 'linear head')
    assert sum(count for *_, count in done.groups) == len(weights)
    with torch.no_grad():
        got = network(tmp_path / 'b.pth')(inputs)[:, :64]
    assert torch.allclose(got, logits, rtol=0, atol=1e-4), (got - logits).abs().max()


def test_a_bottleneck_is_recognised_and_keeps_its_place(tmp_path):
    weights = flat('tresnet_l_bottleneck')
    weights['head.fc.embedding_generator.0.bias'] = torch.arange(512.0)
    done = convert(official(tmp_path / 'a.pth', weights), tmp_path / 'b.pth')
    assert (done.network, done.head) == ('tresnet_l', 'linear head with bottleneck 512')
    assert torch.equal(network(tmp_path / 'b.pth').head.bottleneck.bias, torch.arange(512.0))


@pytest.mark.parametrize('name', ['81_classes_100_groups', '9605_classes_200_groups'])
def test_a_converted_ml_decoder_gives_the_official_logits(name, tmp_path):
    decoder, features, logits = case('ml_decoder', name)
    body = {k: v for k, v in flat('tresnet_m').items() if k.startswith('body.')}
    embed = 'decoder.embed_standart.weight'
    head = {f'head.{k}': v for k, v in decoder.items()}
    head[f'head.{embed}'] = weight(f'head.{embed}', (768, 2048))  # for the features of TResNet-M
    count = int(name.split('_')[0])
    names = {i: f'class {i}' for i in range(count)}
    done = convert(official(tmp_path / 'a.pth', {**body, **head}, names), tmp_path / 'b.pth')
    assert done.head.startswith('ML-Decoder, ') and len(done.classes) == count
    assert done.threshold == (0.995 if count == 9605 else 0.7)
    model = network(tmp_path / 'b.pth')
    assert torch.equal(model.head.embed.weight, head[f'head.{embed}'])
    model.head.embed.weight = torch.nn.Parameter(decoder[embed])  # as the golden features ask
    model.head.in_channels = 512
    with torch.no_grad():
        got = model.head(features)[:, :64]
    assert torch.allclose(got, logits, rtol=0, atol=1e-4), (got - logits).abs().max()


@pytest.fixture(scope='module')
def source(tmp_path_factory):
    return official(tmp_path_factory.mktemp('official') / 'a.pth', flat('tresnet_m'))


@pytest.fixture(scope='module')
def converted(source, tmp_path_factory):
    path = tmp_path_factory.mktemp('converted') / 'b.pth'
    convert(source, path, image_size=64)
    return str(path)


def test_a_converted_checkpoint_runs_on_a_picture_as_the_reference_does(converted, tmp_path):
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (9, 7, 3), np.uint8))
    image.resize((150, 90)).save(tmp_path / 'a.png')
    infer = build_inferencer(open_checkpoint(None, converted), 'cpu')
    assert isinstance(infer, MultiLabelInferencer)
    sample, = infer(str(tmp_path / 'a.png'), return_datasamples=True)['predictions']
    # Pillow's bilinear resizing to a square, RGB in [0, 1], no mean, no deviation.
    small = np.asarray(Image.open(tmp_path / 'a.png').resize((64, 64), Image.BILINEAR))
    inputs = torch.from_numpy(small.transpose(2, 0, 1)[None].astype(np.float32) / 255)
    with torch.no_grad():
        expected = infer.model(inputs)[0].sigmoid()
    assert torch.allclose(sample.scores, expected, atol=1e-5)
    assert sample.pred_labels.tolist() == (expected >= 0.7).nonzero().flatten().tolist()
    assert infer.classes == tuple(NAMES.values())


def test_its_config_is_that_of_the_recipe():
    recipe = Config.fromfile('configs/multilabel/tresnet-l_asl_coco-448.py')
    ours = classifier_config('tresnet_l', dict(type='LinearHead', num_classes=80), 448)
    assert ours.test_dataloader.dataset.pipeline == recipe.test_dataloader.dataset.pipeline
    assert ours.model.data_preprocessor == recipe.model.data_preprocessor
    assert recipe.model.threshold == THRESHOLD
    assert ours.model.backbone.model_name == recipe.model.backbone.model_name


def test_a_converted_checkpoint_is_evaluated(converted, tmp_path):
    Image.new('RGB', (32, 32)).save(tmp_path / 'a.png')
    (tmp_path / 'labels.csv').write_text('a.png,class 0\n')
    cfg = classifier_config('tresnet_m', dict(type='LinearHead', num_classes=80), 64)
    cfg.test_dataloader.update(
        batch_size=2, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=False))
    cfg.test_dataloader.dataset.update(
        type='CSVMultiLabelDataset', ann_file=str(tmp_path / 'labels.csv'), separator=';',
        metainfo=dict(classes=list(NAMES.values())), data_prefix=dict(img_path=str(tmp_path)))
    cfg.update(test_cfg=dict(type='TestLoop'), test_evaluator=dict(type='MultiLabelMetric'),
               experiment_name=tmp_path.name)
    metrics = engine.test(cfg, converted, work_dir=str(tmp_path / 'run'))
    assert 0 <= metrics['multilabel/mAP'] <= 1


def changed(source, path, change):
    content = torch.load(source, weights_only=True)
    change(content)
    torch.save(content, path)
    return str(path)


@pytest.mark.parametrize('change, what', [
    (lambda c: c['model'].pop('body.layer4.2.conv3.1.bias'),
     'a.pth does not fit .*missing: backbone.model.body.layer4.2.conv3.bn.bias'),
    (lambda c: c['model'].update(extra=torch.zeros(2)), 'left over: .*extra'),
    (lambda c: c['model'].update({'head.fc.bias': torch.zeros(79)}), r'head.fc.bias \(79,\)'),
    (lambda c: c['model'].pop('head.fc.weight'), 'lacks head.fc.weight'),
    (lambda c: c['model'].pop('body.conv1.0.weight'), 'is not of TResNet'),
    (lambda c: c['model'].update({'body.conv1.0.weight': torch.zeros(65, 48, 3, 3)}),
     '65 channels'),
    (lambda c: c['model'].update({'backbone.x': torch.zeros(1)}), 'of our classifier already'),
    (lambda c: c.update(num_classes=81), 'says num_classes=81, but its head has 80'),
    (lambda c: c['idx_to_class'].pop(5), 'does not number its 80 classes'),
    (lambda c: c['idx_to_class'].update({5: 'class 6'}), 'a name twice'),
    (lambda c: c.pop('idx_to_class'), 'has no idx_to_class: .*--classes FILE')])
def test_a_file_that_does_not_fit_is_refused_with_names(change, what, source, tmp_path):
    path = changed(source, tmp_path / 'a.pth', change)
    with pytest.raises(UserError, match=what):
        convert(path, tmp_path / 'b.pth')
    assert not (tmp_path / 'b.pth').exists()


def test_the_command_says_what_was_mapped(source, tmp_path, monkeypatch, capsys):
    path = changed(source, tmp_path / 'a.pth', lambda c: c.pop('idx_to_class'))
    (tmp_path / 'names.txt').write_text('\n'.join(f'name {i}' for i in range(80)))
    assert run_command('convert', path, tmp_path / 'b.pth', '--classes', tmp_path / 'names.txt',
                       '--threshold', '0.3') is None
    said = capsys.readouterr().out
    assert 'tresnet_m, linear head, 80 classes (name 0, ...), input 448 px, threshold 0.3' in said
    assert '372 weights  body.* -> backbone.model.body.*' in said
    assert '2 weights  head.* -> head.*' in said
    opened = open_checkpoint(None, str(tmp_path / 'b.pth'))
    assert opened.classes[79] == 'name 79' and opened.choose().thresholds.default == 0.3
