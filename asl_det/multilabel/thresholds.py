"""From which score a class is predicted: one number, or a ``thresholds.json``."""

import json
import math
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Dict, Iterable, List, Mapping, Optional, Sequence, Tuple, Union

import numpy as np
from mmengine.runner import CheckpointLoader
from scipy.special import logit

from asl_det.errors import UserError
from asl_det.files.text import composed
from asl_det.files.whole import save_whole, write_whole

KEYS = ('global', 'classes', 'temperature', 'bias', 'temperatures', 'biases', 'source',
        'curve')
OBJECTS = ('classes', 'temperatures', 'biases', 'source')

Points = Sequence[Tuple[float, float]]
FAR = 1e30  # logits beyond it, as the infinite ones of classes that a model masks


def along(points: Points, x: Any) -> Any:
    """Where the line through points, and straight on beyond the ends, is at ``x``.

    Args:
        points: ``(x, y)``, both rising; none for the same as ``x``.
        x: numpy number or array, or torch tensor, of any shape; what is beyond
            1e30, infinity too, counts as that.
    """
    if not points:
        return x
    x = x.clip(-FAR, FAR)
    slopes = [(b[1] - a[1]) / (b[0] - a[0]) for a, b in zip(points, points[1:], strict=False)]
    y = points[0][1] + slopes[0] * (x - points[0][0])
    for (knot, _), before, after in zip(points[1:-1], slopes, slopes[1:], strict=False):
        beyond = x - knot
        y = y + (after - before) * (beyond * (beyond > 0))
    return y


def span(thresholds: Iterable[float]) -> str:
    """Thresholds of classes as a sentence about a score has them: one, or from where to where."""
    shown = sorted({f'{t:.2f}' for t in thresholds})
    return shown[0] if len(shown) == 1 else f'{shown[0]} to {shown[-1]}, by class,'


@dataclass(frozen=True)
class Thresholds:
    """Thresholds of scores, and how logits become scores.

    A class is predicted where ``sigmoid(curve(logit) / temperature + bias)``
    reaches its threshold; that is decided on the logits, as a sigmoid in
    float32 is 1 from 17 upwards. As json: ``{"global": 0.5, "classes": {"cat":
    0.43}, "curve": [[-2, -9], [1, -3], [8, 6]], "temperature": 1.3, "bias":
    -0.2, "temperatures": {"cat": 1.1}, "biases": {"cat": -0.4}, "source":
    {...}}``, all but ``global`` optional.

    Attributes:
        default: in [0, 1], of the classes that ``classes`` does not name;
            ``global`` in json.
        classes: thresholds in [0, 1] by the name of the class.
        temperature: above 0, of the classes that ``temperatures`` does not name.
        bias: added to the scaled logit, of those that ``biases`` does not name.
        source: what they were chosen on, for the reader.
        temperatures, biases: by the name of the class.
        curve: of all classes, see :func:`along`.
    """

    default: float
    classes: Mapping[str, float] = field(default_factory=dict)
    temperature: float = 1.0
    bias: float = 0.0
    source: Mapping[str, Any] = field(default_factory=dict)
    temperatures: Mapping[str, float] = field(default_factory=dict)
    biases: Mapping[str, float] = field(default_factory=dict)
    curve: Points = ()

    @property
    def calibrates(self) -> bool:
        """Whether scores are others than those of the network."""
        return {self.temperature, *self.temperatures.values()} != {1.0} or \
            {self.bias, *self.biases.values()} != {0.0} or bool(self.curve)

    def of(self, classes: Sequence[str]) -> List[float]:
        """One threshold for each of these classes, in their order.

        Raises:
            UserError: if a class is named that is not among them.
        """
        return _of(self.classes, self.default, classes)

    def scales(self, classes: Sequence[str]) -> Tuple[List[float], List[float]]:
        """Temperatures and biases of these classes, in their order.

        Raises:
            UserError: as :meth:`of`.
        """
        return (_of(self.temperatures, self.temperature, classes),
                _of(self.biases, self.bias, classes))

    def on_logits(self, classes: Sequence[str]) -> List[float]:
        """The same as :meth:`of`, for the network's own logits; infinite for 0 and 1."""
        back = [(y, x) for x, y in self.curve]
        wanted = [float(logit(t) - bias) * temperature for t, temperature, bias in zip(
            self.of(classes), *self.scales(classes), strict=True)]
        return [float(along(back, np.float64(w))) if math.isfinite(w) else w for w in wanted]

    def to_dict(self) -> Dict[str, Any]:
        """The content of the json file."""
        content = {'global': self.default, 'classes': dict(self.classes),
                   'temperature': self.temperature, 'bias': self.bias}
        return {**content, **{key: dict(getattr(self, key)) for key in (
            'temperatures', 'biases', 'source') if getattr(self, key)},
                **({'curve': [list(point) for point in self.curve]} if self.curve else {})}

    @classmethod
    def from_dict(cls, content: Any, where: str) -> 'Thresholds':
        """Read what json holds.

        Args:
            content: as above.
            where: it comes from, for errors.

        Raises:
            UserError: for anything else, with the key.
        """
        if not isinstance(content, dict) or 'global' not in content:
            raise UserError(f'{where}: expected an object with "global", the threshold of classes '
                            'that "classes" does not name')
        unknown = [key for key in content if key not in KEYS]
        if unknown:
            raise UserError(f'{where}: unknown {", ".join(map(repr, unknown))}; known are '
                            f'{", ".join(KEYS)}')
        for key in OBJECTS:
            if not isinstance(content.get(key, {}), dict):
                raise UserError(f'{where}: {key} is {content[key]!r}; expected an object')

        def by_class(key: str, read: Callable[[Any, str], float]) -> Dict[str, float]:
            return {name: read(value, f'{where}: {key}, class {name!r}')
                    for name, value in content.get(key, {}).items()}

        return cls(probability(content['global'], f'{where}: global'),
                   by_class('classes', probability),
                   _positive(content.get('temperature', 1.0), f'{where}: temperature'),
                   _number(content.get('bias', 0.0), f'{where}: bias'),
                   content.get('source', {}), by_class('temperatures', _positive),
                   by_class('biases', _number), _curve(content.get('curve', []), where))

    @classmethod
    def load(cls, path: Union[str, Path]) -> 'Thresholds':
        """Read a ``thresholds.json``.

        Raises:
            UserError: if there is no such file, or it holds something else.
        """
        try:
            content = json.loads(Path(path).read_text(encoding='utf-8'))
        except OSError as error:
            raise UserError(f'thresholds {path} can not be read ({error.strerror}): give a number '
                            'from 0 to 1, or the path of a thresholds.json') from error
        except ValueError as error:
            raise UserError(f'{path} is no json: {error}') from error
        return cls.from_dict(content, str(path))

    @classmethod
    def parse(cls, text: Optional[str]) -> Union['Thresholds', float, None]:
        """What a command line gives: a number, or the path of a file, or None."""
        if text is None:
            return None
        try:
            number = float(text)
        except ValueError:
            return cls.load(text)
        return probability(number, 'threshold')

    def save(self, path: Union[str, Path]) -> None:
        """Write a ``thresholds.json``."""
        write_whole(path, json.dumps(self.to_dict(), indent=2) + '\n')

    def save_in_checkpoint(self, path: Union[str, Path]) -> None:
        """Write them into the meta of a checkpoint, where inference finds them.

        All else in it stays, so that a training can be resumed from it.

        Raises:
            UserError: if it is no file with a meta, or of other classes.
        """
        if not Path(path).is_file():
            raise UserError(f'checkpoint {path} is no file here: thresholds are written into files')
        content = CheckpointLoader.load_checkpoint(str(path), map_location='cpu')
        meta = content.get('meta') if isinstance(content, dict) else None
        if not isinstance(meta, dict) or 'state_dict' not in content:
            raise UserError(f'checkpoint {path} has no meta to put thresholds in: convert it with '
                            'asl-det convert, or give thresholds.json beside it')
        known = {k.lower(): v for k, v in (meta.get('dataset_meta') or {}).items()}
        if known.get('classes'):
            self.on_logits(known['classes'])
        meta['thresholds'] = self.to_dict()
        save_whole(content, path)


