"""What each name of a loss means in each kind of head: the one place of these numbers.

Measured: ``asl`` in dense, centerness and RoI heads; over queries and on quality targets by
trials alone (docs/detection_results.md). Region proposals have the numbers of heads over queries.
"""

from typing import Any, Dict

# Kind of head -> what it is.
KINDS = {
    'dense': 'heads over all places of feature maps: RetinaNet, YOLOX, YOLOv3, SOLO',
    'centerness': 'those whose scores are a class times a centerness or IoU: FCOS, ATSS, PAA, DDOD',
    'detr': 'heads over queries: the DETR family, Sparse R-CNN, QueryInst',
    'roi': 'box heads over proposals: Faster, Mask and Cascade R-CNN',
    'rpn': 'region proposals of two-stage detectors',
    'soft': 'targets that are qualities: QualityFocalLoss (GFL, RTMDet, TOOD), VarifocalLoss',
    'multilabel': 'classifiers of images',
}
# What --loss replaces where --loss-where does not say.
DEFAULT_KINDS = ('dense', 'centerness', 'detr', 'roi', 'multilabel')

Preset = Dict[str, Any]


def _points(**parameters: Any) -> Dict[str, Preset]:
    """The same parameters of our loss in every kind of head."""
    return {kind: dict(type='RoIAsymmetricLoss' if kind == 'roi' else 'AsymmetricLoss',
                       use_sigmoid=True, **parameters) for kind in KINDS}


# A preset holds the arguments of a loss; prior and margin_rise are of the hooks beside it.
# Under the margin a negative has no gradient, far over it all start as hard ones: classes start
# this much over it, whichever margin is asked for.
OVER_MARGIN = 0.02


def prior_over(clip: float) -> float:
    """The probability that the classes start at with this margin."""
    return round(clip + OVER_MARGIN, 6)


_ASL = _points(gamma_neg=2.0, gamma_pos=0.0, clip=0.2)
for _kind in ('dense', 'soft'):  # both in one head of TOOD, which starts once
    _ASL[_kind].update(clip=0.4)
# A sampler has balanced the proposals, and their loss is a mean over background too: weaker
# focusing and a small margin leave it the weight that softmax has beside the boxes.
_ASL['roi'].update(gamma_neg=1.0, clip=0.05)
# Beside a centerness, classes that a large margin has driven to 1 rank nothing, and positives
# of full weight take from the boxes: close to focal loss with gamma 1.
_ASL['centerness'].update(gamma_neg=1.0, gamma_pos=1.0, clip=0.05, alpha=0.25)
for _kind in KINDS.keys() - {'multilabel'}:
    _ASL[_kind].update(prior=prior_over(_ASL[_kind]['clip']))
_ASL['multilabel'].update(gamma_neg=4.0, clip=0.05)
_FOCAL = _points(gamma_neg=2.0, gamma_pos=2.0, clip=0.0, alpha=0.25)
for _kind in ('dense', 'centerness', 'detr', 'rpn'):  # those that take mmdet's own
    _FOCAL[_kind] = dict(type='FocalLoss', use_sigmoid=True, gamma=2.0, alpha=0.25)
_FOCAL['multilabel'].update(alpha=None)

PRESETS: Dict[str, Dict[str, Preset]] = {
    'asl': _ASL,
    'asl-adaptive': {kind: dict(preset, adaptive=dict(delta_p_target=0.1))
                     for kind, preset in _ASL.items()},
    'focal': _FOCAL,
    'bce': _points(gamma_neg=0.0, gamma_pos=0.0, clip=0.0),
}
