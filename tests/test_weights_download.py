"""Weights at an address: fetched once, checked by digest, and named in one sentence where not."""

import hashlib
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from deeplab_mnv2 import weights
from deeplab_mnv2.errors import UserError
from tests.support.random_weights import random_weights


@pytest.fixture
def served(tmp_path, monkeypatch):
    """Serve a folder with a weights file; return the file, its address and what was asked for."""
    folder = tmp_path / "served"
    folder.mkdir()
    weights.save(
        folder / "tiny.safetensors", random_weights(width_multiplier=0.35, head_channels=8)
    )
    asked: list[str] = []

    class Handler(SimpleHTTPRequestHandler):
        def __init__(self, *arguments):
            super().__init__(*arguments, directory=str(folder))

        def log_message(self, *arguments):
            asked.append(self.path)

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever).start()
        yield folder / "tiny.safetensors", f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()


def test_a_file_is_fetched_once_and_read_as_from_the_disk(served):
    file, host, asked = served
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    address = f"{host}/tiny.safetensors#sha256={digest}"
    first, again = weights.read(address), weights.read(address)
    assert asked == ["/tiny.safetensors"]
    expected = weights.read(str(file))
    for name, array in expected.tensors.items():
        np.testing.assert_array_equal(first.tensors[name], array)
        np.testing.assert_array_equal(again.tensors[name], array)
    assert first.provenance["source"] == address
    assert first.provenance["sha256"] == digest


def test_another_file_than_the_digest_is_of_is_neither_kept_nor_used(served, tmp_path):
    _, host, _ = served
    with pytest.raises(UserError, match=r"tiny\.safetensors has another SHA-256 than 0000"):
        weights.read(f"{host}/tiny.safetensors#sha256={'0' * 64}")
    assert not list((tmp_path / "cache").rglob("*tiny*"))


def test_what_is_not_there_is_told_in_one_sentence(served):
    _, host, _ = served
    with pytest.raises(UserError, match=r"nothing\.pth cannot be fetched \(404.*give its path"):
        weights.read(f"{host}/nothing.pth")
    with pytest.raises(UserError, match="cannot be fetched"):
        weights.read("http://127.0.0.1:9/closed.pth")
