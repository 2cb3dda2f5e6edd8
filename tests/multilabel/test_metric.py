"""The metric against scikit-learn, by hand, and in its conventions."""

import csv
import logging
import os

import numpy as np
import pytest
import torch
from processes import python_twice
from sklearn.metrics import (
    average_precision_score,
    f1_score,
    precision_recall_fscore_support,
    precision_score,
    recall_score,
)

from asl_det.errors import UserError
from asl_det.multilabel import MultiLabelMetric, MultiLabelSample
from asl_det.multilabel.measures import average_precision, kept, measure, top_k


def multilabel_metrics(scores, targets, predicted, topk=(3,), **kwargs):
    images = [kept(s, t, p.nonzero()[0], max(topk, default=0))
              for s, t, p in zip(scores, targets, predicted, strict=True)]
    return measure(images, scores.shape[1], topk, **kwargs)


def random_case(seed, n=200, c=7, levels=None, unknown=0.0):
    rng = np.random.default_rng(seed)
    scores = rng.random((n, c)).astype(np.float32)
    if levels:  # many equal scores
        scores = np.round(scores * levels) / np.float32(levels)
    targets = (rng.random((n, c)) < rng.uniform(0.05, 0.6, c)).astype(np.int8)
    targets[0] = 1
    targets[rng.random((n, c)) < unknown] = -1
    return scores, targets


@pytest.mark.parametrize('levels', [None, 3, 1])
@pytest.mark.parametrize('seed', range(5))
def test_average_precision_is_scikit_learns_with_and_without_ties(seed, levels):
    scores, targets = random_case(seed, levels=levels)
    for c in range(7):
        column, hits = scores[:, c], scores[targets[:, c] == 1, c]
        for parts in (1, 4):
            assert average_precision(hits, np.array_split(column, parts)) == pytest.approx(
                average_precision_score(targets[:, c], column))


@pytest.mark.parametrize('seed', range(3))
def test_all_values_are_scikit_learns(seed):
    scores, targets = random_case(seed)
    predicted = scores >= 0.6
    got, by_class = multilabel_metrics(scores, targets, predicted)
    for name, average in (('mAP', 'macro'), ('mAP_weighted', 'weighted'), ('mAP_pooled', 'micro')):
        assert got[name] == pytest.approx(average_precision_score(targets, scores, average=average))
    options = dict(zero_division=0)
    assert got['CP'] == pytest.approx(precision_score(targets, predicted, average='macro',
                                                      **options))
    assert got['CR'] == pytest.approx(recall_score(targets, predicted, average='macro', **options))
    assert got['mean_class_F1'] == pytest.approx(f1_score(targets, predicted, average='macro',
                                                          **options))
    assert got['CF1'] == pytest.approx(2 * got['CP'] * got['CR'] / (got['CP'] + got['CR']))
    micro = precision_recall_fscore_support(targets, predicted, average='micro')[:3]
    assert (got['OP'], got['OR'], got['OF1']) == pytest.approx(micro)
    three = np.zeros_like(predicted)
    np.put_along_axis(three, np.argsort(-scores, 1, kind='stable')[:, :3], True, 1)
    micro = precision_recall_fscore_support(targets, three, average='micro')[:3]
    assert (got['top3_OP'], got['top3_OR'], got['top3_OF1']) == pytest.approx(micro)
    assert by_class['precision'] == pytest.approx(precision_score(targets, predicted, average=None))


def test_unknown_labels_count_nowhere():
    scores, targets = random_case(0, unknown=0.4)
    predicted = scores >= 0.5
    got, by_class = multilabel_metrics(scores, targets, predicted)
    known = [targets[:, c] >= 0 for c in range(7)]
    ap = [average_precision_score(targets[k, c], scores[k, c]) for c, k in enumerate(known)]
    assert got['mAP'] == pytest.approx(np.mean(ap)) and by_class['AP'] == pytest.approx(ap)
    flat = targets >= 0
    assert got['mAP_pooled'] == pytest.approx(average_precision_score(targets[flat], scores[flat]))
    assert got['OP'] == pytest.approx(precision_score(targets[flat], predicted[flat]))
    assert got['OR'] == pytest.approx(recall_score(targets[flat], predicted[flat]))
    flipped = np.where(flat, scores, 1 - scores)  # scores of unknown entries do not matter
    again = multilabel_metrics(flipped, targets, np.where(flat, predicted, ~predicted))[0]
    assert all(again[n] == got[n] for n in got if not n.startswith('top'))


def test_a_class_without_positives_is_reported_and_left_out():
    scores, targets = random_case(1)
    targets[:, 2] = 0
    got, by_class = multilabel_metrics(scores, targets, scores >= 0.5)
    rest = np.delete(np.arange(7), 2)
    less = multilabel_metrics(scores[:, rest], targets[:, rest], scores[:, rest] >= 0.5)[0]
    assert got['classes_without_positives'] == 1 and np.isnan(by_class['AP'][2])
    for name in ('mAP', 'mAP_weighted', 'CP', 'CR', 'CF1', 'mean_class_F1'):
        assert got[name] == pytest.approx(less[name])


