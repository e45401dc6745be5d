"""For plugins: how a data set of Dassl fetches its images. Ours never download anything."""

import os
import tarfile
import zipfile

from clipfit.io.commands import pasted
from dassl.utils import download_url


def download_data(url: str, dst: str, from_gdrive: bool = True) -> None:
    """Download `url` to the file `dst` and unpack it beside it; see `DatasetBase.download_data`."""
    folder = os.path.dirname(os.path.abspath(dst))
    os.makedirs(folder, exist_ok=True)
    if from_gdrive:
        _download_from_drive(url, dst)
    else:
        download_url(url, dst)
    _extract(dst, folder)


def _download_from_drive(url: str, dst: str) -> None:
    try:
        import gdown
    except ImportError as error:
        raise ImportError(
            f"downloading {url} from Google Drive needs the package gdown; "
            f"{pasted(['python', '-m', 'pip', 'install', 'gdown'])}, or download it by hand to {dst}"
        ) from error
    gdown.download(url, dst, quiet=False)


def _extract(archive: str, folder: str) -> None:
    """Unpack without letting a member leave `folder`."""
    if archive.endswith(".zip"):
        with zipfile.ZipFile(archive) as file:
            file.extractall(folder)
    elif archive.endswith((".tar", ".tar.gz", ".tgz")):
        with tarfile.open(archive) as file:
            file.extractall(folder, filter="data")
    else:
        raise ValueError(f"{archive} is no .zip, .tar, .tar.gz or .tgz; unpack it by hand in {folder}")
