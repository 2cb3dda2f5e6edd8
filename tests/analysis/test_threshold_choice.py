"""Which thresholds are chosen, and that their gain is measured where it was not chosen."""

import itertools

import numpy as np
import pytest
from sklearn.metrics import f1_score

from asl_det.analysis.claims import Claims, claims_of_labels, splits
from asl_det.analysis.threshold_choice import (
    Entries,
    Objective,
    best_cuts,
    choose,
    count,
    cross_validate,
    metrics,
)
from asl_det.errors import UserError

# Logits of classes are shifted, so that each has another best threshold.
SHIFTS = np.array([-2.0, 0.0, 1.5, 0.5])


def made_up(images=400, seed=0, shifts=SHIFTS, positive=(0.3, 0.2, 0.4, 0.1)):
    rng = np.random.default_rng(seed)
    targets = (rng.random((images, len(shifts))) < np.array(positive)).astype(np.int8)
    logits = rng.normal(4.0 * targets - 2 + shifts, 1.5)
    return logits.astype(np.float32), targets


ALL = np.ones(400, bool)


def known(scores, targets):
    return [Entries(s.astype(float), t.astype(float), t.sum())
            for s, t in zip(scores.T, targets.T, strict=True)]


def f1_of(scores, targets, thresholds, average):
    return f1_score(targets, scores >= np.asarray(thresholds, np.float32), average=average)


def test_thresholds_of_classes_have_the_best_f1_of_each_class():
    scores, targets = made_up(images=60)
    one, own = best_cuts(known(scores, targets), Objective('macro-f1'))
    for c in range(4):
        best = max(f1_score(targets[:, c], scores[:, c] >= t) for t in scores[:, c])
        assert f1_score(targets[:, c], scores[:, c] >= own[c]) == pytest.approx(best)
    best = max(f1_of(scores, targets, t, 'macro') for t in np.unique(scores))
    assert f1_of(scores, targets, one, 'macro') == pytest.approx(best)


def test_thresholds_for_micro_f1_have_the_best_of_all_combinations():
    scores, targets = made_up(images=14, shifts=SHIFTS[:2], positive=(0.3, 0.4))
    one, own = best_cuts(known(scores, targets), Objective('micro-f1'))
    columns = [np.unique(s) for s in scores.T]
    best = max(f1_of(scores, targets, t, 'micro') for t in itertools.product(*columns))
    assert f1_of(scores, targets, own, 'micro') == pytest.approx(best)
    best = max(f1_of(scores, targets, t, 'micro') for t in np.unique(scores))
    assert f1_of(scores, targets, one, 'micro') == pytest.approx(best)


@pytest.mark.parametrize('name, other', [('precision', 'recall'), ('recall', 'precision')])
def test_a_target_is_met_in_every_class_at_the_highest_other_value(name, other):
    scores, targets = made_up(images=150)
    claims = claims_of_labels(scores, targets)
    chosen = choose(claims, ALL[:150], Objective(name, 0.85), 0)
    by_class = metrics(claims, *count(claims, chosen.classes))[1]
    assert (by_class[name] >= 0.85).all()
    for c, claim in enumerate(claims):
        every = [metrics([claim], *count([claim], [t]))[1] for t in claim.logits]
        assert by_class[other][c] == pytest.approx(
            max(one[other][0] for one in every if one[name][0] >= 0.85))
    overall = metrics(claims, *count(claims, [chosen.one] * 4))[0]
    assert overall['OP' if name == 'precision' else 'OR'] >= 0.85


def test_a_target_out_of_reach_is_told_with_the_highest_that_there_is():
    claims = [Claims(np.array([0.9, 0.8]), np.array([False, True]), np.arange(2), np.array([1]))]
    with pytest.raises(UserError, match='precision of 0.9 .* highest is 0.500'):
        choose(claims, ALL[:2], Objective('precision', 0.9), 0)
    missed = [claims[0]._replace(positives=np.array([0, 1, 1, 1]))]
    with pytest.raises(UserError, match='recall of 0.5 .* highest is 0.250'):
        choose(missed, ALL[:2], Objective('recall', 0.5), 0)


def test_a_class_shrinks_to_the_global_threshold_the_more_the_fewer_positives_it_has():
    scores, targets = made_up()
    claims = claims_of_labels(scores, targets)
    alone, half, one = (choose(claims, ALL, Objective(), k)
                        for k in (0, targets[:, 3].sum(), np.inf))
    assert alone.share.tolist() == [1] * 4 and half.share[3] == 0.5 < half.share[0]
    assert half.classes[3] == pytest.approx((alone.classes[3] + alone.one) / 2)
    assert one.classes.tolist() == [alone.one] * 4
    targets[:, 3] = 0
    without = choose(claims_of_labels(scores, targets), ALL, Objective(), 0)
    assert without.classes[3] == without.one and without.share[3] == 0


