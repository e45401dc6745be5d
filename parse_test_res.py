"""Mean and deviation over the seeds of a run folder.

    python parse_test_res.py output/few_shot/dtd/shots_16/CLIPFit/vit_b16

Every sub-folder is one run. Its result.json is read; a folder without one, from another code of the family,
is read through its log.txt.
"""

import argparse
import re
import sys
from pathlib import Path

from clipfit.io.commands import PATH, Parser
from dassl.run_folder import LOG, RESULT, read_result
from dassl.utils import listdir_nohidden

# --keyword -> field of result.json; the per-class average stands in the log alone
FIELDS = {"accuracy": "accuracy", "error": "error_rate", "macro_f1": "macro_f1", "average": None}

# The line that training ends with, in newer and in older codes; numbers before it come from validation.
END_OF_TRAINING = ("Finish training", "Finished training")
RESULT_BLOCK = ("=> result",)


def read_run(folder: Path, keyword: str, end_signals: tuple[str, ...]) -> float | None:
    """The result of one run in percent; None if the run has none (yet).

    Args:   end_signals are lines of log.txt behind one of which the value must stand
    Raises: ValueError for a damaged result, which the log does not make good
    """
    result = read_result(folder) if FIELDS[keyword] else None
    if result is not None and result.get(FIELDS[keyword]) is not None:
        return float(result[FIELDS[keyword]])
    log = folder / LOG
    if log.is_file():
        value = read_log(log.read_text(encoding="utf-8", errors="replace"), keyword, end_signals)
        if value is not None and not 0 <= value <= 100:
            raise ValueError(f"{log} is damaged: {keyword} is {value} %")
        return value
    return None


def read_log(text: str, keyword: str, end_signals: tuple[str, ...]) -> float | None:
    """The last "* <keyword>: 57.16%" behind a line that equals one of `end_signals`; None without one."""
    pattern = re.compile(rf"\* {keyword}: (\d+(?:\.\d*)?(?:[eE][+-]?\d+)?)%")
    value, ended = None, False
    for line in text.splitlines():
        if line.strip() in end_signals:
            ended = True
        elif ended and (match := pattern.search(line)):
            value = float(match[1])
    return value


def summarize(folder: Path, keyword: str, end_signals: tuple[str, ...], ci95: bool = False) -> float:
    """Print the result of every run in `folder` and their mean +- deviation; return the mean in percent.

    The deviation is the population standard deviation, or with `ci95` half the width of the 95% confidence
    interval, 1.96 * deviation / sqrt(runs).

    A run without a result, or with a damaged one, is named and left out.
    Raises: FileNotFoundError if there is no run with a result
    """
    names = _subfolders(folder)
    width = max(map(len, names))
    print(folder)
    values, found = [], []
    for name in names:
        value, said = None, "no result, left out"
        try:
            value = read_run(folder / name, keyword, end_signals)
        except ValueError as error:
            said = f"left out: {error}"
        print(f"  {name:<{width}}  " + (said if value is None else f"{value:6.2f}%"))
        if value is not None:
            values.append(value)
            found.append(name)
    if not values:
        raise FileNotFoundError(
            f"no run in {folder} has a result for {keyword!r}: neither in {RESULT} nor in {LOG} behind "
            f"{' or '.join(map(repr, end_signals))}; runs that only test need --test-log"
        )
    mean = sum(values) / len(values)
    spread = (sum((value - mean) ** 2 for value in values) / len(values)) ** 0.5
    if ci95:
        spread *= 1.96 / len(values) ** 0.5
    of = "" if len(values) == len(names) else f" of {len(names)}"
    kind = "95% confidence" if ci95 else "standard deviation"
    print(f"* {keyword}: {mean:.2f}% +- {spread:.2f}%  ({len(values)}{of} runs, {kind})")
    print(f"  of {_seeds(found)}")
    return mean


def _seeds(names: list[str]) -> str:
    """``seeds 1, 2, 3`` of folders seed1, seed2, seed3; other names as they are."""
    numbers = [name.removeprefix("seed") for name in names]
    if not all(number.isdigit() for number in numbers):
        return ", ".join(names)
    return f"seed{'s' if len(numbers) > 1 else ''} {', '.join(sorted(numbers, key=int))}"


def _subfolders(folder: Path) -> list[str]:
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is not a folder; give the one that holds seed1, seed2, ...")
    names = [name for name in listdir_nohidden(folder, sort=True) if (folder / name).is_dir()]
    if not names:
        raise FileNotFoundError(f"{folder} holds no runs; give the folder that holds seed1, seed2, ...")
    return names


def main(argv: list[str] | None = None) -> int:
    parser = Parser(
        prog="python parse_test_res.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "directory",
        type=PATH,
        help="folder whose sub-folders are runs (seed1, seed2, ...)",
    )
    parser.add_argument("--ci95", action="store_true", help="95%% confidence instead of standard deviation")
    parser.add_argument("--test-log", action="store_true", help="logs of runs that only tested (--eval-only)")
    parser.add_argument(
        "--multi-exp", action="store_true", help="the sub-folders are experiments that hold runs"
    )
    parser.add_argument("--keyword", choices=FIELDS, default="accuracy", help="what to average")
    args = parser.parse_args(argv)
    folder = Path(args.directory)
    end_signals = RESULT_BLOCK if args.test_log else END_OF_TRAINING
    try:
        if not args.multi_exp:
            summarize(folder, args.keyword, end_signals, args.ci95)
            return 0
        means, names = [], _subfolders(folder)
        for name in names:
            try:
                means.append(summarize(folder / name, args.keyword, end_signals, args.ci95))
            except FileNotFoundError as error:
                print(f"left out: {error}")
            print()
        if not means:
            raise FileNotFoundError(f"no experiment in {folder} has a result for {args.keyword!r}")
        of = "" if len(means) == len(names) else f" of {len(names)}"
        mean = sum(means) / len(means)
        print(f"* {args.keyword}: {mean:.2f}%  (average of {len(means)}{of} experiments)")
    except (FileNotFoundError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
