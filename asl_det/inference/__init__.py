"""Networks on pictures: from a checkpoint and a file to labels or boxes.

``from asl_det.inference.detection import DetInferencer`` for detectors: that
module imports mmdet's models, this one does not.
"""

from asl_det.inference.multilabel import MultiLabelInferencer

__all__ = ['MultiLabelInferencer']
