"""The commands of ``asl-det``, a module each; ``main.py`` lists them.

A module has a docstring, which is the help; ``add_arguments(parser)``; ``run(args)``, which imports
what does the work; and ``OLD``, names that options had before, where some have changed. Nothing
heavy is imported at the top of a module, so that help comes at once.
"""
