"""The log file of a run: everything that is printed, line by line, errors and tracebacks included.

Dassl starts a new dated file when one exists. Here a run has one log.txt, and every start appends to it after
a header line with the time and the command, so that a resumed run reads as one text.
"""

import atexit
import os
import shlex
import sys
from collections.abc import Iterable
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import IO, TextIO

from tqdm import tqdm

from clipfit.io.files import unwritable
from dassl.run_folder import LOG

_CURSOR_UP = "\x1b[A"  # nested progress bars move the cursor with it


class Logger:
    """A text stream that shows what is written on a console and keeps the complete lines in a file.

    A line that carriage returns overwrite, which is how progress bars are drawn, is shown and not kept. All
    other attributes (`isatty`, `encoding`, `fileno`, ...) are the console's. `close` puts the console back
    where this object stands as `sys.stdout` or `sys.stderr`, and leaves it open.

    Args: fpath the file to append to (None: console only), or an open text file that its owner closes;
          console the stream to show on, by default `sys.stdout`
    """

    def __init__(self, fpath: str | os.PathLike | IO[str] | None = None, console: TextIO | None = None):
        self.console = sys.stdout if console is None else console
        self._owns_file = isinstance(fpath, (str, os.PathLike))
        self._file = _open_log(Path(fpath)) if self._owns_file else fpath
        self._line = ""  # of the file, as far as it is known
        self._held = ""  # of the console: a line that waits for its end
        self._on_progress_line = False

    def write(self, text: str) -> int:
        self._show(text)
        *complete, rest = text.replace("\r\n", "\n").replace(_CURSOR_UP, "").split("\n")
        for part in complete:
            self._add(part)
            self._end_line()
        self._add(rest)
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def _print(self, text: str) -> None:
        """Write to the console; characters that its encoding lacks appear as escapes."""
        try:
            self.console.write(text)
        except UnicodeEncodeError as error:
            self.console.write(text.encode(error.encoding, "backslashreplace").decode(error.encoding))

    def flush(self) -> None:
        """Flush the console; the file is flushed with every line it gets."""
        self.console.flush()

    def close(self) -> None:
        """Keep an unfinished last line, put the console back, close a file that this object opened."""
        if sys.stdout is self:
            sys.stdout = self.console
        if sys.stderr is self:
            sys.stderr = self.console
        if self._held:
            self._print(self._held)
        if self._line:
            self._end_line()
        if self._owns_file and self._file is not None:
            self._file.close()
        self._file = None

    def __enter__(self) -> "Logger":
        return self

    def __exit__(self, *exc_info) -> None:
        self.close()

    def __getattr__(self, name: str):
        if name == "console":  # asked for before __init__ ran, by copy or pickle
            raise AttributeError(name)
        return getattr(self.console, name)

    def _show(self, text: str) -> None:
        """Write to the console; while a progress bar is drawn there, whole lines above it."""
        if sys.stdout is not self or not self._held and not getattr(tqdm, "_instances", None):
            self._print(text)
            return
        self._held += text
        lines, newline, self._held = self._held.rpartition("\n")
        if newline:
            with tqdm.external_write_mode(file=self):
                self._print(lines + newline)

    def _add(self, part: str) -> None:
        """Add a part of a line."""
        if "\r" in part:
            if self._line:
                self._end_line()
            self._on_progress_line = True
        elif part:
            self._line += part
            self._on_progress_line = False

    def _end_line(self) -> None:
        if not self._on_progress_line and self._file is not None:
            try:
                self._file.write(self._line + "\n")
            except OSError as error:
                raise self._without_file(error) from error
        self._line = ""
        self._on_progress_line = False

    def _without_file(self, cause: OSError) -> OSError:
        """The error that names the file. Nothing more goes there, so that the error itself can be printed."""
        file = self._file
        for stream in (self, *_streams):
            if stream._file is file:
                stream._file, stream._line = None, ""
        return unwritable(file.name, cause)


def settle_streams() -> None:
    """Make the standard streams fit to print on, whatever they are.

    Lines appear as they are printed, also in a pipe, and a character that the encoding lacks as an escape. A
    stream of a notebook, or one that was redirected in Python, may have neither setting and stays as it is;
    a process without a console has no stream at all and gets one that leads nowhere.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(line_buffering=True, errors="backslashreplace")


_streams: list[Logger] = []  # what setup_logger put in the places of sys.stdout and sys.stderr
_log: IO[str] | None = None  # the file they share


def setup_logger(output: str | os.PathLike | None = None) -> None:
    """From now on keep everything printed, errors and tracebacks too, in a log file as well.

    The file is `output` if that ends in .txt or .log, else `<output>/log.txt`; None or "" changes nothing. An
    existing file is appended to. A second call for another file switches to it.
    """
    global _log
    if not output:
        return
    path = Path(output)
    if path.suffix not in (".txt", ".log"):
        path = path / LOG
    if _log is not None and Path(_log.name) == path.absolute() and sys.stdout is _streams[0]:
        return
    close_logger()
    _log = _open_log(path.absolute())
    command = shlex.join(["python", *sys.argv])
    _log.write(f"{'' if _log.tell() == 0 else chr(10)}# {datetime.now():%Y-%m-%d %H:%M:%S}  {command}\n")
    sys.stdout = Logger(_log, sys.stdout)
    sys.stderr = Logger(_log, sys.stderr)
    _streams.extend([sys.stdout, sys.stderr])


def log_only(text: str) -> None:
    """Write `text` as a line to the log file and not to the console; nothing without a log file."""
    if _log is not None:
        _log.write(text + "\n")


@atexit.register
def close_logger() -> None:
    """End what `setup_logger` began: restore the streams and close the file."""
    global _log
    for stream in _streams:
        stream.close()
    _streams.clear()
    if _log is not None:
        with suppress(OSError):  # a full disk: what could be written is there
            _log.close()
    _log = None


def _open_log(path: Path) -> IO[str]:
    """Open for appending, flushed at every line end; a line that a killed run left open is ended first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.is_file() and path.stat().st_size > 0 and not path.read_bytes().endswith(b"\n")
    file = open(path, "a", encoding="utf-8", errors="backslashreplace", buffering=1)  # noqa: SIM115
    if unfinished:
        file.write("\n")
    return file
