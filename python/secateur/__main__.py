"""The ``secateur`` command."""

import sys


def main() -> int:
    """Runs the command with the arguments of this process; answers its exit status."""
    from ._process import command

    sys.stdout.flush()
    return command(["secateur", *sys.argv[1:]])


if __name__ == "__main__":
    sys.exit(main())
