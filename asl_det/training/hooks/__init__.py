from asl_det.training.hooks.accumulation import AdaptiveGammaHook
from asl_det.training.hooks.calibration import CalibrationHook, DecideHook
from asl_det.training.hooks.classifier_prior import ClassifierPriorHook
from asl_det.training.hooks.drawing import (
    CurvesHook,
    DrawingHook,
    DrawnSafely,
    MultiLabelPicturesHook,
)
from asl_det.training.hooks.epoch_seed import EpochSeedHook
from asl_det.training.hooks.guard import GuardHook
from asl_det.training.hooks.load_weights import LoadWeightsHook
from asl_det.training.hooks.probability_monitor import ProbabilityMonitorHook
from asl_det.training.hooks.raw_and_ema import RawAndEMAHook, RawAndEMAValLoop, SafeEMAHook
from asl_det.training.hooks.rising_margin import RisingMarginHook
from asl_det.training.hooks.safe_checkpoint import SafeCheckpointHook
from asl_det.training.hooks.safe_logger import SafeLoggerHook
from asl_det.training.hooks.same_schedule import SameScheduleHook

__all__ = ['AdaptiveGammaHook', 'CalibrationHook', 'ClassifierPriorHook', 'CurvesHook',
           'DecideHook', 'DrawingHook', 'DrawnSafely', 'EpochSeedHook', 'GuardHook',
           'LoadWeightsHook', 'MultiLabelPicturesHook', 'ProbabilityMonitorHook', 'RawAndEMAHook',
           'RawAndEMAValLoop', 'RisingMarginHook', 'SafeCheckpointHook', 'SafeEMAHook',
           'SafeLoggerHook', 'SameScheduleHook']
