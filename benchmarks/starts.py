"""What it costs to know whether a result is about what it read: first start, second start, finished run.

    python -m benchmarks.starts
    python -m benchmarks.starts --epochs 2

CLIPFit on the embedded data, each start a process of its own, in a temporary folder:

first      no digest is remembered: every file that the run reads is read for it
second     the same run in another folder, with the digests of the first
finished   the same command again, which prints the result; the best of --repeat

Seconds are of the whole process, imports included. "comparing" is what of them goes into the inputs, into
comparing a folder with them and into taking it: of the second start at most 2 % of the run, and a finished
run's line comes in under 1.2 s and without torch. The digests of the images are what differs between first
and second.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PROJECT = Path(__file__).parent.parent
TIMED = """
import json, sys, time
import datasets, train  # what every run imports is not counted
spent = {}
def timed(name):
    function = getattr(train, name)
    def call(*arguments, **options):
        start = time.perf_counter()
        try:
            return function(*arguments, **options)
        finally:
            spent[name] = spent.get(name, 0.0) + time.perf_counter() - start
    setattr(train, name, call)
for name in ("read_inputs", "finished", "claim"):
    timed(name)
train.main(sys.argv[1:])
print(json.dumps({**spent, "torch": "torch" in sys.modules}), file=sys.stderr)
"""


def main() -> None:
    """Run, measure, print."""
    parser = argparse.ArgumentParser(description="Time of starts.")
    parser.add_argument("--epochs", type=int, help="default: the recipe's, 30")
    parser.add_argument("--repeat", type=int, default=3, help="looks at the finished run (default 3)")
    args = parser.parse_args()
    folder = Path(tempfile.mkdtemp())
    try:
        start(folder, "data", 1)  # draws the pictures, which is no start's cost
        shutil.rmtree(folder / "cache")
        first, second = (start(folder, name, args.epochs) for name in ("first", "second"))
        again = min(
            (start(folder, "second", args.epochs) for _ in range(args.repeat)), key=lambda one: one["seconds"]
        )
    finally:
        shutil.rmtree(folder)
    print(f"{'':12}{'run':>10}{'comparing':>12}{'share':>9}   torch")
    for name, one in (("first", first), ("second", second), ("finished", again)):
        share = one["comparing"] / one["seconds"]
        imported = "imported" if one["torch"] else "not imported"
        print(f"{name:12}{one['seconds']:8.2f} s{one['comparing']:10.3f} s{share:9.2%}   {imported}")


def start(folder: Path, name: str, epochs: int | None) -> dict:
    """One process: seconds that it takes, seconds of comparing, whether it imports torch."""
    words = ["--trainer", "CLIPFit", "--protocol", "base2new", "--seed", "1", "--root", folder / "pictures"]
    words += ["--dataset-config-file", PROJECT / "configs/datasets/demo.yaml", "--output-dir", folder / name]
    pairs = ["OPTIM.MAX_EPOCH", epochs] if epochs else []
    environment = {**os.environ, "XDG_CACHE_HOME": str(folder / "cache"), "OMP_NUM_THREADS": "1"}
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", TIMED, *map(str, [*words, "VERBOSE", "False", *pairs])],
        cwd=PROJECT,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    seconds = time.perf_counter() - began
    spent = json.loads(done.stderr.splitlines()[-1])
    imported = spent.pop("torch")
    return {"seconds": seconds, "comparing": sum(spent.values()), "torch": imported}


if __name__ == "__main__":
    main()
