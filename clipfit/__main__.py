"""python -m clipfit, where the command `clipfit` is not on the path."""

import sys

from clipfit.cli import main

sys.exit(main())
