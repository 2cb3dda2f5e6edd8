from asl_det.losses.adaptive import AdaptiveGamma
from asl_det.losses.functional import asymmetric_loss
from asl_det.losses.module import AsymmetricLoss
from asl_det.losses.roi import RoIAsymmetricLoss
from asl_det.losses.single_label import AsymmetricLossSingleLabel

__all__ = ['AdaptiveGamma', 'AsymmetricLoss', 'AsymmetricLossSingleLabel', 'RoIAsymmetricLoss',
           'asymmetric_loss']
