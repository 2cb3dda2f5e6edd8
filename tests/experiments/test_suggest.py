"""What can be said about gamma and margin before a training, and what can not."""

import json

import numpy as np
import pytest
import torch
from mmdet.datasets import CocoDataset
from scipy.stats import spearmanr

from asl_det.errors import UserError
from asl_det.experiments.suggest import (
    assumed_ranges,
    assumed_scores,
    best_probability,
    compare,
    label_statistics,
    plot_balance,
    suggest,
)
from asl_det.losses import AsymmetricLoss
from asl_det.multilabel import MultiLabelDataset

POSITIVES, NEGATIVES = np.array([50, 300]), np.array([950, 700])


def made_up_baseline(separation=3.0, images=2000, seed=0):
    """Scores ``(N, C)`` of a calibrated baseline."""
    scores, targets = assumed_scores(POSITIVES, NEGATIVES, separation, seed, entries=2 * images)
    return scores.reshape(images, 2), targets.reshape(images, 2)


def test_the_minimiser_of_cross_entropy_is_the_posterior_and_asl_raises_it():
    posterior = np.array([0.01, 0.1, 0.5, 0.9])
    assert best_probability(posterior, 0.0, 0.0) == pytest.approx(posterior, abs=0.01)
    one, two = (best_probability(posterior, gamma, 0.05) for gamma in (1.0, 3.0))
    assert (one > posterior).all() and (two > posterior).all() and (two > one)[:3].all()


def test_the_model_ranks_images_alike_at_every_setting():
    posterior = np.linspace(0.06, 0.95, 50)
    for gamma, clip in ((0, 0.05), (2, 0.05), (4, 0.2), (6, 0.0)):
        assert spearmanr(posterior, best_probability(posterior, gamma, clip))[0] > 0.999


def test_cross_entropy_balances_the_gradient_of_a_calibrated_model():
    scores, targets = assumed_scores(POSITIVES, NEGATIVES, 3.0, entries=200_000)
    for low in np.arange(0, 1, 0.1):  # calibrated
        chosen = (scores > low) & (scores <= low + 0.1)
        assert targets[chosen].mean() == pytest.approx(scores[chosen].mean(), abs=0.03)
    by = {(r['gamma_neg'], r['clip']): r for r in compare(scores, targets)}
    assert by[0, 0]['grad_pos'] == pytest.approx(0.5, abs=0.02)
    assert by[4, 0.05]['grad_pos'] > by[2, 0.05]['grad_pos'] > 0.5
    deltas = [by[g, 0.05]['delta_p'] for g in (0, 1, 2, 4, 6)]
    assert deltas == sorted(deltas)


def test_unknown_entries_are_left_out():
    rng = np.random.default_rng(0)
    scores, targets = rng.random((40, 5)), (rng.random((40, 5)) < 0.4).astype(int)
    padded = np.concatenate([scores, rng.random((40, 5))])
    unknown = np.concatenate([targets, -np.ones((40, 5), int)])
    assert compare(padded, unknown) == compare(scores, targets)
    one, two = suggest(padded, unknown), suggest(scores, targets)
    assert (one['clip'], one['gamma_neg']) == (two['clip'], two['gamma_neg'])


def test_without_scores_margin_and_gamma_are_ranges_as_wide_as_what_is_not_known():
    ranges = assumed_ranges(POSITIVES, NEGATIVES)
    assert ranges['auc'] == pytest.approx((0.76, 0.998), abs=2e-3)
    assert ranges['clip'][1] > 10 * ranges['clip'][0] > 0
    assert ranges['gamma_neg'][1] > ranges['gamma_neg'][0] + 1
    for record in ranges['records']:
        for name in ('grad_pos', 'prob_pos', 'prob_neg', 'delta_p'):
            assert record[name][0] <= record[name][1]
    inside = compare(*assumed_scores(POSITIVES, NEGATIVES, 2.0, seed=1))
    for record, one in zip(ranges['records'], inside, strict=True):
        assert (record['gamma_neg'], record['clip']) == (one['gamma_neg'], one['clip'])
        assert record['grad_pos'][0] - 0.02 <= one['grad_pos'] <= record['grad_pos'][1] + 0.02


