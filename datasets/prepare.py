"""The command `python -m datasets.prepare`; the program is tools/prepare.py."""

import sys

from datasets.tools.prepare import main

if __name__ == "__main__":
    sys.exit(main())
