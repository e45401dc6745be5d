"""python -m clipfit, where the command `clipfit` is not on the path."""

import sys

from clipfit.cli import main

if __name__ == "__main__":
    sys.exit(main())
