"""The command `python -m datasets.doctor`; the program is tools/doctor.py."""

import sys

from datasets.tools.doctor import main

if __name__ == "__main__":
    sys.exit(main())
