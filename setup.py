"""The compiled pass of the loss in a wheel; everything else is in pyproject.toml.

``ASL_DET_PURE=1`` leaves it out; then, as in a clone, it is compiled at its first use.
"""

import os
import runpy
import sys

from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext

building = runpy.run_path('asl_det/losses/backends/building.py')


class BuildLibraries(build_ext):
    """Libraries for ctypes, which are of no version of Python."""

    def run(self) -> None:
        if not (self.inplace or self.editable_mode):  # a clone compiles for its own machine
            super().run()

    def get_ext_filename(self, fullname: str) -> str:
        return os.path.join(*fullname.split('.')) + '.so'

    def get_export_symbols(self, ext: Extension) -> list:
        return []


class Wheel(bdist_wheel):
    def get_tag(self) -> tuple:
        python, abi, platform = super().get_tag()
        return ('py3', 'none', platform) if self.distribution.has_ext_modules() else (
            python, abi, platform)


# The C is that of GCC and Clang.
pure = os.environ.get('ASL_DET_PURE') == '1' or sys.platform == 'win32'
setup(
    ext_modules=[] if pure else [
        Extension(f'asl_det.losses.backends.{building["shipped_name"](variant)}',
                  ['asl_det/losses/backends/one_pass.c'],
                  depends=['asl_det/losses/backends/block.h'],
                  extra_compile_args=building['COMPILE'] + ['-g0'] + flags, optional=True)
        for variant, flags in building['variants']().items()],
    cmdclass=dict(build_ext=BuildLibraries, bdist_wheel=Wheel))
