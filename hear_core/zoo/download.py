"""Downloads that resume, are verified, and take their name only when they are complete."""

from __future__ import annotations

import hashlib
import http
import http.client
import logging
import re
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock

from hear_core.errors import HearError

log = logging.getLogger(__name__)

_BLOCK = 1 << 20
_ATTEMPTS = 4
_TIMEOUT = 30.0
_SECONDS_BETWEEN_REPORTS = 10.0
MAX_BYTES = 4 << 30
MAX_SECONDS = 2 * 3600.0


class DownloadError(HearError, OSError):
    """A file could not be downloaded, or it is not the released one."""


class _InterruptedError(Exception):
    """The connection broke during the transfer; what has arrived is kept."""


def download(
    url: str,
    target: Path,
    *,
    mirror: str | None = None,
    sha256: str | None = None,
    check: Callable[[Path], object] | None = None,
    max_bytes: int = MAX_BYTES,
    max_seconds: float = MAX_SECONDS,
) -> None:
    """Download a file, resuming an earlier download that was interrupted.

    A second process that downloads the same file waits for the first one. What has arrived so far
    is kept beside the target as ``<name>.part``.

    Args:
        url: URL of the file.
        target: Path of the complete file.
        mirror: URL of a folder to take the file of the same name from instead.
        sha256: SHA-256 of the file, if it is known.
        check: Raises an error of ours if a complete file, at the given path, is not usable.
        max_bytes: Size from which a file is refused.
        max_seconds: Time after which a download is given up; a later one resumes it.

    Raises:
        DownloadError: The download failed, or what arrived is not the file. Nothing is at `target`
            then, and what is not the beginning of the file was deleted.
    """
    if mirror:
        url = f"{mirror.rstrip('/')}/{url.rsplit('/', 1)[-1]}"
    part = target.with_name(target.name + ".part")
    until = time.monotonic() + max_seconds
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(target.with_name(target.name + ".lock"), timeout=max_seconds):
            if target.is_file():
                return
            log.warning("downloading %s to %s", url, target.parent)
            _fetch(url, part, max_bytes, until)
            _check(part, sha256, url, check)
            part.replace(target)
            _validator(part).unlink(missing_ok=True)
    except (OSError, http.client.HTTPException, ValueError) as error:
        if isinstance(error, DownloadError):
            raise
        msg = f"{url}: {getattr(error, 'reason', error)}"
        raise DownloadError(msg) from error


def _fetch(url: str, part: Path, max_bytes: int, until: float) -> None:
    """Complete `part`, with another request when the connection breaks during the transfer."""
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            _transfer(url, part, max_bytes, until)
            return
        except _InterruptedError as error:
            if attempt == _ATTEMPTS:
                msg = (
                    f"{url}: {error}, after {attempt} attempts. The next download resumes it; "
                    f"delete {part} to start over"
                )
                raise DownloadError(msg) from error
            log.warning("%s: %s", url, error)
            time.sleep(2.0**attempt / 8)


def _transfer(url: str, part: Path, max_bytes: int, until: float) -> None:
    headers = {"User-Agent": "hear"}
    if _size(part) and _validator(part).is_file():
        headers["Range"] = f"bytes={_size(part)}-"
        headers["If-Range"] = _validator(part).read_text(encoding="latin-1")
    try:
        request = urllib.request.Request(url, headers=headers)  # noqa: S310 - the zoo's, or a
        response = urllib.request.urlopen(request, timeout=_TIMEOUT)  # noqa: S310 - user's own
    except urllib.error.HTTPError as error:
        if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            part.unlink()  # what had arrived is not the beginning of the server's file
        elif error.code < http.HTTPStatus.INTERNAL_SERVER_ERROR:
            raise
        msg = f"the server answered {error.code} {error.reason}"
        raise _InterruptedError(msg) from error
    with response:
        have, total = _extent(response, part)
        if response.headers.get_content_type() == "text/html":
            msg = f"{url}: the server sent a web page and not the file; it may want a login"
            raise DownloadError(msg)
        _check_size(url, part, total or 0, max_bytes)
        _remember_validator(part, response.headers)
        with part.open("ab" if have else "wb") as file:
            reported = time.monotonic()
            while block := _read(response):
                file.write(block)
                have += len(block)
                _check_size(url, part, have, max_bytes)
                now = time.monotonic()
                if now > until:
                    msg = (
                        f"{url}: it took too long, and {have} bytes have arrived. The next "
                        f"download resumes it; delete {part} to start over"
                    )
                    raise DownloadError(msg)
                if now - reported > _SECONDS_BETWEEN_REPORTS:
                    reported = now
                    share = f"{have / total:.0%}" if total else f"{have / 1e6:.0f} MB"
                    log.warning("%s: %s", part.stem, share)
    if total is not None and have < total:
        msg = f"the connection closed after {have} of {total} bytes"
        raise _InterruptedError(msg)


def _extent(response: http.client.HTTPResponse, part: Path) -> tuple[int, int | None]:
    """Return how many bytes of the file are here already, and its size, if the server tells it.

    Raises:
        _InterruptedError: The server sent another part of the file than what is missing.
    """
    length = response.headers.get("Content-Length", "")
    size = int(length) if length.isascii() and length.isdecimal() else None
    if response.status != http.HTTPStatus.PARTIAL_CONTENT:
        return 0, size
    have, sent = _size(part), response.headers.get("Content-Range", "")
    found = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+|\*)", sent.strip())
    if not found or int(found[1]) != have:
        part.unlink(missing_ok=True)
        msg = f"the server sent the part {sent!r} and not the one from byte {have}"
        raise _InterruptedError(msg)
    if found[3] != "*":
        return have, int(found[3])
    return have, None if size is None else have + size


def _check_size(url: str, part: Path, size: int, max_bytes: int) -> None:
    if size > max_bytes:
        _discard(part)
        msg = f"{url}: the file has {size} bytes or more, which is above the limit of {max_bytes}"
        raise DownloadError(msg)


def _read(response: http.client.HTTPResponse) -> bytes:
    try:
        return response.read1(_BLOCK)
    except (OSError, http.client.HTTPException) as error:
        msg = f"the connection broke: {error}"
        raise _InterruptedError(msg) from error


def _size(part: Path) -> int:
    return part.stat().st_size if part.is_file() else 0


def _validator(part: Path) -> Path:
    """Return the file with the server's name for this version of the file, for ``If-Range``."""
    return part.with_name(part.name + ".version")


def _remember_validator(part: Path, headers: http.client.HTTPMessage) -> None:
    version = headers.get("ETag") or headers.get("Last-Modified")
    if version and not version.startswith("W/"):
        _validator(part).write_text(version, encoding="latin-1")
    else:
        _validator(part).unlink(missing_ok=True)


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check(
    part: Path, sha256: str | None, url: str, check: Callable[[Path], object] | None
) -> None:
    """Delete a complete file that is not the wanted one, and raise an error."""
    problem = ""
    if _size(part) == 0:
        problem = "the file is empty"
    elif sha256 is not None and (actual := sha256_of(part)) != sha256:
        problem = f"the file that arrived has the SHA-256 {actual} and not {sha256}"
    elif check is not None:
        try:
            check(part)
        except HearError as error:
            problem = f"the file that arrived is not usable: {error}"
    if problem:
        _discard(part)
        msg = f"{url}: {problem}; it was deleted"
        raise DownloadError(msg)


def _discard(part: Path) -> None:
    part.unlink(missing_ok=True)
    _validator(part).unlink(missing_ok=True)
