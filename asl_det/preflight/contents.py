"""What an annotation file holds, as far as checks of classes and images need it."""

from dataclasses import dataclass, field
from typing import Any, Dict, List, Optional, Sequence, Tuple

import numpy as np

from asl_det.preflight.finding import Finding


@dataclass
class Known:
    """What a COCO json holds, as metrics read it: files by image id, and classes in its order."""

    images: Dict[Any, str]
    classes: List[str]


@dataclass
class Contents:
    """What was read from the annotations of one data set, and what is wrong with it.

    Attributes:
        findings: in the order of the file.
        images: files as they are opened, folder included.
        sizes: width and height of the images as the file states them,
            ``(N, 2)`` float64, NaN where it does not; None where boxes do not
            depend on it.
        classes: names in the order of the labels.
        counts: objects (or images) of each class that a training would use;
            None where it is not known.
        known: what a COCO json holds in all.
        ids: of these the images that the data set yields, by id.
        masks: what is wrong with the masks, for runs that use them.
        few: a few of the images with their annotations: the content of a
            smaller annotation file (a dict of COCO json, a list of names) or
            a data set; None where there is none.
    """

    findings: List[Finding] = field(default_factory=list)
    images: Sequence[str] = ()
    sizes: Optional[np.ndarray] = None
    classes: Tuple[str, ...] = ()
    counts: Optional[np.ndarray] = None
    known: Optional[Known] = None
    ids: Optional[Dict[Any, str]] = None
    masks: Sequence[Finding] = ()
    few: Any = None
