"""The commands in this process."""

import importlib.util
import sys

CONFIG = 'configs/digits/retinanet_r18-w16_fpn_asl-800i_digits.py'


def run_tool(tool, monkeypatch, *args):
    """Run a tool in this process; returns what it exits with (None for success)."""
    spec = importlib.util.spec_from_file_location('tool', f'tools/{tool}.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(sys, 'argv', [tool, *map(str, args)])
    try:
        module.main()
    except SystemExit as exit:
        return exit.code
