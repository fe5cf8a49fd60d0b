"""The virtual environments that other people's systems live in, one for each, so that their needs never meet ours.

`memory-r1 bench setup NAME` makes one in the cache folder. It is ready when the list of what was asked for lies in it.
"""

from __future__ import annotations

import subprocess
import sys
import venv
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from memory_r1.errors import InvalidInput, ModelUnavailable

DONE = "installed.txt"
OPENAI = "openai==3.54.0"


@dataclass(frozen=True, slots=True)
class Source:
    """A git repository and a commit of it, for what is on no registry.

    It is installed without what it asks for itself (the requirements say what it needs here), or, where it is no
    `package`, laid into the environment's folder "source".
    """

    url: str
    commit: str
    package: bool = True


@dataclass(frozen=True, slots=True)
class Environment:
    """What a system needs, and what it is in a line."""

    name: str
    about: str
    requirements: tuple[str, ...]
    source: Source | None = None

    @property
    def folder(self) -> Path:
        return Path(platformdirs.user_cache_dir("memory-r1")) / "bench" / self.name

    @property
    def python(self) -> Path:
        return self.folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")

    @property
    def ready(self) -> bool:
        """Whether just this was installed to the end, by whatever version of memory-r1."""
        try:
            return self.python.exists() and (self.folder / DONE).read_text(encoding="utf-8") == self._asked()
        except OSError:
            return False

    def setup(self, say: Callable[[str], None], origin: str | None = None) -> Path:
        """Installs it unless it is ready; gives its Python. `origin`: a local clone to take the source from.

        Raises ModelUnavailable with the end of what pip said.
        """
        if self.ready:
            return self.python
        say(f"installing {self.name} into {self.folder}")
        venv.create(self.folder, with_pip=True, clear=True)
        if self.requirements:
            self._pip(*self.requirements)
        if self.source:
            url = Path(origin).resolve().as_uri() if origin else self.source.url
            if self.source.package:
                self._pip("--no-deps", f"git+{url}@{self.source.commit}")
            else:
                self._lay(url, self.source.commit)
        (self.folder / DONE).write_text(self._asked(), encoding="utf-8")
        return self.python

    def _asked(self) -> str:
        git = [f"git+{self.source.url}@{self.source.commit}"] if self.source else []
        return "\n".join([*self.requirements, *git]) + "\n"

    def _pip(self, *arguments: str) -> None:
        pip = [str(self.python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        self._run(*pip, *arguments)

    def _lay(self, url: str, commit: str) -> None:
        source = str(self.folder / "source")
        self._run("git", "init", "--quiet", source)
        self._run("git", "-C", source, "fetch", "--quiet", "--depth", "1", url, commit)
        self._run("git", "-C", source, "checkout", "--quiet", commit)

    def _run(self, *command: str) -> None:
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        except OSError as error:
            raise ModelUnavailable(f"{self.name} could not be installed: {command[0]} does not run: {error}") from error
        if done.returncode:
            raise ModelUnavailable(f"{self.name} could not be installed: {done.stderr.strip()[-1000:]}")


MEM0_2 = Environment("mem0-2", "Mem0 2.2.1: only ever adds", ("mem0ai==2.2.1", "qdrant-client==1.20.0", OPENAI))

ENVIRONMENTS: Sequence[Environment] = (
    Environment(
        "mem0-1",
        "Mem0 1.0.11: the model decides ADD, UPDATE, DELETE or NONE",
        ("mem0ai==1.0.11", "qdrant-client==1.20.0", OPENAI),
    ),
    MEM0_2,
    Environment(
        "langmem",
        "LangMem 0.0.30: the model calls tools that insert, patch and delete",
        (
            "langmem==0.0.30",
            "langgraph==1.2.22",
            "trustcall==0.0.39",
            "langchain-openai==1.7.3",
            "numpy==2.4.6",
            OPENAI,
        ),
    ),
    Environment(
        "a-mem",
        "A-Mem: every turn a note, whose neighbours the model retags",
        # Without sentence-transformers and its torch: the embedder is everybody's.
        ("chromadb==1.5.9", "litellm==1.106.2", "nltk==3.10.4", "rank_bm25==0.2.2", "scikit-learn>=1.6,<2"),
        Source("https://github.com/agiresearch/A-mem.git", "ceffb860f0712bbae97b184d440df62bc910ca8d"),
    ),
    Environment(
        "graphiti",
        "Graphiti 0.31.1, Zep's open engine, on Kuzu: a graph of facts that expire",
        ("graphiti-core==0.31.1", "kuzu==0.11.3", "httpx==0.28.1", OPENAI),
    ),
    Environment(
        "memoryos",
        "MemoryOS (BAI-LAB): pages, segments that run hot, a profile",
        ("faiss-cpu>=1.9,<2", "numpy==2.4.6", OPENAI),
        Source("https://github.com/BAI-LAB/MemoryOS.git", "1d717060350931af33d1d0dc3d4e50a72c125a48", package=False),
    ),
)


def environment(name: str) -> Environment:
    """Raises InvalidInput for a name that is none of ENVIRONMENTS."""
    for known in ENVIRONMENTS:
        if known.name == name:
            return known
    raise InvalidInput(f"no system is called {name!r}; there are {', '.join(known.name for known in ENVIRONMENTS)}")
