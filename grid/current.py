"""What lies on this machine now, beside what the folders of planned runs say: each thing is read once."""

import json
import os
import subprocess
import sys

from launch.compare import Found, compare
from launch.inputs import data_key, model_files, read_inputs
from launch.resolve import PROJECT

from .source import data_folder

# In a process of its own: planning imports no torch.
TENSORS = [
    sys.executable,
    "-c",
    "import json, sys\n"
    "from clipfit.io.checkpoints import tensors_digest\n"
    "try:\n    print(tensors_digest(json.loads(sys.argv[1])))\n"
    "except (OSError, ValueError) as error:\n    sys.exit(str(error))",
]


class Current:
    """Inputs of runs as they are now. Runs that read the same data share what was read.

    Args: root, folder of the data sets. One that is not there is not read, and never drawn
    """

    def __init__(self, root: str):
        self._root = root
        self._memory: dict = {}  # of launch.inputs.read_inputs
        self._tensors: dict[str, str] = {}  # files of a model, with their state -> digest of its tensors

    def compare(self, cfg, declared: dict, anew: bool = False) -> Found:
        """What lies in the folder of a run that is begun, beside its settled config and its inputs now.

        The tested model counts by its content, wherever it lies.

        Args:   anew, its data may have changed since they were read
        Raises: as launch.compare.compare
        """
        if anew:
            self._memory.pop(data_key(cfg), None)
        folder = data_folder(cfg.DATASET.NAME, self._root)
        lacking = "" if folder is None or folder.is_dir() else f"{folder} is not there"
        inputs = read_inputs(cfg, memory=self._memory, without_data=lacking)
        return compare(
            *(cfg.OUTPUT_DIR, cfg, declared, inputs), apart=["RUN.MODEL_DIR"], tensors=self._tested_tensors
        )

    def _tested_tensors(self, cfg) -> str:
        """As launch.inputs.tested_tensors. Raises: ValueError in the words of the reader"""
        epoch = cfg.RUN.LOAD_EPOCH if cfg.RUN.LOAD_EPOCH >= 0 else None
        files = model_files(cfg.RUN.MODEL_DIR, epoch)
        names = json.dumps({name: os.path.abspath(path) for name, path in files.items()})
        key = f"{names} {[(path.stat().st_size, path.stat().st_mtime_ns) for path in files.values()]}"
        if key not in self._tensors:
            made = subprocess.run([*TENSORS, names], capture_output=True, text=True, cwd=PROJECT)
            if made.returncode:
                raise ValueError(made.stderr.strip())
            self._tensors[key] = made.stdout.strip()
        return self._tensors[key]
