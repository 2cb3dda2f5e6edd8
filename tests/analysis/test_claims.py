"""What could be predicted of each class."""

import numpy as np

from asl_det.analysis.claims import claims_of_labels


def test_logits_of_classes_that_a_model_masks_are_the_lowest_finite_ones():
    logits = np.array([[1.0, -np.inf], [-2.0, 3.0]])
    found = claims_of_labels(logits, np.array([[1, 0], [0, 1]]))
    assert [c.logits.tolist() for c in found] == [[1.0, -2.0], [-2.0, 3.0]]