def test_a_class_without_predictions_has_precision_zero():
    targets = np.array([[1, 1], [0, 1]])
    scores = np.array([[0.9, 0.1], [0.2, 0.3]])
    got = multilabel_metrics(scores, targets, scores >= 0.5, topk=())[0]
    assert got['CP'] == 0.5 and got['CR'] == 0.5 and got['OP'] == 1.0


def test_of_equal_scores_the_first_classes_are_in_the_top_k():
    for scores, expected in (([0.5, 0.5, 0.5, 0.5], [0, 1]), ([0.1, 0.9, 0.1, 0.1], [1, 0]),
                             ([0.4, 0.3, 0.2, 0.1], [0, 1]), ([0.2, 0.2, 0.3, 0.2], [2, 0])):
        assert top_k(np.array(scores), 2).tolist() == expected
    for seed in range(3):
        for row in random_case(seed, n=50, c=30, levels=4)[0]:
            assert top_k(row, 7).tolist() == np.argsort(-row, kind='stable')[:7].tolist()


def test_a_class_without_known_negatives_can_be_left_out_of_the_means():
    scores, targets = random_case(4, unknown=0.3)
    targets[targets[:, 5] == 0, 5] = -1
    predicted = scores >= 0.5
    got, by_class = multilabel_metrics(scores, targets, predicted)
    assert by_class['AP'][5] == 1 and got['classes_without_negatives'] == 1
    assert got['mAP'] == pytest.approx(by_class['AP'].mean())
    got, by_class = multilabel_metrics(scores, targets, predicted, need_negatives=True)
    rest = np.delete(np.arange(7), 5)
    less = multilabel_metrics(scores[:, rest], targets[:, rest], predicted[:, rest])[0]
    assert np.isnan(by_class['AP'][5]) and got['classes_without_negatives'] == 1
    for name in ('mAP', 'mAP_weighted', 'CP', 'CR', 'CF1', 'mean_class_F1'):
        assert got[name] == pytest.approx(less[name])
    pooled = targets >= 0  # in the lists of all entries it stays
    assert got['mAP_pooled'] == pytest.approx(
        average_precision_score(targets[pooled], scores[pooled]))


def test_where_no_class_has_positives_there_are_no_metrics():
    scores, targets = random_case(0)
    overall, by_class = multilabel_metrics(scores, np.zeros_like(targets), scores > 0.5)
    assert overall == {} and (by_class['negatives'] == 200).all()
    assert np.isnan(by_class['AP']).all()
    only_positives = np.where(targets == 1, 1, -1).astype(np.int8)
    assert multilabel_metrics(scores, only_positives, scores > 1, need_negatives=True)[0] == {}


def test_storing_all_or_only_known_entries_gives_the_same_metrics():
    scores, targets = random_case(5, n=300, c=40, levels=50, unknown=0.5)
    targets[:100][np.random.default_rng(0).random((100, 40)) < 0.8] = -1
    targets[:5] = -1
    predicted = scores >= 0.7
    all_entries = [kept(s, t, p.nonzero()[0], 3, dense=True)
                   for s, t, p in zip(scores, targets, predicted, strict=True)]
    mixed = [kept(s, t, p.nonzero()[0], 3)
             for s, t, p in zip(scores, targets, predicted, strict=True)]
    assert {i.complete for i in all_entries} == {True}
    assert {i.complete for i in mixed} == {True, False}
    (a, by_class_a), (b, by_class_b) = measure(all_entries, 40), measure(mixed, 40)
    assert a == b
    for name in by_class_a:
        np.testing.assert_array_equal(by_class_a[name], by_class_b[name])


def samples(scores, targets, threshold=0.5):
    for row, target in zip(scores, targets, strict=True):
        sample = MultiLabelSample(metainfo=dict(img_path='a.png'))
        sample.scores, sample.gt_label = torch.from_numpy(row), torch.from_numpy(target)
        sample.pred_labels = (sample.scores >= threshold).nonzero().squeeze(1)
        yield sample.to_dict()


@pytest.fixture
def log(monkeypatch):
    lines = []
    monkeypatch.setattr('asl_det.multilabel.metric.print_log',
                        lambda text, logger, level=logging.INFO: lines.append(text))
    return lines


def test_mistakes_are_said_before_the_evaluation_is_over(log):
    scores, targets = random_case(0)
    scores[3, 3] = np.nan
    with pytest.raises(UserError, match='a.png: its scores are not finite'):
        MultiLabelMetric().process(None, list(samples(scores, targets)))
    metric = MultiLabelMetric()
    metric.dataset_meta = dict(classes=('cat', 'dog', 'cow'))
    with pytest.raises(UserError, match='7 scores an image, but the data set has 3 classes'):
        metric.process(None, list(samples(scores[:1], targets[:1])))
    for topk in ((0,), (2.5,), (True,), 3):
        with pytest.raises(UserError, match='topk'):
            MultiLabelMetric(topk=topk)


