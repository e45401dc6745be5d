"""Show that a change of the code changes no number: record with the old commit and the new one, compare.

    python scripts/same_numbers.py record before        in a checkout of the old commit (copy this file there)
    python scripts/same_numbers.py record after         in a checkout of the new commit
    python scripts/same_numbers.py compare before after

Recorded on the embedded data, on a CPU, in full precision: the first ten steps of every method
(metrics.jsonl), every table's CSV, and the few-shot picks of every data set that tests/fixtures lays out.
Times and memory are left out. A recording takes about ten minutes on two cores; `--only steps` and the like
make a part of it.
"""

import argparse
import csv
import difflib
import json
import os
import subprocess
import sys
import tempfile
from contextlib import redirect_stdout
from io import StringIO
from itertools import product
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(PROJECT))

TEN_STEPS = [  # 20 classes x 8 shots / 16
    *("DATALOADER.TRAIN_X.BATCH_SIZE", "16", "OPTIM.MAX_EPOCH", "1", "OPTIM.WARMUP_EPOCH", "0"),
]
TABLE_DATA = ["demo", "demo_signs"]
NOT_COMPARED = ("ms", "MB")  # units of table columns that measure the machine


def record_steps(folder: Path, scratch: Path) -> None:
    """metrics.jsonl of ten fp32 steps of every method that trains."""
    for trainer in sorted(path.stem for path in (PROJECT / "configs/trainers").glob("*.yaml")):
        run = scratch / trainer
        _call(
            *("train.py", "--trainer", trainer, "--protocol", "few_shot", "--shots", "8", "--seed", "1"),
            *("--dataset-config-file", "configs/datasets/demo.yaml", "--root", str(scratch / "data")),
            *("--output-dir", str(run), "THREADS", "2", *TEN_STEPS),
        )
        result = json.loads((run / "result.json").read_text())
        lines = (run / "metrics.jsonl").read_text() if (run / "metrics.jsonl").is_file() else ""
        _write(folder / f"{trainer}.txt", lines + f"accuracy {result['accuracy']!r}\n")


def record_tables(folder: Path, scratch: Path) -> None:
    """Every table's CSV without the columns and rows that measure time and memory."""
    report = scratch / "report"
    _call(
        *("reproduce.py", "run", "--datasets", *TABLE_DATA, "--seeds", "1", "--threads", "1"),
        *("--root", str(scratch / "data"), "--output", str(scratch / "output"), "--report", str(report)),
    )
    for path in sorted(report.rglob("*.csv")):
        with open(path, newline="", encoding="utf-8") as file:
            rows = [row for row in csv.DictReader(file) if row.get("unit") not in NOT_COMPARED]
        _write(folder / path.name, "".join(json.dumps(row) + "\n" for row in rows))


def record_picks(folder: Path, scratch: Path) -> None:
    """What every loader makes of its worked example: lists for some shots and seeds, all, base and new."""
    import datasets  # noqa: F401 - every loader registers itself
    from dassl.config import get_cfg_default
    from dassl.data.datasets import build_dataset
    from tests.datasets.conftest import WRITERS  # they lay out the files of a worked example

    for fixture in sorted((PROJECT / "tests/fixtures").glob("*.json")):
        example = json.loads(fixture.read_text(encoding="utf-8"))
        if "files" not in example:
            continue
        root = scratch / fixture.stem
        for entry in example["files"]:
            path = root / entry["path"]
            path.parent.mkdir(parents=True, exist_ok=True)
            WRITERS[entry["kind"]](path, entry)
        lines = []
        for shots, seed, classes in product((-1, 1, 2), (1, 2), ("all", "base", "new")):
            cfg = get_cfg_default()
            cfg.DATASET.NAME, cfg.DATASET.ROOT = example["dataset"], str(root)
            cfg.DATASET.NUM_SHOTS, cfg.SEED, cfg.DATASET.SUBSAMPLE_CLASSES = shots, seed, classes
            with redirect_stdout(StringIO()):
                dataset = build_dataset(cfg)
            for part in ("train_x", "val", "test"):
                for item in getattr(dataset, part) or ():
                    path = Path(item.impath).relative_to(root).as_posix()
                    lines.append(f"{shots} {seed} {classes} {part} {path} {item.label} {item.classname}\n")
        _write(folder / f"{fixture.stem}.txt", "".join(lines))


PARTS = {"steps": record_steps, "picks": record_picks, "tables": record_tables}


def compare(before: Path, after: Path) -> int:
    """Print what differs. Returns: the number of files that differ or are missing on one side."""
    names = sorted({path.relative_to(side) for side in (before, after) for path in side.rglob("*.*")})
    different = 0
    for name in names:
        old, new = (
            side.joinpath(name).read_text().splitlines() if side.joinpath(name).is_file() else []
            for side in (before, after)
        )
        if old != new:
            different += 1
            print(f"{name} differs:")
            print("\n".join(list(difflib.unified_diff(old, new, "before", "after", n=0, lineterm=""))[:10]))
    lines = sum(len((before / name).read_text().splitlines()) for name in names if (before / name).is_file())
    print(f"{len(names)} files with {lines:,} lines compared, {different} differ")
    return different


def _call(script: str, *words: str) -> None:
    subprocess.run([sys.executable, script, *words], cwd=PROJECT, check=True, stdout=subprocess.DEVNULL)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    recording = commands.add_parser("record")
    recording.add_argument("folder", type=os.path.expanduser)
    recording.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    comparison = commands.add_parser("compare")
    comparison.add_argument("before", type=os.path.expanduser)
    comparison.add_argument("after", type=os.path.expanduser)
    args = parser.parse_args()
    if args.command == "compare":
        return int(bool(compare(Path(args.before), Path(args.after))))
    folder = Path(args.folder)
    for part in args.only:
        with tempfile.TemporaryDirectory() as scratch:
            PARTS[part](folder.absolute() / part, Path(scratch))
        print(f"{part} recorded in {folder / part}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