@pytest.mark.parametrize('objective', [Objective(), Objective('micro-f1'),
                                       Objective('precision', 0.8)])
def test_how_much_classes_shrink_is_found_within_the_images_that_choose(objective):
    different = claims_of_labels(*made_up(shifts=np.array([-4.0, 0.0, 4.0, 2.0])))
    assert choose(different, ALL, objective).shrink <= 100
    # What the others say does not matter.
    part = ALL.copy()
    part[200:] = False
    scores, targets = made_up()
    before = choose(claims_of_labels(scores, targets), part, objective)
    targets[200:] = 1 - targets[200:]
    after = choose(claims_of_labels(scores, targets), part, objective)
    assert before.classes.tolist() == after.classes.tolist() and before.shrink == after.shrink


def test_a_threshold_lies_halfway_to_the_next_lower_score():
    scores = np.array([[0.9], [0.7], [0.5], [0.2]])
    one, own = best_cuts(known(scores, np.array([[1], [1], [0], [0]])), Objective())
    assert own[0] == one == pytest.approx(0.6)


def test_classes_whose_scores_lie_elsewhere_get_thresholds_there():
    claims = claims_of_labels(*made_up(images=400, shifts=np.array([-3.0, 3.0, 0.0, 0.0])))
    chosen = choose(claims, ALL, Objective(), 0)
    one, own = (metrics(claims, *count(claims, t))[1]['F1']
                for t in ([chosen.one] * 4, chosen.classes))
    assert chosen.classes[0] < -0.8 < 0.8 < chosen.classes[1]
    assert (own[:2] > one[:2] + 0.1).all()


def test_chosen_thresholds_move_less_between_samples_than_the_best_ones_do():
    best, chosen = [], []
    for seed in range(6):
        scores, targets = made_up(images=100, seed=seed, shifts=np.zeros(4))
        best.append(best_cuts(known(scores, targets), Objective())[1])
        chosen.append(choose(claims_of_labels(scores, targets), ALL[:100], Objective(), 0).classes)
    assert np.std(chosen, 0).mean() < 0.6 * np.std(best, 0).mean()


def test_unknown_labels_count_nowhere():
    scores, targets = made_up()
    padded = np.concatenate([scores, made_up(seed=1)[0]])
    unknown = np.concatenate([targets, np.full_like(targets, -1)])
    for one, two in zip(choose(claims_of_labels(scores, targets), ALL, Objective(), 20),
                        choose(claims_of_labels(padded, unknown), np.ones(800, bool), Objective(),
                               20), strict=True):
        np.testing.assert_array_equal(one, two)


def test_scores_without_labels_are_refused():
    scores, targets = made_up()
    with pytest.raises(UserError, match='nothing that is there has a score'):
        choose(claims_of_labels(scores, np.full_like(targets, -1)), ALL, Objective(), 20)


def test_on_noise_the_cross_validated_gain_vanishes_and_the_one_on_the_same_scores_does_not():
    rng = np.random.default_rng(0)
    scores = rng.random((300, 20)).astype(np.float32)  # know nothing
    targets = (rng.random((300, 20)) < 0.1).astype(np.int8)
    claims = claims_of_labels(scores, targets)
    same = metrics(claims, *count(claims, best_cuts(known(scores, targets), Objective())[1]))[0]
    found = cross_validate(claims, splits(ALL[:300], 5, 0), Objective(), 0.01, 0)
    everything, classes = (found[k][0]['mean_class_F1'] for k in ('fixed', 'classes'))
    assert same['mean_class_F1'] > everything + 0.02  # a chance find in each class
    assert classes < everything + 0.005


def test_where_classes_differ_the_gain_holds_on_images_that_did_not_choose():
    claims = claims_of_labels(*made_up(images=1000))
    found = cross_validate(claims, splits(np.ones(1000, bool), 2, 0), Objective(), 0.0)
    fixed, one, classes = (found[k][0]['mean_class_F1'] for k in ('fixed', 'global', 'classes'))
    assert classes > one + 0.02 and classes > fixed + 0.02


