from asl_det.hooks.adaptive_gamma import AdaptiveGammaHook
from asl_det.hooks.classifier_prior import ClassifierPriorHook
from asl_det.hooks.curves import CurvesHook
from asl_det.hooks.drawing import DrawingHook, DrawnSafely
from asl_det.hooks.epoch_seed import EpochSeedHook
from asl_det.hooks.guard import GuardHook
from asl_det.hooks.load_weights import LoadWeightsHook
from asl_det.hooks.multilabel_pictures import MultiLabelPicturesHook
from asl_det.hooks.probability_monitor import ProbabilityMonitorHook
from asl_det.hooks.raw_and_ema import RawAndEMAHook, RawAndEMAValLoop, SafeEMAHook
from asl_det.hooks.rising_margin import RisingMarginHook
from asl_det.hooks.safe_checkpoint import SafeCheckpointHook
from asl_det.hooks.safe_logger import SafeLoggerHook
from asl_det.hooks.same_schedule import SameScheduleHook

__all__ = ['AdaptiveGammaHook', 'ClassifierPriorHook', 'CurvesHook', 'DrawingHook', 'DrawnSafely',
           'EpochSeedHook', 'GuardHook', 'LoadWeightsHook', 'MultiLabelPicturesHook',
           'ProbabilityMonitorHook', 'RawAndEMAHook', 'RawAndEMAValLoop', 'RisingMarginHook',
           'SafeCheckpointHook', 'SafeEMAHook', 'SafeLoggerHook', 'SameScheduleHook']