def test_top_k_beyond_the_classes_is_left_out_with_a_word_when_the_data_set_is_known(log):
    metric = MultiLabelMetric(topk=(1, 3, 9))
    metric.dataset_meta = dict(classes=('cat', 'dog'))
    assert metric.topk == (1,) and 'top3, top9: left out' in log[0] and '2 classes' in log[0]
    scores, targets = random_case(0, c=2)
    metric.process(None, list(samples(scores, targets)))
    got = metric.evaluate(200)
    assert 'multilabel/top1_OP' in got and 'multilabel/top3_OP' not in got and len(log) == 1


def test_a_data_set_without_labels_is_scored(tmp_path, log):
    scores, targets = random_case(0)
    for name in ('unknown', 'without'):
        metric = MultiLabelMetric(outfile_prefix=str(tmp_path / name))
        batch = list(samples(scores, np.full_like(targets, -1)))
        if name == 'without':
            for sample in batch:
                del sample['gt_label']
        metric.process(None, batch)
        assert metric.evaluate(200) == {}
        assert 'no class has known positives' in log.pop()
        with np.load(tmp_path / f'{name}.scores.npz') as saved:
            assert (saved['scores'] == scores).all() and (saved['targets'] == -1).all()
            assert saved['img_path'].tolist() == ['a.png'] * 200
            assert saved['classes'].tolist() == list('0123456')


def test_the_registered_metric_gives_these_values_and_writes_files(tmp_path):
    scores, targets = random_case(2, unknown=0.1)
    metric = MultiLabelMetric(outfile_prefix=str(tmp_path / 'out' / 'results'), classwise=True)
    metric.dataset_meta = dict(classes=tuple('abcdefg'))
    batches = list(samples(scores, targets))
    metric.process(None, batches[:150])
    metric.process(None, batches[150:])
    got = metric.evaluate(200)
    expected, by_class = multilabel_metrics(scores, targets, scores >= 0.5)
    assert got == {f'multilabel/{k}': v for k, v in expected.items()}
    rows = list(csv.DictReader((tmp_path / 'out/results.classes.csv').read_text().splitlines()))
    assert [r['class'] for r in rows] == list('abcdefg')
    assert [float(r['AP']) for r in rows] == pytest.approx(by_class['AP'].tolist(), rel=1e-4)
    with np.load(tmp_path / 'out/results.scores.npz') as saved:
        assert (saved['scores'] == scores).all() and (saved['targets'] == targets).all()


def test_a_large_vocabulary_stays_in_bounds():
    scores, targets = random_case(3, n=1000, c=9605, unknown=0.9)
    got = multilabel_metrics(scores, targets, scores >= 0.5)[0]
    assert 0.2 < got['mAP'] < 0.6 and got['classes_without_positives'] < 10


SCALED_DOWN = '''
import re
from pathlib import Path
import numpy as np, torch
from mmengine.dist import get_rank
from asl_det.multilabel import MultiLabelMetric
from asl_det.multilabel.measures import kept, measure

IMAGES, CLASSES = 3000, 9605

def peak():
    return int(re.search(r'VmHWM:\\s+(\\d+)', Path('/proc/self/status').read_text()).group(1))

def batch(indices):  # as a model gives it: one tensor of all scores
    scores = torch.stack([torch.randn(CLASSES, generator=torch.Generator().manual_seed(i))
                          for i in indices]).sigmoid()
    for i, row in zip(indices, scores, strict=True):
        chosen = torch.from_numpy(np.random.default_rng(i).choice(CLASSES, 40, replace=False))
        target = torch.full((CLASSES,), -1, dtype=torch.int8)
        target[chosen], target[chosen[:10]] = 0, 1
        yield dict(scores=row, gt_label=target, img_path=f'{i}.jpg',
                   pred_labels=(row > 0.9).nonzero().squeeze(1))

torch.distributed.init_process_group('gloo')
metric = MultiLabelMetric()
before = peak()
for start in range(get_rank(), IMAGES, 120):
    metric.process(None, list(batch(range(start, min(start + 120, IMAGES), 2))))
got = metric.evaluate(IMAGES)
if get_rank() == 0:
    print((peak() - before) // 1024)
    images = [kept(*(s[name].numpy() for name in ('scores', 'gt_label', 'pred_labels')), 3)
              for i in range(IMAGES) for s in batch([i])]
    assert got == {f'multilabel/{k}': v for k, v in measure(images, CLASSES)[0].items()}
'''


def test_memory_follows_the_known_entries_also_while_two_processes_gather(tmp_path):
    (tmp_path / 'run.py').write_text(SCALED_DOWN)
    first, second = python_twice('run.py', cwd=tmp_path,
                                 env=dict(os.environ, PYTHONPATH=os.getcwd()))
    assert first.returncode == second.returncode == 0, first.stderr + second.stderr
    assert int(first.stdout) < 80  # megabytes; all scores and labels are 144
