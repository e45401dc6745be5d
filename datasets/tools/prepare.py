"""Fetch a data set into its folder, as far as it may be fetched, and let the doctor look at the result.

    python -m datasets.prepare dtd --root data

What is there stays untouched, so the command may be repeated: a broken download goes on where it stopped, an
archive that was put there by hand, under whatever name, is used, and what is unpacked is not unpacked again.
Where a file needs a login or its sources are gone, the command says which file to put where and ends with
status 1. Copies by third parties are fetched after a yes (--mirror).
"""

import sys
from pathlib import Path

from clipfit.io.commands import PATH, Parser, default_root, pasted
from dassl.config import get_cfg_default
from dassl.data.datasets import DATASET_REGISTRY
from datasets.tools import doctor, known, links
from datasets.tools.bring import prepare
from datasets.tools.findings import location
from datasets.tools.known import Entry
from datasets.tools.mirrors import Consent, terminal
from launch.bare_errors import message_of
from launch.registered import data_sets


def main(argv: list[str] | None = None) -> int:
    parser = Parser(prog="python -m datasets.prepare", description=__doc__.splitlines()[0])
    names = ", ".join(one.stem for one in data_sets())
    parser.add_argument("name", nargs="?", help=f"data set: {names}")
    parser.add_argument(
        "--root", type=PATH, default=default_root(), help="data root (default: $DATA, else data)"
    )
    parser.add_argument("--mirror", action="store_true", help="also fetch copies by third parties")
    parser.add_argument("--remove-archives", action="store_true", help="remove what is unpacked")
    parser.add_argument(
        "--check-links", action="store_true", help="ask every address, of the data set or of all, and stop"
    )
    args = parser.parse_args(argv)
    if not (args.name or args.check_links):
        parser.error(f"which data set? {names}")
    root = Path(args.root).absolute()
    try:
        if args.check_links:
            if args.name:
                return links.report([known.find(args.name)], {})
            return links.report(known.entries(), links.places_of_weights())
        entry, open_tasks = known.find(args.name), []
        if entry.drawn:
            draw(entry, root)
        elif entry.sources:
            print(f"{entry.registry}; terms: {entry.terms or 'not known'}")
            consent = Consent(entry, args.mirror, terminal())
            open_tasks = prepare(entry, root, consent, args.remove_archives)
        else:
            folder = root / entry.folder
            print(f"nothing is known of where {entry.registry} comes from: put its images into {folder}")
            print(f"as {location(entry.file)} reads them")
    except (KeyError, ValueError, OSError) as error:
        sys.exit(f"error: {message_of(error)}")
    except KeyboardInterrupt:
        sys.exit("stopped; the same command goes on from here")
    healthy = doctor.report(args.name, root)
    if open_tasks:
        print(f"\nTo be put there by hand, into {root / entry.folder}:")
        for reason in dict.fromkeys(reason for _, reason in open_tasks):
            files = [source.file for source, same in open_tasks if same == reason]
            print(f"  {', '.join(files)}\n      {reason}")
        again = ["python", "-m", "datasets.prepare", entry.name, "--root", args.root]
        print(f"Then run this command again: {pasted(again)}")
        if not args.mirror and any(one.mirror for source, _ in open_tasks for one in source.candidates):
            print(f"Or let it fetch the copies by third parties: {pasted([*again, '--mirror'])}")
    return 0 if healthy and not open_tasks else 1


def draw(entry: Entry, root: Path) -> None:
    """Draw an embedded data set into `root`, as its first use would."""
    cfg = get_cfg_default()
    cfg.DATASET.ROOT = str(root)
    DATASET_REGISTRY.get(entry.registry)(cfg)


if __name__ == "__main__":
    sys.exit(main())
