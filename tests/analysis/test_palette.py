"""Colours of classes."""

from itertools import combinations

import pytest

from asl_det.analysis.palette import contrast, ink, palette_of

COCO = [(220, 20, 60), (0, 0, 142)] * 40


@pytest.mark.parametrize('palette', [COCO, [(0, 0, 0)], None, 'random'])
def test_colours_that_are_not_of_these_classes_give_way_to_some_that_stand_out_on_black(palette):
    found = palette_of(dict(classes='0123456789', palette=palette))
    assert len(found) == 10
    assert min(contrast(colour, (0, 0, 0)) for colour in found) > 4.5
    assert min(max(abs(a - b) for a, b in zip(*pair, strict=True))
               for pair in combinations(found, 2)) > 30


@pytest.mark.parametrize('palette', [[(0, 0, 142), (1, 2, 3)], 'coco', (255, 0, 0)])
def test_the_colours_of_a_data_set_are_kept(palette):
    assert palette_of(dict(classes=('a', 'b'), palette=palette)) == palette


def test_without_classes_there_are_no_colours():
    assert palette_of({}) == []


def test_contrast_is_that_of_the_standard():
    assert contrast((255, 255, 255), (0, 0, 0)) == pytest.approx(21)
    assert contrast((119, 119, 119), (255, 255, 255)) == pytest.approx(4.48, abs=0.01)
    assert ink((0, 0, 142)) == (255, 255, 255) and ink((255, 255, 0)) == (0, 0, 0)
