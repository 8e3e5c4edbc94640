"""``python -m aztorch doctor URL``: tries what a program would do with a container, and reports what is wrong."""

from __future__ import annotations

import os
import sys

USAGE = "usage: python -m aztorch doctor URL [OPTION…]\n       python -m aztorch version"


def main(arguments: list[str]) -> int:
    """Run the command that the arguments name, and return its exit status."""
    if not arguments or arguments[-1] in ("-h", "--help"):
        print(USAGE)
        return 0 if arguments else 2
    if arguments[:1] == ["doctor"]:
        program = os.path.join(os.path.dirname(__file__), "_native", "aztorch-doctor")
        # The program replaces this process, and inherits its input, output, signals and exit status.
        os.execv(program, [program, *arguments[1:]])
    if arguments == ["version"]:
        import aztorch

        print(aztorch.__version__)
        return 0
    print(USAGE, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
