"""One method per file. Every file in this folder registers its trainer, so a new method is a new file."""

from pathlib import Path

from clipfit.clip_package import prepare_import_of_clip
from dassl.engine import TRAINER_REGISTRY
from dassl.utils import import_folder
from dassl.utils.plugin_files import own_files

_FOLDER = Path(__file__).parent
_SHIPPED = [path.stem for path in (_FOLDER.parent / "configs/trainers").glob("*.yaml")]

prepare_import_of_clip()
import_folder(TRAINER_REGISTRY, __name__, __path__, own_files(_FOLDER, "TRAINER_REGISTRY", _SHIPPED))