def probability(value: Any, where: str) -> float:
    """A number from 0 to 1; ``where`` is for the error."""
    value = _number(value, where)
    if not 0 <= value <= 1:
        raise UserError(f'{where} is {value}; expected a number from 0 to 1')
    return value


def _positive(value: Any, where: str) -> float:
    value = _number(value, where)
    if value <= 0:
        raise UserError(f'{where} is {value}; expected a number above 0')
    return value


def _curve(value: Any, where: str) -> Points:
    rising = isinstance(value, (list, tuple)) and len(value) != 1 and all(
        isinstance(point, (list, tuple)) and len(point) == 2 for point in value)
    points = [(_number(x, f'{where}: curve'), _number(y, f'{where}: curve')) for x, y in value] \
        if rising else []
    if not rising or not all(
            a[i] < b[i] and 0 < (b[1 - i] - a[1 - i]) / (b[i] - a[i]) < math.inf
            for a, b in zip(points, points[1:], strict=False) for i in (0, 1)):
        raise UserError(f'{where}: curve is {value!r}; expected pairs of numbers, both rising')
    return tuple(points)


def _of(own: Mapping[str, float], default: float, classes: Sequence[str]) -> List[float]:
    """A number for each class, in their order."""
    by_name = {composed(name): value for name, value in own.items()}
    known = list(map(composed, classes))
    unknown = [name for name in by_name if name not in known]
    if unknown:
        raise UserError(f'thresholds name {", ".join(unknown[:8])}, which the network does not '
                        f'know; its classes are {", ".join(list(classes)[:8])}'
                        f'{", ..." if len(classes) > 8 else ""}: tune them for this network')
    return [by_name.get(name, default) for name in known]


def _number(value: Any, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not \
            abs(value) <= sys.float_info.max:
        raise UserError(f'{where} is {value!r}; expected a number')
    return float(value)
