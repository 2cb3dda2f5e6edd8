"""The asymmetric loss in any detector."""

from asl_det.detection.presets import KINDS, PRESETS
from asl_det.detection.swap import Replacement, print_swaps, swap_losses, take_swap

__all__ = ['KINDS', 'PRESETS', 'Replacement', 'print_swaps', 'swap_losses', 'take_swap']
