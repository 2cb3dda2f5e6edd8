"""thresholds.json is read strictly."""

import json

import pytest

from asl_det.errors import UserError
from asl_det.multilabel.thresholds import Thresholds


def test_a_file_says_one_threshold_a_class_and_how_logits_become_scores(tmp_path):
    content = {'global': 0.5, 'classes': {'cow': 0.43}, 'temperature': 1.3, 'bias': -0.2,
               'source': {'scores': 'a.npz'}}
    (tmp_path / 'a.json').write_text(json.dumps(content))
    found = Thresholds.load(tmp_path / 'a.json')
    assert found.of(['cat', 'cow']) == [0.5, 0.43]
    assert (found.temperature, found.bias, found.calibrates) == (1.3, -0.2, True)
    assert found.to_dict() == content
    assert Thresholds.parse(str(tmp_path / 'a.json')) == found
    assert Thresholds.parse('0.25') == Thresholds(0.25)
    assert not Thresholds.from_dict({'global': 1}, 'here').calibrates


@pytest.mark.parametrize('content, what', [
    ([], '"global"'), ({}, '"global"'), ({'global': 1.5}, 'global is 1.5'),
    ({'global': True}, 'global is True'), ({'global': '0.5'}, "global is '0.5'"),
    ({'global': 0.5, 'clases': {}}, "unknown 'clases'"), ({'global': 0.5, 'classes': []}, 'object'),
    ({'global': 0.5, 'classes': {'cow': -0.1}}, "class 'cow' is -0.1"),
    ({'global': 0.5, 'temperature': 0}, 'above 0'),
    ({'global': 0.5, 'bias': float('nan')}, 'bias is nan'),
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
