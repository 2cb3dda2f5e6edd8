"""The metric against scikit-learn, by hand, and in its conventions."""

import csv

import numpy as np
import pytest
import torch
from sklearn.metrics import (
    average_precision_score,
    f1_score,
    precision_recall_fscore_support,
    precision_score,
    recall_score,
)

from asl_det.errors import UserError
from asl_det.multilabel import MultiLabelMetric, MultiLabelSample
from asl_det.multilabel.metric import average_precision, multilabel_metrics, top_k


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
        assert average_precision(scores[:, c], targets[:, c] == 1) == pytest.approx(
            average_precision_score(targets[:, c], scores[:, c]))


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
    scores = np.array([[0.5, 0.5, 0.5, 0.5], [0.1, 0.9, 0.1, 0.1], [0.4, 0.3, 0.2, 0.1]])
    assert top_k(scores, 2).tolist() == [[1, 1, 0, 0], [1, 1, 0, 0], [1, 1, 0, 0]]
    for seed in range(3):
        scores = random_case(seed, n=1500, levels=4)[0]
        assert (top_k(scores, 3).sum(1) == 3).all()
    with pytest.raises(UserError, match='topk: 5, but there are 4 classes'):
        top_k(np.zeros((1, 4)), 5)


def test_mistakes_are_said():
    scores, targets = random_case(0)
    with pytest.raises(UserError, match='no label is positive'):
        multilabel_metrics(scores, np.zeros_like(targets), scores > 1)
    scores[3, 3] = np.nan
    with pytest.raises(UserError, match='scores are not finite'):
        multilabel_metrics(scores, targets, scores > 1)
    with pytest.raises(UserError, match='shapes differ'):
        multilabel_metrics(scores[1:], targets, scores > 1)


def samples(scores, targets, threshold=0.5):
    for row, target in zip(scores, targets, strict=True):
        sample = MultiLabelSample(metainfo=dict(img_path='a.png'))
        sample.scores, sample.gt_label = torch.from_numpy(row), torch.from_numpy(target)
        sample.pred_labels = (sample.scores >= threshold).nonzero().squeeze(1)
        yield sample.to_dict()


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
