"""Files that others publish, downloaded and checked."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import httpx

from memory_r1.errors import DataUnavailable

# Bytes so far, and of how many where the server says so.
Progress = Callable[[int, int | None], None]


def download(url: str, to: Path, sha256: str, progress: Progress = lambda *_: None) -> bool:
    """Get the file with this checksum. False when it is there already, and nothing was downloaded.

    Raises DataUnavailable when the network does not give it, or gives another one; then nothing is left behind. A
    file with another checksum that is already there is not touched.
    """
    if to.exists():
        if hashlib.sha256(to.read_bytes()).hexdigest() == sha256:
            return False
        raise DataUnavailable(f"{to} is there and is another file (its SHA-256 is not {sha256}); move it away")
    partial = to.with_name(to.name + ".part")
    try:
        got = _stream(url, partial, progress)
        if got != sha256:
            raise DataUnavailable(f"{url} gave another file than it should: its SHA-256 is {got}, not {sha256}")
        partial.replace(to)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise DataUnavailable(
            f"{url} could not be downloaded ({error or type(error).__name__}); where the network does not allow it, "
            f"bring the file from elsewhere as {to} and run this again to check it"
        ) from error
    finally:
        partial.unlink(missing_ok=True)
    return True


def _stream(url: str, to: Path, progress: Progress) -> str:
    """Write the file and return its SHA-256."""
    digest, done = hashlib.sha256(), 0
    to.parent.mkdir(parents=True, exist_ok=True)
    with httpx.stream("GET", url, follow_redirects=True, timeout=30) as response, to.open("wb") as file:
        response.raise_for_status()
        length = response.headers.get("content-length")
        encoded = "content-encoding" in response.headers  # then the length is not that of the file
        for chunk in response.iter_bytes():
            digest.update(chunk)
            file.write(chunk)
            done += len(chunk)
            progress(done, int(length) if length and not encoded else None)
    return digest.hexdigest()
