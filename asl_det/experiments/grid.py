"""Grids and variants of a sweep, as the command line gives them."""

from typing import Any, Dict, List, Sequence, Tuple

from asl_det.config.key_values import read_key_values
from asl_det.errors import UserError
from asl_det.experiments.sweep import grid_variants


def read_variants(grid: Dict[str, List[Any]],
                  named: Sequence[Sequence[str]]) -> Dict[str, Dict[str, Any]]:
    """Name -> settings of all that a sweep compares.

    Args:
        grid: key -> its values; every combination is a variant.
        named: each a name and its ``KEY=VALUE`` texts.

    Raises:
        UserError: for a name that stands twice, or what is no ``KEY=VALUE``.
    """
    variants = grid_variants(grid) if grid else {}
    for name, *settings in named:
        if name in variants:
            raise UserError(f'--variant {name}: there are two of this name')
        variants[name] = read_key_values('--variant', settings)
    return variants


def read_grid(texts: List[str]) -> Dict[str, List[Any]]:
    """``KEY[,KEY]=V1,V2,...`` as keys -> values."""
    grid: Dict[str, List[Any]] = {}
    for text in texts:
        keys, equals, values = text.partition('=')
        if not equals or not values:
            raise UserError(f'--grid {text}: expected KEY=VALUE,VALUE,...')
        if keys in grid:
            raise UserError(f'--grid {keys} is given twice: give all of its values at once')
        grid[keys] = [read_key_values('--grid', [f'{keys}={value}'])[keys]
                      for value in split(values)]
    return grid


def split(text: str) -> Tuple[str, ...]:
    """The parts between the commas that no bracket encloses."""
    parts, depth = [''], 0
    for letter in text:
        depth += (letter in '([') - (letter in ')]')
        if letter == ',' and depth == 0:
            parts.append('')
        else:
            parts[-1] += letter
    if depth or '' in parts:
        raise UserError(f'{text}: expected values with commas between them and brackets in pairs')
    return tuple(parts)
