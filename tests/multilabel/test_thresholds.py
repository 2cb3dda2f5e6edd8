"""thresholds.json is read strictly."""

import json

import numpy as np
import pytest
import torch

from asl_det.errors import UserError
from asl_det.multilabel.thresholds import Thresholds, along


def test_a_file_says_one_threshold_a_class_and_how_logits_become_scores(tmp_path):
    content = {'global': 0.5, 'classes': {'cow': 0.43}, 'temperature': 1.3, 'bias': -0.2,
               'source': {'scores': 'a.npz'}}
    (tmp_path / 'a.json').write_text(json.dumps(content))
    found = Thresholds.load(tmp_path / 'a.json')
    assert found.of(['cat', 'cow']) == [0.5, 0.43]
    assert (found.temperature, found.bias, found.calibrates) == (1.3, -0.2, True)
    assert found.to_dict() == content
    assert Thresholds.parse(str(tmp_path / 'a.json')) == found
    assert Thresholds.parse('0.25') == 0.25 and Thresholds.parse(None) is None
    assert not Thresholds.from_dict({'global': 1}, 'here').calibrates


@pytest.mark.parametrize('content, what', [
    ([], '"global"'), ({}, '"global"'), ({'global': 1.5}, 'global is 1.5'),
    ({'global': True}, 'global is True'), ({'global': '0.5'}, "global is '0.5'"),
    ({'global': 0.5, 'clases': {}}, "unknown 'clases'"), ({'global': 0.5, 'classes': []}, 'object'),
    ({'global': 0.5, 'classes': {'cow': -0.1}}, "class 'cow' is -0.1"),
    ({'global': 0.5, 'temperature': 0}, 'above 0'),
    ({'global': 0.5, 'bias': float('nan')}, 'bias is nan'),
    ({'global': 0.5, 'bias': 10**400}, 'bias is 1000.*expected a number'),
    ({'global': 0.5, 'source': 'a'}, 'source')])
def test_another_content_is_an_error_that_names_file_and_key(content, what, tmp_path):
    (tmp_path / 'a.json').write_text(json.dumps(content))
    with pytest.raises(UserError, match=f'a.json: .*{what}'):
        Thresholds.load(tmp_path / 'a.json')


def test_a_class_that_the_network_does_not_know_is_an_error():
    with pytest.raises(UserError, match='name horse, which the network does not know'):
        Thresholds(0.5, {'cow': 0.4, 'horse': 0.3}).of(['cat', 'cow'])


def test_what_is_no_file_is_an_error_that_says_what_to_give(tmp_path):
    with pytest.raises(UserError, match='a number from 0 to 1, or the path'):
        Thresholds.parse('half')
    (tmp_path / 'a.json').write_text('{')
    with pytest.raises(UserError, match='a.json is no json'):
        Thresholds.load(tmp_path / 'a.json')


def test_a_curve_and_scales_of_classes_decide_on_the_networks_own_logits(tmp_path):
    content = {'global': 0.5, 'curve': [[-2, -8], [0, -1], [2, 1], [9, 4]], 'temperature': 2.0,
               'temperatures': {'dog': 1.0}, 'biases': {'dog': -1.0}}
    thresholds = Thresholds.from_dict(content, 'here')
    assert thresholds.calibrates
    # From 0.5 on: the cat's curve has to reach 0, the dog's 1.
    assert thresholds.on_logits(['cat', 'dog']) == pytest.approx([1.0, 2.0])
    thresholds.save(tmp_path / 'a.json')
    assert Thresholds.load(tmp_path / 'a.json') == thresholds
    x = np.linspace(-5, 12, 50)
    inside = (x >= -2) & (x <= 9)
    assert along(thresholds.curve, x)[inside] == pytest.approx(
        np.interp(x[inside], *zip(*thresholds.curve, strict=True)))
    assert along(thresholds.curve, np.array([-3.0, 16.0])) == pytest.approx([-11.5, 7.0])
    torch.testing.assert_close(along(thresholds.curve, torch.from_numpy(x)),
                               torch.from_numpy(along(thresholds.curve, x)))
    masked = along(thresholds.curve, torch.tensor([-np.inf, 0.0, np.inf])).sigmoid()
    assert masked.tolist() == [0.0, pytest.approx(1 / (1 + np.e)), 1.0]


@pytest.mark.parametrize('curve', [[[0, 0]], [[-1e308, 0], [1e308, 1]],
                                   [[-1, -1], [0, 0], [1e-320, 1]],
                                   [[0, 0], [1, 0]], [[1, 0], [0, 1]], [[0, 0], [1]],
                                   [[0, 0], [1, 'a']], {'a': 1}, [[0, 0], [float('nan'), 1]]])
def test_a_curve_that_does_not_rise_is_refused(curve):
    with pytest.raises(UserError, match='here: curve is .*expected'):
        Thresholds.from_dict({'global': 0.5, 'curve': curve}, 'here')
