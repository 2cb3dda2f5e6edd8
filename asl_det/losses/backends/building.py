"""How ``one_pass.c`` is compiled: by setup.py for a wheel, by native.py on the machine itself.

Neither torch nor anything else here is imported: setup.py has only this file.
"""

import hashlib
import sysconfig
from pathlib import Path
from typing import Dict, List

SOURCES = [Path(__file__).with_name(name) for name in ('one_pass.c', 'block.h')]
COMPILE = ['-O3', '-ffp-contract=fast', '-fno-math-errno', '-fno-trapping-math', '-fPIC']
# For the machine itself: the first of them that its compiler takes.
NATIVE = [['-march=native', '-mprefer-vector-width=512'], ['-march=native'], ['-mcpu=native'], []]
# Of x86-64, by the names that torch has for what a processor can do.
X86_64: Dict[str, List[str]] = {
    'AVX512': ['-mavx512f', '-mavx512vl', '-mavx512bw', '-mavx512dq', '-mfma',
               '-mprefer-vector-width=512'],
    'AVX2': ['-mavx2', '-mfma', '-mtune=znver3'],
    'DEFAULT': [],
}


def variants() -> Dict[str, List[str]]:
    """Names of the libraries that a wheel for this platform holds, and their flags."""
    return X86_64 if sysconfig.get_platform().endswith('x86_64') else {'DEFAULT': []}


def shipped_name(variant: str) -> str:
    """Name of a library in a wheel, without suffix: one of other sources is never loaded."""
    digest = hashlib.sha256(b'\0'.join(source.read_bytes() for source in SOURCES))
    return f'one_pass-{digest.hexdigest()[:16]}-{variant}'
