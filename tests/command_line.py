"""The commands in this process."""

import importlib.util
import sys
from unittest import mock

from asl_det.commands.main import COMMANDS, main

CONFIG = 'configs/digits/retinanet_r18-w16_fpn_asl-800i_digits.py'


def run_command(name, *args):
    """Run a command of asl-det, or a script of tools/; what it exits with (None for success)."""
    try:
        if name in COMMANDS:
            main([*name.split(), *map(str, args)])
        else:
            with mock.patch.object(sys, 'argv', [name, *map(str, args)]):
                script(name).main()
    except SystemExit as exit:
        return exit.code


def script(name):
    """The module of ``tools/<name>.py``."""
    spec = importlib.util.spec_from_file_location(name, f'tools/{name}.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