@pytest.mark.parametrize('margin_share, gradient_share', [(0.9, 0.8), (0.5, 0.7)])
def test_from_scores_margin_and_gamma_do_what_their_reasons_say(margin_share, gradient_share):
    scores, targets = made_up_baseline()
    found = suggest(scores, targets, margin_share=margin_share, gradient_share=gradient_share)
    negatives = scores[targets == 0]
    assert (negatives <= found['clip']).mean() == pytest.approx(margin_share, abs=1e-3)
    under = negatives[negatives <= found['clip']].sum() / negatives.sum()
    assert found['negative_gradient_under'] == pytest.approx(under)
    # The loss that trains, at these scores.
    logits = torch.logit(torch.from_numpy(scores)).float().requires_grad_()
    AsymmetricLoss(gamma_neg=found['gamma_neg'], gamma_pos=0.0, clip=found['clip'])(
        logits, torch.from_numpy(targets)).backward()
    gradient = logits.grad.abs().numpy()
    share = gradient[targets == 1].sum() / gradient.sum()
    assert share == pytest.approx(gradient_share, abs=2e-3)
    assert found['clip_range'][0] <= found['clip'] <= found['clip_range'][1]
    assert found['gamma_range'][0] <= found['gamma_neg'] <= found['gamma_range'][1]


def test_fewer_images_make_the_intervals_wider():
    few, many = (suggest(*made_up_baseline(images=n)) for n in (400, 20_000))
    for name in ('gamma_range', 'clip_range'):
        assert np.diff(few[name]) > 2 * np.diff(many[name]) > 0


def test_a_share_that_no_gamma_reaches_is_said_to_be_out_of_reach():
    assert suggest(*made_up_baseline(), gradient_share=0.999)['gamma_neg'] is None
    # Where positives have it already, nothing is to be focused.
    assert suggest(*made_up_baseline(), gradient_share=0.3)['gamma_neg'] == 0


def test_the_calibration_of_the_baseline_is_told():
    scores, targets = made_up_baseline()
    found = suggest(scores, targets)
    assert found['mean_score'] == pytest.approx(found['positive_share'], abs=0.02)
    focal = suggest(scores ** 0.5, targets)
    assert focal['mean_score'] > 1.3 * focal['positive_share']


def test_scores_that_are_no_probabilities_of_these_labels_are_refused():
    scores, targets = made_up_baseline(images=20)
    with pytest.raises(UserError, match=r'scores go from -?\d'):
        suggest(scores * 5 - 1, targets)
    with pytest.raises(UserError, match='shapes differ'):
        suggest(scores[:5], targets)
    with pytest.raises(UserError, match='needs both'):
        suggest(scores, np.zeros_like(targets))
    broken = scores.copy()
    broken[3, 1] = np.nan
    with pytest.raises(UserError, match=r'1 of \d+ scores are NaN .* the first at .3, 1.'):
        suggest(broken, targets)
    with pytest.raises(UserError, match='expected probabilities; of logits take the sigmoid'):
        suggest(np.log(scores / (1 - scores)), targets)
    with pytest.raises(UserError, match='targets have the values .*2'):
        suggest(scores, targets * 2)
    with pytest.raises(UserError, match='there are no scores'):
        suggest(scores[:0], targets[:0])


def test_the_balance_is_drawn_with_and_without_scores(tmp_path):
    records = compare(*made_up_baseline())
    files = plot_balance(records, tmp_path / 'one', 0.8)
    ranges = [dict(r, **{name: (r[name] - 0.1, r[name] + 0.1) for name in ('grad_pos', 'delta_p')})
              for r in records]
    files += plot_balance(ranges, tmp_path / 'two', 0.8)
    assert [f.name for f in files] == ['one.png', 'one.pdf', 'two.png', 'two.pdf']
    assert all(f.stat().st_size > 5000 for f in files)


def test_label_statistics_count_what_the_file_says(tmp_path):
    (tmp_path / 'a.json').write_text(json.dumps(dict(
        metainfo=dict(classes=['x', 'y', 'z']),
        data_list=[dict(img_path='1', gt_label=[0, 1]), dict(img_path='2', gt_label=[1]),
                   dict(img_path='3', gt_label=[])])))
    found = label_statistics(MultiLabelDataset(str(tmp_path / 'a.json')))
    assert found['positives'].tolist() == [1, 2, 0] and found['positives_per_image'] == 1
    assert found['negatives'].tolist() == [2, 1, 3] and found['unknown'].sum() == 0
    assert found['images_by_positives'] == [1, 1, 1]


def test_labels_of_another_task_are_refused(tmp_path):
    (tmp_path / 'a.json').write_text(json.dumps(dict(
        images=[dict(id=1, file_name='a.png', width=8, height=8)], annotations=[],
        categories=[dict(id=1, name='cat')])))
    data = CocoDataset(ann_file=str(tmp_path / 'a.json'), metainfo=dict(classes=('cat',)),
                       data_prefix=dict(img=''), pipeline=[])
    with pytest.raises(UserError, match='expected a config of a multi-label classifier'):
        label_statistics(data)
