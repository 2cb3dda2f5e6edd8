"""``KEY=VALUE`` texts of the command line."""

import os
import re
from typing import Any, Dict, Sequence

from mmengine.config import DictAction

from asl_det.errors import UserError


def read_key_values(option: str, texts: Sequence[str]) -> Dict[str, Any]:
    """Keys and values as mmengine reads them, but for paths and for mistakes.

    What exists as a file or folder is text, whatever commas, brackets and spaces it has.

    Args:
        option: that the texts were given with, for errors.
        texts: each ``KEY=VALUE``; of a key that is given twice the last counts.

    Raises:
        UserError: for what has no ``=``, or brackets without their other half.
    """
    options = {}
    for text in texts:
        key, equals, value = text.partition('=')
        if not equals or not key.strip():
            raise UserError(f'{option} {text}: expected KEY=VALUE, without spaces around the =')
        if re.search(r'[,\s()\[\]]', value) and os.path.exists(value):
            options[key] = value
            continue
        try:
            options[key] = DictAction._parse_iterable(value)
        except AssertionError as error:
            raise UserError(f'{option} {text}: {error}: close every bracket') from error
    return options
