"""The colour of each class in pictures, and what can be read on it."""

import colorsys
from typing import Any, List, Mapping, Tuple, Union

Colour = Tuple[int, int, int]
GOLDEN = 0.618033988749895  # steps of it never come close to a hue that was taken before


def palette_of(meta: Mapping[str, Any]) -> Union[List[Colour], Colour, str]:
    """A colour for every class, as mmdet's ``get_palette`` takes it.

    Args:
        meta: of a data set: ``classes``, and perhaps ``palette``.

    Returns:
        The palette of the data set. One with more or fewer colours than
        classes is of other classes (a ``CocoDataset`` has COCO's 80 whatever
        its classes are): then, and where there is none, light colours, 0 to
        255 in RGB, of hues that lie apart.
    """
    palette, number = meta.get('palette'), len(meta.get('classes') or ())
    if palette in (None, 'random') or (isinstance(palette, list) and len(palette) != number):
        return [_light(i * GOLDEN % 1) for i in range(number)]
    return palette


def _light(hue: float) -> Colour:
    red, green, blue = colorsys.hls_to_rgb(hue, 0.68, 1.0)
    return round(red * 255), round(green * 255), round(blue * 255)


def contrast(a: Colour, b: Colour) -> float:
    """The contrast ratio of two colours, 1 to 21 (WCAG 2.1)."""
    light, dark = sorted((_luminance(a), _luminance(b)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def ink(colour: Colour) -> Colour:
    """Black or white, whichever stands out more from a colour."""
    return max(((0, 0, 0), (255, 255, 255)), key=lambda other: contrast(colour, other))


def _luminance(colour: Colour) -> float:
    parts = [v / 255 / 12.92 if v <= 10 else ((v / 255 + 0.055) / 1.055) ** 2.4 for v in colour]
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]
