"""``python -m asl_det``: the same as ``asl-det``."""

from asl_det.commands.main import main

if __name__ == '__main__':
    main()
