"""The order of the logits holds where their sigmoid is 1, or 0, for all of them."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from small_digits import small_digits
from test_metric import log, random_case, samples  # noqa: F401

from asl_det.engine import test as evaluate
from asl_det.multilabel import MultiLabelMetric
from asl_det.multilabel.measures import kept
from asl_det.multilabel.metric import read_scores, write_scores
from asl_det.multilabel.thresholds import Thresholds
from asl_det.registry import MODELS

RANKED = ('mAP', 'mAP_weighted', 'mAP_pooled', 'top3_CF1', 'top3_OF1')


@pytest.fixture(scope='module')
def shifted(tmp_path_factory):
    """A config, and checkpoints of one network with 0, 60 and -120 added to every logit."""
    root = tmp_path_factory.mktemp('shifted')
    cfg = small_digits(root)
    cfg.test_dataloader = cfg.val_dataloader
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    torch.nn.init.normal_(model.head.fc.weight, std=1.0)
    paths = {}
    for shift in (0, 60, -120):
        state = model.state_dict()
        state['head.fc.bias'] = state['head.fc.bias'] + shift
        paths[shift] = str(root / f'{shift}.pth')
        torch.save(dict(state_dict=state, meta={}), paths[shift])
    return cfg, paths


def measured(cfg, checkpoint, folder, **more):
    found = evaluate(cfg, checkpoint, work_dir=str(folder / 'work'), out=folder / 'results.json',
                     **more)
    return {k.removeprefix('multilabel/'): v for k, v in found.items()}


@pytest.mark.parametrize('shift', [60, -120])
def test_a_number_added_to_every_logit_changes_no_metric_that_ranks(shifted, shift, tmp_path):
    cfg, paths = shifted
    plain, other = (measured(cfg, paths[s], tmp_path / str(s)) for s in (0, shift))
    assert plain['mAP'] > 0.1
    for name in RANKED:
        assert other[name] == pytest.approx(plain[name], abs=1e-3), name
    one, two = (read_scores(tmp_path / f'{s}/results.scores.npz') for s in (0, shift))
    assert (two.scores == (shift > 0)).all()
    np.testing.assert_allclose(two.logits, one.logits + shift, atol=1e-3)
    np.testing.assert_allclose(one.scores, 1 / (1 + np.exp(-one.logits)), rtol=1e-5)


@pytest.mark.parametrize('shift', [60, -120])
def test_thresholds_far_from_zero_decide_as_near_it(shifted, shift, tmp_path):
    cfg, paths = shifted
    names = [c['name'] for c in json.loads(truth_of(cfg).read_text())['categories']]
    own = dict(zip(names, np.linspace(0.2, 0.8, len(names)), strict=True))
    plain = measured(cfg, paths[0], tmp_path / 'a', thresholds=Thresholds(0.5, own))
    other = measured(cfg, paths[shift], tmp_path / 'b',
                   thresholds=Thresholds(0.5, own, 1.0, float(-shift)))
    assert plain['OP'] > 0 and {k: other[k] for k in ('OP', 'OR', 'CP', 'CR')} == pytest.approx(
        {k: plain[k] for k in ('OP', 'OR', 'CP', 'CR')})


def truth_of(cfg):
    return Path(cfg.test_dataloader.dataset.data_root) / 'instances_val.json'


def test_of_samples_with_scores_alone_it_is_said_when_many_are_equal(log):  # noqa: F811
    scores, targets = random_case(0)
    metric = MultiLabelMetric()
    for batch in ((scores > 0.5).astype(np.float32), scores):
        metric.process(None, list(samples(batch, targets)))
        metric.evaluate(200)
    said, = log  # the second batch has none
    assert 'are exactly 0 (' in said and 'are exactly 1 (' in said and 'their order is lost' in said
    assert 'logits' in said


def test_a_class_that_a_model_masks_with_minus_infinity_is_measured():
    scores, targets = random_case(0)
    metric = MultiLabelMetric()
    batch = list(samples(scores, targets))
    for sample in batch:
        sample['logits'] = sample['scores'].logit()
        sample['logits'][2] = -torch.inf
    metric.process(None, batch)
    assert metric.evaluate(200)['multilabel/mAP'] > 0


def test_files_of_scores_without_logits_are_read(tmp_path):
    scores, targets = random_case(0, n=4)
    images = [kept(s, t, np.empty(0, int), 0, dense=True)
              for s, t in zip(scores, targets, strict=True)]
    write_scores(tmp_path / 'old.npz', images, list('abcdefg'))
    found = read_scores(tmp_path / 'old.npz')
    assert found.logits is None and (found.scores == scores).all()
