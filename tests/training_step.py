"""One training step of a detector on two made-up images."""

from head_trial import SIZE, build_model, training_step

__all__ = ['SIZE', 'build_model', 'training_step']
