"""One training step of a detector on two made-up images."""

from asl_det.detection.trial import SIZE, build_model, training_step

__all__ = ['SIZE', 'build_model', 'training_step']
