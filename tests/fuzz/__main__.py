"""python -m tests.fuzz: every kind of file damaged in many ways, and what the program makes of it.

python -m tests.fuzz                                  the table of counts, and every fault
python -m tests.fuzz --kind split                     of one kind
python -m tests.fuzz --kind split --number 17         one input again; --save FILE keeps it
"""

import argparse
import sys
from pathlib import Path

from tests.fuzz.kinds import KINDS
from tests.fuzz.running import FAULTS, content, counts, outcome, shown


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kind", choices=KINDS, help="of this kind only")
    parser.add_argument("--number", type=int, help="this input only")
    parser.add_argument("--save", type=Path, help="write that input to this file")
    args = parser.parse_args()
    if args.number is None:
        table, faults = counts([args.kind] if args.kind else KINDS)
        print(*faults, shown(table), sep="\n")
        return bool(faults)
    if args.save:
        args.save.write_bytes(content(args.kind, args.number)[1])
    found = outcome(args.kind, args.number)
    print(found)
    return found.what in FAULTS


if __name__ == "__main__":
    sys.exit(main())
