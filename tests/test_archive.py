"""Downloads from servers that behave as real ones have been seen to."""

import dataclasses
import functools
import hashlib
import http.server
import threading
from collections.abc import Iterator

import pytest

from deeplab_mnv2.data import archive as module
from deeplab_mnv2.data.archive import Archive
from deeplab_mnv2.errors import UserError

CONTENT = bytes(range(256)) * 5_120  # half of it is read in whole blocks of 64 KiB
HALF = len(CONTENT) // 2
ARCHIVE = Archive("some.tar", (), len(CONTENT), hashlib.sha256(CONTENT).hexdigest())


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves CONTENT at /good and at /plain, which knows no ranges; misbehaves elsewhere."""

    requests: list[tuple[str, str | None]]
    release: threading.Event

    def do_GET(self):
        self.requests.append((self.path, self.headers["Range"]))
        content, start = CONTENT, 0
        if self.path == "/absent":
            return self.send_error(404)
        if self.path == "/page":
            content = b"<html>Quota exceeded</html>"
        if self.path == "/changed":
            content = bytes(len(CONTENT))
        if self.path == "/good" and self.headers["Range"]:
            start = int(self.headers["Range"].removeprefix("bytes=").removesuffix("-"))
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        if self.path in ("/closes", "/hangs"):
            content = content[:HALF]
        self.wfile.write(content[start:])
        if self.path == "/hangs":
            self.wfile.flush()
            self.release.wait()

    def log_message(self, *args):
        pass


@pytest.fixture
def server() -> Iterator[tuple[str, list]]:
    """Yields the address of a server and the requests it has had: path and range."""
    requests, release = [], threading.Event()
    handler = type("BoundHandler", (Handler,), {"requests": requests, "release": release})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=functools.partial(server.serve_forever, 0.01))
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}", requests
        release.set()
        server.shutdown()
        thread.join()


def at(address: str, *paths: str) -> Archive:
    return dataclasses.replace(ARCHIVE, urls=tuple(f"{address}/{path}" for path in paths))


def test_downloads_once(server, tmp_path):
    address, requests = server
    for _ in range(2):
        path = at(address, "good").download(tmp_path)
        assert path.read_bytes() == CONTENT
    assert requests == [("/good", None)]
    assert [*tmp_path.iterdir()] == [path]


@pytest.mark.parametrize("first", ["absent", "page", "changed", "closes", "hangs"])
def test_second_address_makes_good_the_first(server, tmp_path, monkeypatch, first):
    address, requests = server
    monkeypatch.setattr(module, "TIMEOUT", 0.2)
    path = at(address, first, "good").download(tmp_path)
    assert path.read_bytes() == CONTENT
    assert [*tmp_path.iterdir()] == [path]
    # What arrived before the break is not asked for again; a page or a wrong file is not kept.
    resumed = f"bytes={HALF}-" if first in ("closes", "hangs") else None
    assert requests == [(f"/{first}", None), ("/good", resumed)]


@pytest.mark.parametrize("second", ["good", "plain"])
def test_later_attempt_goes_on(server, tmp_path, second):
    address, requests = server
    with pytest.raises(UserError, match="connection closed early"):
        at(address, "closes").download(tmp_path)
    path = at(address, second).download(tmp_path)
    assert path.read_bytes() == CONTENT
    assert requests[-1] == (f"/{second}", f"bytes={HALF}-")


def test_complete_but_unverified_download_is_verified(server, tmp_path):
    address, requests = server
    (tmp_path / "some.tar.part").write_bytes(CONTENT)
    assert at(address, "good").download(tmp_path).read_bytes() == CONTENT
    assert requests == []


def test_every_failed_address_is_named(server, tmp_path):
    address, _ = server
    with pytest.raises(UserError) as error:
        at(address, "absent", "page", "changed").download(tmp_path)
    message = str(error.value)
    for path, reason in {"absent": "404", "page": "offers 27 bytes", "changed": "sha256"}.items():
        assert f"{address}/{path} (" in message
        assert reason in message
    assert message.endswith("as manual_dir.")
    assert [*tmp_path.iterdir()] == []


def test_finds_only_the_published_file(tmp_path):
    assert ARCHIVE.find(tmp_path) is None
    path = tmp_path / ARCHIVE.filename
    path.write_bytes(CONTENT)
    assert ARCHIVE.find(tmp_path) == path
    path.write_bytes(CONTENT[:-1])
    with pytest.raises(UserError, match=f"{path} is damaged"):
        ARCHIVE.find(tmp_path)
