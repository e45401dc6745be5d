"""Which pictures can be read. One that nobody has touched is read once: what was found is remembered."""

import os
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

from tqdm import tqdm

from clipfit.io.digests import Memory
from clipfit.io.files import user_cache
from clipfit.io.pictures import fault_of
from dassl.utils import available_cores

MANY = 500  # pictures: reading so many takes long enough for a progress bar


def faults(paths: Iterable[str]) -> dict[str, str]:
    """Path -> why it cannot be read, of those that cannot."""
    paths = list(dict.fromkeys(paths))
    memory = Memory(user_cache() / f"readable-1-pillow-{_pillow()}.sqlite")
    try:
        status = {path: os.stat(path) for path in paths}
        known = {path: memory.recall(path, status[path]) for path in paths}
        unknown = [path for path in paths if known[path] is None]
        with ThreadPoolExecutor(available_cores()) as pool:
            begun = time.time_ns()
            shown = tqdm(unknown, "looking at the pictures", disable=None if len(unknown) > MANY else True)
            for path, fault in zip(shown, pool.map(fault_of, unknown), strict=True):
                known[path] = fault
                memory.keep(path, status[path], os.stat(path), fault, begun)
    finally:
        memory.close()
    return {path: fault for path, fault in known.items() if fault}


def _pillow() -> str:
    """Another version may read other files."""
    import PIL

    return PIL.__version__
