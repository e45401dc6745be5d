"""Bringing what a data set is made of into its folder: what lies there already, else downloads, unpacked."""

import shutil
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock

from clipfit.io.digests import file_digest
from clipfit.io.downloads import DownloadError, download
from clipfit.io.origins import note_origin, read_origins
from clipfit.io.places import labelled
from datasets.tools.brought import recognise, strangers
from datasets.tools.elsewhere import take_from_elsewhere
from datasets.tools.known import Entry
from datasets.tools.mirrors import Consent
from datasets.tools.room import check_room
from datasets.tools.sources import Candidate, Source
from datasets.tools.unpack import unpack

INDENT = "\n      "


def prepare(
    entry: Entry, root: Path, consent: Consent | None = None, remove_archives: bool = False
) -> list[tuple[Source, str]]:
    """Bring every source of a data set into its folder below `root`.

    Sources marked optional are fetched only where CoOp's split file cannot be had.

    Args:    consent, whether copies by third parties may be fetched; default: not
    Returns: the sources that a person has to bring, each with the place where it is found
    Raises:  ValueError if a file is not what was published, or an archive is damaged or not to be trusted;
             NoRoomError
    """
    folder = root / entry.folder
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / ".prepare.lock"):  # two commands at once would fill the same .part
        work = _Work(entry, root, consent or Consent(entry))
        needed = [source for source in entry.checked_sources if not source.optional]
        open_tasks = work.bring_all(needed)
        if entry.split and not (folder / entry.split).is_file():
            open_tasks += work.bring_all([source for source in entry.checked_sources if source.optional])
        if remove_archives:
            work.remove_archives()
    return open_tasks


class _Work:
    """One data set on its way into its folder."""

    def __init__(self, entry: Entry, root: Path, consent: Consent):
        self.entry, self.root, self.folder, self.consent = entry, root, root / entry.folder, consent
        self.unpacked: set[Path] = set()  # archives
        self.told: set[str] = set()  # lines about files of no use

    def bring_all(self, sources: list[Source]) -> list[tuple[Source, str]]:
        """Returns: the sources that a person has to bring, each with where it is found"""
        missing = []
        for source in sources:
            if self._is_there(source):
                print(f"there already: {', '.join(source.results)}")
                self._note_found(source)
            elif not self._take_from_elsewhere(source):
                missing.append(source)
        if missing:
            self._look_before(missing)
        tasks = [(source, self._bring(source)) for source in missing]
        return [(source, reason) for source, reason in tasks if reason]

    def remove_archives(self) -> None:
        """Remove the archives whose content is in the folder."""
        whole = [one for one in self.entry.sources if one.gives and self._is_there(one)]
        named = {self.folder / file.file for source in whole for file in source.known_files}
        for path in sorted(self.unpacked | named):
            if path.is_file():
                path.unlink()
                print(f"removed: {path}")

    def _is_there(self, source: Source) -> bool:
        return all((self.folder / result).exists() for result in source.results)

    def _take_from_elsewhere(self, source: Source) -> bool:
        place = take_from_elsewhere(self.entry, source, self.folder, self.root)
        if place:
            print(f"{', '.join(source.results)}: found in {place}")
            self._note(source.file, f"found in {place}", None, list(source.results))
        return place is not None

    def _look_before(self, missing: list[Source]) -> None:
        """Say what is known before anything is fetched: files of no use, the room that is needed."""
        work = []
        for source in missing:
            if brought := self._recognise(source):
                work.append((source, brought[1], False))
            elif source.candidates:
                work.append((source, source.candidates[0], True))
        for line in strangers(self.entry.checked_sources, self.folder, self.root):
            if line not in self.told:
                self.told.add(line)
                print(f"note: {line}")
        check_room(self.entry.registry, work, self.folder)

    def _bring(self, source: Source) -> str:
        """Bring one source; returns "" or where a person finds it."""
        if self._is_there(source):  # another source's archive gave it
            return ""
        if source.needs and not (self.folder / source.needs).is_file():
            return f"{source.by_hand}; {source.needs} is needed with it"
        if (brought := self._recognise(source)) and self._use_brought(source, *brought):
            return ""
        try:
            candidate = self._fetch(source)
        except DownloadError as error:
            lines = [*str(error).splitlines(), source.by_hand or "try the links in a browser"]
            return INDENT.join(filter(None, lines))
        print(f"{candidate.file}: downloaded")
        self._use(source, candidate, self.folder / candidate.file, candidate.place.address)
        return ""

    def _use_brought(self, source: Source, archive: Path, candidate: Candidate) -> bool:
        """Use a file that lies there; returns whether it gave the source."""
        if archive in self.unpacked:  # it has given all that it has
            return False
        given = ", ".join(candidate.bundle or source.results)
        print(f"{archive} is {candidate.file}, by its {candidate.known_by}: used for {given}")
        try:
            self._use(source, candidate, archive, f"brought by hand as {archive.name}")
        except ValueError as error:
            if not candidate.bundle or source.gives:
                raise
            print(f"note: {error}")  # a split that is not CoOp's, or none: it may be had elsewhere
            return False
        return True

    def _recognise(self, source: Source) -> tuple[Path, Candidate] | None:
        return recognise(source, self.entry.checked_sources, self.folder, self.root)

    def _fetch(self, source: Source) -> Candidate:
        """Download the first candidate that works. Raises: DownloadError naming all, with what happened"""
        failures = []
        for candidate in source.candidates:
            if candidate.mirror and not self.consent.to(candidate):
                failures.append(f"{candidate.place.address}: {candidate.mirror}; --mirror fetches it")
                continue
            target = self.folder / candidate.file
            if target.exists():  # the file of another source
                failures.append(f"{candidate.place.address}: {target} lies there and does not give it")
                continue
            try:
                download([candidate.place], target)
                return candidate
            except DownloadError as error:
                failures.append(str(error))
        raise DownloadError("\n".join(failures))

    def _use(self, source: Source, candidate: Candidate, archive: Path, origin: str) -> None:
        """Unpack a file that is there, or give it its name, and note where it comes from."""
        used_as_it_is = not source.gives or source.unpack == "keep"
        if candidate.bundle or not used_as_it_is:
            unpack(source, candidate, archive, self.folder, self.entry.checksums)
            self.unpacked.add(archive)
        elif archive != self.folder / source.file:
            shutil.copyfile(archive, self.folder / source.file)
        checksum = candidate.place.checksum
        digest = labelled(checksum or file_digest(archive))
        given = list(candidate.bundle or source.results)
        mirror = {"mirror": candidate.mirror} if candidate.mirror else {}
        self._note(archive.name, origin, digest, given, bytes=archive.stat().st_size, **mirror)

    def _note_found(self, source: Source) -> None:
        """Note what a user has put there, once."""
        origins = (read_origins(self.folder) or {}).values()
        noted = {result for origin in origins for result in origin.get("gives") or ()}
        if not set(source.results) <= noted:
            path = self.folder / source.file
            digest = None if source.gives else labelled(file_digest(path))
            self._note(source.file, "found in place", digest, list(source.results))

    def _note(self, file: str, origin: str, digest: str | None, given: list[str], **more) -> None:
        date = datetime.now(UTC).date().isoformat()
        note_origin(
            self.folder, file, {"from": origin, "digest": digest, "date": date, "gives": given, **more}
        )
