"""Print base-to-new runs as a table: base, new, HM, gain over zero-shot CLIP, cost, by method and variant."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from clipfit.io.commands import PATH, Parser  # noqa: E402
from report.formats import terminal  # noqa: E402
from report.found import base_to_new  # noqa: E402


def main(argv: list[str] | None = None) -> None:
    parser = Parser(prog="python scripts/base2new_table.py", description=__doc__)
    parser.add_argument("dataset", help="stem of the data set, e.g. demo")
    parser.add_argument("--seeds", type=int, nargs="+", default=[], help="default: all that are found")
    parser.add_argument("--shots", type=int, default=16)
    parser.add_argument("--output", type=PATH, default="output", help="folder that train.py writes into")
    args = parser.parse_args(argv)
    try:
        print(terminal(base_to_new(Path(args.output), args.dataset, args.shots, args.seeds)))
    except (FileNotFoundError, ValueError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
