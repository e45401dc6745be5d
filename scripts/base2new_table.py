"""Print base-to-new runs as a table: base, new, their harmonic mean, and the gain over zero-shot CLIP.

python scripts/base2new_table.py demo --seeds 1 2 3
"""

import argparse
import json
from pathlib import Path
from statistics import mean, pstdev

from tabulate import tabulate

ZERO_SHOT = "ZeroshotCLIP"


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dataset", help="stem of the data set's YAML, e.g. demo")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--shots", type=int, default=16)
    parser.add_argument("--output", default="output", help="folder that train.py writes into")
    args = parser.parse_args(argv)
    print(table(Path(args.output) / "base2new", args.dataset, args.shots, args.seeds))


def table(folder: Path, dataset: str, shots: int, seeds: list[int]) -> str:
    """One row per (method, config) with finished base and new runs of every seed; mean ± sd over seeds."""
    scores = {}
    for row in sorted((folder / "train_base" / dataset / f"shots_{shots}").glob("*/*")):
        place = row.relative_to(folder / "train_base")
        base = [_accuracy(folder / "train_base" / place / f"seed{seed}") for seed in seeds]
        new = [_accuracy(folder / "test_new" / place / f"seed{seed}") for seed in seeds]
        if None not in base + new:
            scores[row.parent.name, row.name] = base, new
    if not scores:
        raise SystemExit(
            f"no base-to-new runs of {dataset} with {shots} shots and seeds {seeds} in {folder}; "
            f"run scripts/<method>/base2new_train.sh and base2new_test.sh first"
        )

    zero_shot = next(
        (harmonic_mean(mean(b), mean(n)) for (m, _), (b, n) in scores.items() if m == ZERO_SHOT), None
    )
    rows = []
    for (method, config), (base, new) in sorted(scores.items(), key=lambda item: item[0][0] != ZERO_SHOT):
        hm = harmonic_mean(mean(base), mean(new))
        gain = "" if zero_shot is None or method == ZERO_SHOT else f"{hm - zero_shot:+.2f}"
        rows.append([method, config, _spread(base), _spread(new), f"{hm:.2f}", gain])
    title = f"{dataset}, base-to-new, {shots} shots, seeds {', '.join(map(str, seeds))}"
    headers = ["method", "config", "base", "new", "HM", "gain"]
    return f"{title}\n{tabulate(rows, headers, tablefmt='simple', disable_numparse=True, colalign=_ALIGN)}"


_ALIGN = ("left", "left", "right", "right", "right", "right")


def harmonic_mean(base: float, new: float) -> float:
    """2ab / (a + b): of accuracies averaged over seeds first, as the paper's tables form it."""
    return 2 * base * new / (base + new) if base + new else 0.0


def _spread(values: list[float]) -> str:
    return f"{mean(values):.2f}" + (f" ± {pstdev(values):.2f}" if len(values) > 1 else "")


def _accuracy(folder: Path) -> float | None:
    path = folder / "result.json"
    return json.loads(path.read_text(encoding="utf-8"))["accuracy"] if path.is_file() else None


if __name__ == "__main__":
    main()
