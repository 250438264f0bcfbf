"""Downloads from a server on this machine that can be told to misbehave."""

from __future__ import annotations

import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from hear_core.errors import HearError
from hear_core.zoo import download as module
from hear_core.zoo.download import DownloadError, download

CONTENT = bytes(range(256)) * 40000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Server(ThreadingHTTPServer):
    """Serves CONTENT; `cut` bytes at most per answer, and `status` for as many as `failures`."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.cut = len(CONTENT)
        self.failures, self.status = 0, 503
        self.version, self.ranges = '"v1"', True
        self.type, self.content = "application/octet-stream", CONTENT
        self.range, self.length = "bytes {start}-{last}/{size}", True
        self.requests = []
        self.url = f"http://127.0.0.1:{self.server_address[1]}/weights.pt"

    def handle_error(self, *_):
        """Ignore clients that hang up, which is part of these tests."""


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        server, start = self.server, 0
        server.requests.append((self.path, self.headers.get("Range")))
        if server.failures:
            server.failures -= 1
            self.send_error(server.status)
            return
        wanted, content = self.headers.get("Range"), server.content
        if wanted and server.ranges and self.headers.get("If-Range") == server.version:
            start = int(wanted.removeprefix("bytes=").rstrip("-"))
            if start >= len(content):
                self.send_error(416)
                return
            self.send_response(206)
            size = len(content)
            sent = server.range.format(start=start, last=size - 1, size=size)
            self.send_header("Content-Range", sent)
        else:
            self.send_response(200)
        if server.version:
            self.send_header("ETag", server.version)
        self.send_header("Content-Type", server.type)
        if server.length:
            self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        self.wfile.write(content[start : start + server.cut])

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch):
    monkeypatch.setattr(module.time, "sleep", lambda seconds: None)


def left(folder):
    return sorted(path.name for path in folder.iterdir() if not path.name.endswith(".lock"))


def test_download(server, tmp_path):
    target = tmp_path / "deep" / "weights.pt"
    download(server.url, target, sha256=SHA256)
    assert target.read_bytes() == CONTENT
    assert left(target.parent) == ["weights.pt"]


def test_an_existing_file_is_not_fetched_again(server, tmp_path):
    (tmp_path / "weights.pt").write_bytes(b"here")
    download(server.url, tmp_path / "weights.pt")
    assert server.requests == []


def test_a_download_resumes_after_the_connection_breaks(server, tmp_path):
    server.cut = len(CONTENT) // 3 + 1
    download(server.url, tmp_path / "weights.pt", sha256=SHA256)
    assert (tmp_path / "weights.pt").read_bytes() == CONTENT
    starts = [wanted for _, wanted in server.requests]
    assert starts[0] is None
    assert starts[1] == f"bytes={server.cut}-"


def test_a_download_resumes_in_the_next_process(server, tmp_path):
    server.cut = 1000
    with pytest.raises(DownloadError, match=r"closed after 4000 of 10240000 bytes, .*delete"):
        download(server.url, tmp_path / "weights.pt", sha256=SHA256)
    assert not (tmp_path / "weights.pt").exists()
    server.cut, server.requests = len(CONTENT), []
    download(server.url, tmp_path / "weights.pt", sha256=SHA256)
    assert (tmp_path / "weights.pt").read_bytes() == CONTENT
    assert server.requests == [("/weights.pt", "bytes=4000-")]
    assert left(tmp_path) == ["weights.pt"]


def test_does_not_join_two_versions(server, tmp_path):
    server.cut = 1000
    with pytest.raises(DownloadError):
        download(server.url, tmp_path / "weights.pt")
    server.cut, server.version = len(CONTENT), '"v2"'
    download(server.url, tmp_path / "weights.pt")
    assert (tmp_path / "weights.pt").read_bytes() == CONTENT


def test_starts_again_where_a_server_cannot_resume(server, tmp_path):
    server.version = None
    (tmp_path / "weights.pt.part").write_bytes(b"rubbish")
    download(server.url, tmp_path / "weights.pt", sha256=SHA256)
    assert (tmp_path / "weights.pt").read_bytes() == CONTENT


def test_starts_again_where_too_much_had_come(server, tmp_path):
    (tmp_path / "weights.pt.part").write_bytes(CONTENT + b"more")
    (tmp_path / "weights.pt.part.version").write_text('"v1"')
    download(server.url, tmp_path / "weights.pt", sha256=SHA256)
    assert (tmp_path / "weights.pt").read_bytes() == CONTENT


def test_a_busy_server_is_tried_again(server, tmp_path):
    server.failures = 2
    download(server.url, tmp_path / "weights.pt")
    assert (tmp_path / "weights.pt").read_bytes() == CONTENT


def test_a_missing_file_is_not_requested_again(server, tmp_path):
    server.failures, server.status = 9, 404
    with pytest.raises(DownloadError, match=r"weights.pt: Not Found"):
        download(server.url, tmp_path / "weights.pt")
    assert len(server.requests) == 1


def test_something_else_than_what_was_released_is_thrown_away(server, tmp_path):
    with pytest.raises(DownloadError, match=rf"has the SHA-256 {SHA256} and not 0000"):
        download(server.url, tmp_path / "weights.pt", sha256="0000")
    assert left(tmp_path) == []


def test_a_mirror_takes_the_place_of_the_url(server, tmp_path):
    mirror = server.url.rsplit("/", 1)[0] + "/mirror/"
    download("https://example.invalid/a(2).pt", tmp_path / "a(2).pt", mirror=mirror)
    assert server.requests == [("/mirror/a(2).pt", None)]


def test_no_network(tmp_path):
    with pytest.raises(DownloadError, match=r"http://127.0.0.1:9/weights.pt: .*refused"):
        download("http://127.0.0.1:9/weights.pt", tmp_path / "weights.pt")
    assert left(tmp_path) == []


def test_two_processes_download_once(server, tmp_path):
    threads = [
        threading.Thread(target=download, args=(server.url, tmp_path / "weights.pt"))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (tmp_path / "weights.pt").read_bytes() == CONTENT
    assert len(server.requests) == 1


def test_a_web_page_is_not_kept(server, tmp_path):
    server.type, server.content = "text/html; charset=utf-8", b"<html>Sign in</html>"
    with pytest.raises(DownloadError, match=r"weights.pt: the server sent a web page"):
        download(server.url, tmp_path / "weights.pt")
    assert left(tmp_path) == []


def test_a_file_that_a_check_refuses_is_not_kept(server, tmp_path):
    def check(path):
        raise HearError(f"{path.stat().st_size} bytes of nothing")

    with pytest.raises(DownloadError, match=r"not usable: 10240000 bytes of nothing; it was del"):
        download(server.url, tmp_path / "weights.pt", check=check)
    assert left(tmp_path) == []


@pytest.mark.parametrize("length", [True, False])
def test_an_empty_file_is_not_kept(server, tmp_path, length):
    server.content, server.length = b"", length
    with pytest.raises(DownloadError, match=r"the file is empty"):
        download(server.url, tmp_path / "weights.pt")
    assert left(tmp_path) == []


@pytest.mark.parametrize("length", [True, False])
def test_a_file_that_is_too_large_is_refused(server, tmp_path, length):
    server.length = length
    with pytest.raises(DownloadError, match=r"above the limit of 5000000"):
        download(server.url, tmp_path / "weights.pt", max_bytes=5_000_000)
    assert left(tmp_path) == []


def test_a_download_that_takes_too_long_is_given_up_and_resumed_later(server, tmp_path):
    with pytest.raises(DownloadError, match=r"took too long.*weights.pt.part to start over"):
        download(server.url, tmp_path / "weights.pt", max_seconds=0)
    download(server.url, tmp_path / "weights.pt", sha256=SHA256)
    assert server.requests[-1][1].startswith("bytes=")


@pytest.mark.parametrize("sent", ["bytes 0-9/10240000", "", "bytes */10240000", "lines 4-5/6"])
def test_a_part_that_was_not_requested_is_not_appended(server, tmp_path, sent):
    (tmp_path / "weights.pt.part").write_bytes(CONTENT[:1000])
    (tmp_path / "weights.pt.part.version").write_text('"v1"')
    server.range = sent
    download(server.url, tmp_path / "weights.pt", sha256=SHA256)
    assert [wanted for _, wanted in server.requests] == ["bytes=1000-", None]


def test_the_size_that_a_part_belongs_to_is_checked(server, tmp_path):
    (tmp_path / "weights.pt.part").write_bytes(CONTENT[:1000])
    (tmp_path / "weights.pt.part.version").write_text('"v1"')
    server.range = "bytes {start}-{last}/99999999"
    download(server.url, tmp_path / "weights.pt", sha256=SHA256)
    assert [wanted for _, wanted in server.requests] == ["bytes=1000-", "bytes=10240000-", None]
