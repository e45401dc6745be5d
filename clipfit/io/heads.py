"""Asking whether an address still has its file, without fetching it."""

import http.client
import urllib.error
import urllib.request
from typing import NamedTuple

from clipfit.io.downloads import request, what_happened
from clipfit.io.places import FilePlace


class _SameMethod(urllib.request.HTTPRedirectHandler):
    """HEAD stays HEAD where an address has moved, as in Python 3.13."""

    def redirect_request(self, req, *rest):
        moved = super().redirect_request(req, *rest)
        if moved is not None:
            moved.method = req.get_method()
        return moved


_OPENER = urllib.request.build_opener(_SameMethod)
NO_HEAD = (403, 405, 501)  # answers of servers that know GET only


class HeadAnswer(NamedTuple):
    alive: bool
    text: str  # "200", or what happened
    size: int  # bytes; 0: not said


def ask(place: FilePlace, timeout: float = 30.0) -> HeadAnswer:
    """What an address answers to HEAD; to GET of one byte where the server refuses HEAD."""
    address = place.address
    if place.drive:
        address = f"https://drive.google.com/uc?export=download&id={place.drive}"
    try:
        try:
            with _OPENER.open(request(address, method="HEAD"), timeout=timeout) as response:
                return _answer(place, response, response.headers.get("Content-Length", ""))
        except urllib.error.HTTPError as error:
            if error.code not in NO_HEAD:
                raise
        with _OPENER.open(request(address, {"Range": "bytes=0-0"}), timeout=timeout) as response:
            return _answer(place, response, response.headers.get("Content-Range", "").rpartition("/")[2])
    except (OSError, ValueError, http.client.HTTPException) as error:
        return HeadAnswer(False, what_happened(error), 0)


def _answer(place: FilePlace, response, length: str) -> HeadAnswer:
    if place.drive:  # answers with a page, also where it has the file
        return HeadAnswer(True, str(response.status), 0)
    size = int(length) if length.isdecimal() else 0
    if response.headers.get_content_type() == "text/html":
        return HeadAnswer(False, f"{response.status}, a web page", 0)
    if place.size and size and size != place.size:
        return HeadAnswer(False, f"{response.status}, another size", size)
    return HeadAnswer(True, str(response.status), size)
