"""Downloads that resume, are checked, and appear under their name only when they are whole."""

from __future__ import annotations

import hashlib
import http
import http.client
import logging
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

from filelock import FileLock

from hear_core.errors import HearError

log = logging.getLogger(__name__)

_BLOCK = 1 << 20
_ATTEMPTS = 4
_TIMEOUT = 30.0
_SECONDS_BETWEEN_REPORTS = 10.0


class DownloadError(HearError, OSError):
    """A file could not be downloaded, or what came is not what was released."""


class _BrokenOffError(Exception):
    """The connection broke in the middle; what has come is kept."""


def download(
    url: str, target: Path, *, mirror: str | None = None, sha256: str | None = None
) -> None:
    """Download a file, going on where an earlier attempt was cut off.

    A second process that wants the same file waits for the first and then finds it there. What
    has come so far is kept beside the target as ``<name>.part``.

    Args:
        url: Of the file.
        target: Where it is put once it is whole.
        mirror: Take the file of the same name from below this URL instead.
        sha256: What the file must be, if known.

    Raises:
        DownloadError: With the reason; nothing stands at `target` then.
    """
    if mirror:
        url = f"{mirror.rstrip('/')}/{url.rsplit('/', 1)[-1]}"
    part = target.with_name(target.name + ".part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(target.with_name(target.name + ".lock")):
            if target.is_file():
                return
            log.warning("downloading %s to %s", url, target.parent)
            _fetch(url, part)
            _check(part, sha256, url)
            part.replace(target)
            _validator(part).unlink(missing_ok=True)
    except (OSError, http.client.HTTPException, ValueError) as error:
        if isinstance(error, DownloadError):
            raise
        msg = f"{url}: {getattr(error, 'reason', error)}"
        raise DownloadError(msg) from error


def _fetch(url: str, part: Path) -> None:
    """Bring `part` to its full length, asking again when the connection breaks in the middle."""
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            _transfer(url, part)
            return
        except _BrokenOffError as error:
            if attempt == _ATTEMPTS:
                msg = f"{url}: {error}, after {attempt} attempts; what has come is kept in {part}"
                raise DownloadError(msg) from error
            log.warning("%s: %s", url, error)
            time.sleep(2.0**attempt / 8)


def _transfer(url: str, part: Path) -> None:
    headers = {"User-Agent": "hear"}
    if part.is_file() and _validator(part).is_file():
        headers["Range"] = f"bytes={part.stat().st_size}-"
        headers["If-Range"] = _validator(part).read_text()
    try:
        request = urllib.request.Request(url, headers=headers)  # noqa: S310 - the zoo's, or a
        response = urllib.request.urlopen(request, timeout=_TIMEOUT)  # noqa: S310 - user's own
    except urllib.error.HTTPError as error:
        if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            part.unlink()  # what had come before is not the beginning of what the server has
        elif error.code < http.HTTPStatus.INTERNAL_SERVER_ERROR:
            raise
        msg = f"the server answered {error.code} {error.reason}"
        raise _BrokenOffError(msg) from error
    with response:
        resumed = response.status == http.HTTPStatus.PARTIAL_CONTENT
        have = part.stat().st_size if resumed else 0
        length = response.headers.get("Content-Length")
        total = have + int(length) if length else None
        _remember_validator(part, response.headers)
        with part.open("ab" if resumed else "wb") as file:
            reported = time.monotonic()
            while block := _read(response):
                file.write(block)
                have += len(block)
                if time.monotonic() - reported > _SECONDS_BETWEEN_REPORTS:
                    reported = time.monotonic()
                    share = f"{have / total:.0%}" if total else f"{have / 1e6:.0f} MB"
                    log.warning("%s: %s", part.stem, share)
    if total is not None and have < total:
        msg = f"the connection closed after {have} of {total} bytes"
        raise _BrokenOffError(msg)


def _read(response: http.client.HTTPResponse) -> bytes:
    try:
        return response.read(_BLOCK)
    except (OSError, http.client.HTTPException) as error:
        msg = f"the connection broke: {error}"
        raise _BrokenOffError(msg) from error


def _validator(part: Path) -> Path:
    """Return where the server's name for this version of the file is kept, for ``If-Range``."""
    return part.with_name(part.name + ".version")


def _remember_validator(part: Path, headers: http.client.HTTPMessage) -> None:
    version = headers.get("ETag") or headers.get("Last-Modified")
    if version and not version.startswith("W/"):
        _validator(part).write_text(version)
    else:
        _validator(part).unlink(missing_ok=True)


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check(part: Path, sha256: str | None, url: str) -> None:
    if sha256 is not None and (actual := sha256_of(part)) != sha256:
        part.unlink()
        _validator(part).unlink(missing_ok=True)
        msg = f"{url}: what came has the SHA-256 {actual} and not {sha256}; it was deleted"
        raise DownloadError(msg)
