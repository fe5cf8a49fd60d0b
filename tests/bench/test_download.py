from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from memory_r1.bench.download import download
from memory_r1.errors import DataUnavailable

CONTENT = bytes(range(256)) * 1000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Handler(BaseHTTPRequestHandler):
    """/file is the file, /cut half of it with the length of the whole, /moved leads to it."""

    def do_GET(self) -> None:
        status = {"/file": 200, "/cut": 200, "/moved": 302}.get(self.path, 404)
        self.send_response(status)
        if status == 302:
            self.send_header("Location", "/file")
        self.send_header("Content-Length", str(len(CONTENT) if status == 200 else 0))
        self.end_headers()
        if status == 200:
            self.wfile.write(CONTENT if self.path == "/file" else CONTENT[: len(CONTENT) // 2])

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def site() -> Iterator[str]:
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield f"http://127.0.0.1:{httpd.server_port}"
    httpd.shutdown()
    thread.join()
    httpd.server_close()


@pytest.mark.parametrize("path", ["/file", "/moved"])
def test_a_file_is_downloaded_with_its_progress_and_once(site: str, tmp_path: Path, path: str) -> None:
    to, told = tmp_path / "new" / "file", []
    assert download(site + path, to, SHA256, lambda done, total: told.append((done, total)))
    assert to.read_bytes() == CONTENT
    assert told[-1] == (len(CONTENT), len(CONTENT))
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert not download(site + "/none", to, SHA256)  # it is there: the network is not asked
    assert list(to.parent.iterdir()) == [to]


@pytest.mark.parametrize(
    ("path", "sha256", "message"),
    [
        ("/file", "0" * 64, f"/file gave another file than it should: its SHA-256 is {SHA256}, not 000"),
        ("/cut", SHA256, "/cut could not be downloaded (peer closed connection"),
        ("/none", SHA256, "/none could not be downloaded (Client error '404 Not Found'"),
    ],
)
def test_a_wrong_file_or_half_of_one_is_refused_and_leaves_nothing(
    site: str, tmp_path: Path, path: str, sha256: str, message: str
) -> None:
    with pytest.raises(DataUnavailable) as caught:
        download(site + path, tmp_path / "file", sha256)
    assert message in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_without_a_network_it_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(DataUnavailable, match=r"bring the file from elsewhere as .*file and run this again"):
        download("http://127.0.0.1:1/file", tmp_path / "file", SHA256)


def test_another_file_in_its_place_is_not_touched(site: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine", encoding="utf-8")
    with pytest.raises(DataUnavailable, match=r"is there and is another file .* move it away$"):
        download(site + "/file", tmp_path / "file", SHA256)
    assert (tmp_path / "file").read_text(encoding="utf-8") == "mine"
