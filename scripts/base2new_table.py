"""Print base-to-new runs as a table: base, new, their harmonic mean, the gain over zero-shot CLIP, the cost.

params   values that train
ms       training time per image seen, in milliseconds
MB       peak memory of the training run: of the GPU, or of the process on a CPU
Time and memory compare only between runs on one machine that did nothing else.

python scripts/base2new_table.py demo --seeds 1 2 3
"""

import argparse
import sys
from pathlib import Path
from statistics import mean, pstdev

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from clipfit.io.commands import Parser  # noqa: E402
from dassl.run_folder import read_result  # noqa: E402

ZERO_SHOT = "ZeroshotCLIP"
HEADERS = ["method", "config", "base", "new", "HM", "gain", "params", "ms", "MB"]


def main(argv: list[str] | None = None) -> None:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", help="stem of the data set's YAML, e.g. demo")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--shots", type=int, default=16)
    parser.add_argument("--output", default="output", help="folder that train.py writes into")
    args = parser.parse_args(argv)
    print(table(Path(args.output) / "base2new", args.dataset, args.shots, args.seeds))


def table(folder: Path, dataset: str, shots: int, seeds: list[int]) -> str:
    """One row per (method, config) with finished base and new runs of every seed; mean ± sd over seeds."""
    runs = {}  # (method, config) -> results of the base runs, results of the new runs
    for row in sorted((folder / "train_base" / dataset / f"shots_{shots}").glob("*/*")):
        place = row.relative_to(folder / "train_base")
        base, new = (
            [_result(folder / kind / place / f"seed{seed}") for seed in seeds]
            for kind in ("train_base", "test_new")
        )
        if None not in base + new:
            runs[row.parent.name, row.name] = base, new
    if not runs:
        raise SystemExit(
            f"no base-to-new runs of {dataset} with {shots} shots and seeds {seeds} in {folder}; "
            f"run scripts/<method>/base2new_train.sh and base2new_test.sh first"
        )

    zero_shot = next(
        (_hm(base, new) for (method, _), (base, new) in runs.items() if method == ZERO_SHOT), None
    )
    ordered = sorted(runs.items(), key=lambda item: item[0][0] != ZERO_SHOT)
    rows = [
        [*name, *_scores(base, new, None if name[0] == ZERO_SHOT else zero_shot), *_cost(base)]
        for name, (base, new) in ordered
    ]
    title = f"{dataset}, base-to-new, {shots} shots, seeds {', '.join(map(str, seeds))}"
    return "\n".join([title, *_aligned([HEADERS, *rows])])


def _aligned(rows: list[list[str]]) -> list[str]:
    """Lines of a table, a rule under its first row; method and config stand left, numbers right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    rows = [rows[0], ["-" * width for width in widths], *rows[1:]]
    sides = [str.ljust, str.ljust, *[str.rjust] * (len(widths) - 2)]
    return [
        "  ".join(side(cell, width) for side, cell, width in zip(sides, row, widths, strict=True)).rstrip()
        for row in rows
    ]


def _scores(base: list[dict], new: list[dict], zero_shot: float | None) -> list[str]:
    hm = _hm(base, new)
    gain = "" if zero_shot is None else f"{hm - zero_shot:+.2f}"
    return [_spread(_accuracies(base)), _spread(_accuracies(new)), f"{hm:.2f}", gain]


def _cost(base: list[dict]) -> list[str]:
    """The columns params, ms and MB, mean over the runs; empty where unknown."""
    times = [
        1000 * run["seconds_train"] / (run["train_images"] * run["max_epoch"])
        for run in base
        if run["seconds_train"] and run["max_epoch"]
    ]
    memory = [run["peak_memory_mb"] for run in base if run["peak_memory_mb"]]
    return [
        _short(base[0]["trainable_params"]),
        f"{mean(times):.1f}" if len(times) == len(base) else "",
        f"{mean(memory):,.0f}" if len(memory) == len(base) else "",
    ]


def _hm(base: list[dict], new: list[dict]) -> float:
    return harmonic_mean(mean(_accuracies(base)), mean(_accuracies(new)))


def harmonic_mean(base: float, new: float) -> float:
    """2ab / (a + b): of accuracies averaged over seeds first, as the paper's tables form it."""
    return 2 * base * new / (base + new) if base + new else 0.0


def _spread(values: list[float]) -> str:
    return f"{mean(values):.2f}" + (f"±{pstdev(values):.2f}" if len(values) > 1 else "")


def _short(count: int) -> str:
    """768, 46.1K, 3.56M: as the paper's tables write it."""
    if count < 1_000:
        return str(count)
    return f"{count / 1e3:.1f}K" if count < 1e6 else f"{count / 1e6:.2f}M"


def _accuracies(runs: list[dict]) -> list[float]:
    return [run["accuracy"] for run in runs]


def _result(folder: Path) -> dict | None:
    """The result of a finished run that was tested."""
    result = read_result(folder)
    return None if result is None or result["accuracy"] is None else result


if __name__ == "__main__":
    main()
