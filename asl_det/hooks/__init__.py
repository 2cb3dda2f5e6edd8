from asl_det.hooks.curves import CurvesHook

__all__ = ['CurvesHook']
