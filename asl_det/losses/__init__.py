from asl_det.losses.asymmetric_loss import AsymmetricLoss
from asl_det.losses.functional import asymmetric_loss

__all__ = ['AsymmetricLoss', 'asymmetric_loss']
