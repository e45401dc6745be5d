"""A broken run, then a healthy one in the same slot: python -m benchmarks.gpu.sticky_grid ROOT OUTPUT

Prints one line of JSON: the trainers of the runs that were done, and the reasons of those that failed.
"""

import json
import sys

from grid import scheduler
from grid.display import Display
from grid.executors.local import LocalExecutor
from grid.plan import plan
from grid.spec import Spec

PAIRS = ("OPTIM.MAX_EPOCH", "1", "OPTIM.WARMUP_EPOCH", "0")


def main(root: str, output: str) -> None:
    specs = [Spec(trainer, "base2new", "demo", 1, 1, pairs=PAIRS) for trainer in ("DeviceAssert", "CLIPFit")]
    planned = plan([(spec, ()) for spec in specs], output, root)
    summary = scheduler.run(planned.values(), LocalExecutor(jobs=1), Display())
    done = [run.spec.trainer for run in summary.done]
    print(json.dumps({"done": done, "failed": {run.spec.trainer: run.reason for run in summary.failed}}))


if __name__ == "__main__":
    main(*sys.argv[1:])
