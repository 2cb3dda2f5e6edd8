"""What runs inside a training, registered for configs: hooks, loops, schedules."""

from asl_det.training import hooks, loops, schedules

__all__ = ['hooks', 'loops', 'schedules']