def test_no_image_is_judged_by_thresholds_that_it_helped_to_choose():
    scores, targets = made_up(images=60)
    claims, held_out = claims_of_labels(scores, targets), splits(ALL[:60], 3, 0)
    assert (np.sum(held_out, 0) == 1).all()
    predicted = np.zeros(scores.shape, bool)
    for fold in held_out:
        rest = claims_of_labels(scores[~fold], targets[~fold])
        own = choose(rest, ALL[:40], Objective(), 20).classes
        predicted[fold] = scores[fold] >= own
    found = cross_validate(claims, held_out, Objective(), 0.0, 20)
    assert found['classes'][0]['mean_class_F1'] == pytest.approx(
        f1_score(targets, predicted, average='macro'))
    with pytest.raises(UserError, match='61 folds: expected 2 to 60'):
        splits(ALL[:60], 61, 0)


def of_slopes(slopes, images, seed):
    """Logits of which those of a class are calibrated after a division by its slope."""
    rng = np.random.default_rng(seed)
    true = rng.normal(-1.5, 2.0, (images, len(slopes)))
    targets = (rng.random(true.shape) < 1 / (1 + np.exp(-true))).astype(np.int8)
    return claims_of_labels(true * np.array(slopes), targets)


def f1_of_class(claims, thresholds):
    return metrics(claims, *count(claims, thresholds))[1]['F1']


@pytest.mark.parametrize('slope', [0.3, 3.0])
def test_a_class_whose_scores_have_another_slope_gets_its_best_f1(slope):
    slopes = [slope] + [1.0] * 5
    chosen = choose(of_slopes(slopes, 3000, 0), np.ones(3000, bool), Objective(), 0)
    judge = of_slopes(slopes, 20_000, 1)
    best = best_cuts([Entries(c.logits, c.hits.astype(float), len(c.positives)) for c in judge],
                     Objective())[1]
    lost = f1_of_class(judge, best) - f1_of_class(judge, chosen.classes)
    assert lost[0] < 0.015 and lost[1:].mean() < 0.01


def test_many_labels_mend_a_class_that_no_slope_fits():
    def bent(images, seed):  # likely and unlikely entries on other slopes
        claims = of_slopes([1.0] * 6, images, seed)
        x = claims[0].logits + 1
        return [claims[0]._replace(logits=np.where(x > 0, 3 * x, 0.2 * x)), *claims[1:]]
    judge = bent(40_000, 1)
    best = best_cuts([Entries(c.logits, c.hits.astype(float), len(c.positives)) for c in judge],
                     Objective())[1]
    lost = [f1_of_class(judge, best)[0] - f1_of_class(judge, choose(
        bent(n, 0), np.ones(n, bool), Objective(), 0).classes)[0] for n in (300, 20_000)]
    assert lost[1] < 0.01 and lost[1] < lost[0] / 2


def test_a_target_that_all_images_reach_is_met_though_a_part_of_them_does_not():
    # One right entry above a wrong one of the same images: half of the parts have only the others.
    logits = np.concatenate([np.arange(20, 0, -1), [30.0], np.arange(-20, 0)])[:, None]
    targets = (logits[:, 0] == 30).astype(np.int8)[:, None]
    targets[:10] = 1
    targets[0] = 0
    images = np.ones(len(logits), bool)
    claims, objective = claims_of_labels(logits, targets), Objective('precision', 1.0)
    chosen = choose(claims, images, objective)
    assert metrics(claims, *count(claims, chosen.classes))[0]['OP'] == 1
    found = cross_validate(claims, splits(images, 5, 0), objective, 0.0)
    assert set(found) == {'fixed', 'global', 'classes'}


def test_parts_without_a_single_hit_do_not_end_the_choice():
    rng = np.random.default_rng(0)
    targets = np.zeros((40, 2), np.int8)
    targets[:1] = 1
    claims = claims_of_labels(rng.normal(3 * targets, 1), targets)
    for objective in (Objective(), Objective('micro-f1'), Objective('recall', 1.0)):
        choose(claims, np.ones(40, bool), objective)
        assert cross_validate(claims, splits(np.ones(40, bool), 4, 0), objective, 0.0)


@pytest.mark.parametrize('shift', [60.0, -200.0])
@pytest.mark.parametrize('objective', [Objective(), Objective('micro-f1'),
                                       Objective('precision', 0.8)])
def test_a_number_added_to_every_logit_moves_the_thresholds_by_it(shift, objective):
    logits, targets = made_up()
    plain, moved = (choose(claims_of_labels(logits + s, targets), ALL, objective)
                    for s in (0.0, shift))
    assert moved.shrink == plain.shrink
    assert moved.classes == pytest.approx(plain.classes + shift, abs=0.02)
