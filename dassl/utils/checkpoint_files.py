"""Which file of a folder is the checkpoint that is meant. Imports no torch.

A checkpoint folder of one registered module holds model.pth.tar-<number of finished epochs>, perhaps
model-best.pth.tar, and the text file `checkpoint` with the name of the file that was written last.
"""

import os
import re
from pathlib import Path

POINTER = "checkpoint"
BEST = "model-best.pth.tar"
_NUMBERED = re.compile(r"model\.pth\.tar-(\d+)")


def newest_checkpoint(fdir: str | os.PathLike) -> Path | None:
    """The file model.pth.tar-<epoch> with the highest epoch in the folder `fdir`; None if there is none."""
    numbered = _numbered_checkpoints(fdir)
    return numbered[max(numbered)] if numbered else None


def find_checkpoint(fdir: str | os.PathLike, epoch: int | None = None) -> Path:
    """The checkpoint of `epoch` in the folder `fdir`; without an epoch the best model, else the newest.

    Raises: FileNotFoundError that lists the saved epochs
    """
    numbered = _numbered_checkpoints(fdir)
    if epoch is None:
        best = Path(fdir) / BEST
        if best.is_file():
            return best
        epoch = max(numbered, default=None)
    if epoch not in numbered:
        saved = f"saved: {', '.join(map(str, sorted(numbered)))}" if numbered else "none is saved"
        what = "checkpoint" if epoch is None else f"checkpoint of epoch {epoch}"
        raise FileNotFoundError(
            f"no {what} in {fdir} ({saved}); pass --load-epoch with a saved epoch, "
            "or finish the run with train.py"
        )
    return numbered[epoch]


def _numbered_checkpoints(fdir: str | os.PathLike) -> dict[int, Path]:
    if not os.path.isdir(fdir):
        return {}
    matches = {path: _NUMBERED.fullmatch(path.name) for path in Path(fdir).iterdir()}
    return {int(match[1]): path for path, match in matches.items() if match}


def checkpoint_folders(directory: str | os.PathLike) -> dict[str, Path]:
    """Registered name -> folder of its checkpoints, for every model in a run folder, sorted by name."""
    folders = sorted(path for path in Path(directory).glob("*") if path.is_dir())
    return {path.name: path for path in folders if (path / BEST).is_file() or _numbered_checkpoints(path)}
