"""A system that lives in another process: a worker of bench/workers, run by the Python of its own environment.

Requests and replies are one JSON object a line, over the worker's standard input and output:

    {"do": "open", ...config}                            -> {"ok": {}}
    {"do": "read", "dialogue": {...}}                    -> {"done": turns} as often as it likes, then {"ok": {}}
    {"do": "find", "question", "asked_at", "k"}          -> {"ok": {"memories": [{"text", "said" or "time", ...}]}}
    {"do": "stats"}                                      -> {"ok": {"texts": [...], "operations": {...}, ...}}

or {"error": text}. What a worker prints beside that goes to its log.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import IO, Any

from memory_r1.bench.data import Dialogue, Question
from memory_r1.bench.systems import Found, in_context
from memory_r1.bench.systems.environments import environment
from memory_r1.errors import InvalidInput, ModelUnavailable

WORKERS = Path(__file__).parent.parent / "workers"
LOG = "worker.log"


@dataclass(frozen=True, slots=True)
class Models:
    """The OpenAI-compatible endpoint that every system asks: its models' names, and the length of a vector."""

    base_url: str
    model: str
    embedder: str
    dimension: int
    seed: int = 0


class External:
    """A System in a process of its own: a new process in an empty folder for each dialogue it reads.

    `command` starts the worker; what it leaves lies in `folder`/NAME, with its log. `count` gives a text's tokens.
    Raises ModelUnavailable when the worker reports an error or ends, with the end of its log. `check` raises where the
    model that the worker asked has failed: many libraries swallow that, and it is not theirs.
    """

    repeatable = False

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        models: Models,
        folder: Path,
        count: Callable[[str], int],
        check: Callable[[], None] = lambda: None,
    ) -> None:
        self.name = name
        self._command = list(command)
        self._models = models
        self._folder = folder.resolve() / name
        self._count = count
        self._check = check
        self._process: subprocess.Popen[str] | None = None
        self._log: IO[str] | None = None

    def read(self, dialogue: Dialogue, progress: Callable[[int], None]) -> None:
        self._start()
        self._ask("open", asdict(self._models) | {"folder": str(self._folder / "data")})
        self._ask("read", {"dialogue": plain(dialogue)}, progress)

    def find(self, question: Question, k: int) -> Sequence[Found]:
        asked_at = question.asked_at.isoformat() if question.asked_at else None
        reply = self._ask("find", {"question": question.text, "asked_at": asked_at, "k": k})
        return [_found(memory) for memory in reply["memories"][:k]]

    def stats(self) -> Mapping[str, Any]:
        """The worker's, with "texts" counted: "entries" and "memory_tokens"."""
        reply = self._ask("stats", {})
        texts = reply.pop("texts")
        return {"entries": len(texts), "memory_tokens": sum(map(self._count, texts)), **reply}

    def close(self) -> None:
        """Ends the worker: it is asked by the end of its input, and killed when it does not go."""
        process, self._process = self._process, None
        if process is not None:
            with process:  # closes both pipes
                if process.stdin:
                    process.stdin.close()
                try:
                    process.wait(10)
                except subprocess.TimeoutExpired:
                    process.kill()
        if self._log is not None:
            self._log.close()
            self._log = None

    def _start(self) -> None:
        self.close()
        shutil.rmtree(self._folder, ignore_errors=True)
        (self._folder / "data").mkdir(parents=True)
        self._log = (self._folder / LOG).open("a", encoding="utf-8")
        try:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._log,
                encoding="utf-8",
                cwd=self._folder,
                env=_environment(),
            )
        except OSError as error:
            raise ModelUnavailable(f"{self.name} does not start ({error}); run `memory-r1 bench setup`") from error

    def _ask(
        self, what: str, request: Mapping[str, Any], progress: Callable[[int], None] | None = None
    ) -> dict[str, Any]:
        process, log = self._process, self._log
        if process is None or process.stdin is None or process.stdout is None or log is None:
            raise InvalidInput(f"{self.name} has read no dialogue yet; call read() first")
        try:
            process.stdin.write(json.dumps({"do": what, **request}) + "\n")
            process.stdin.flush()
        except OSError as error:
            raise self._death(what) from error
        for line in process.stdout:
            match _message(line):
                case {"done": int(turns)} if progress:
                    self._check()
                    progress(turns)
                case {"error": str(told)}:
                    self._check()
                    raise ModelUnavailable(f"{self.name} failed at {what!r}: {told}; see {self._folder / LOG}")
                case {"ok": dict(result)}:
                    self._check()
                    return result
                case _:
                    log.write(line)  # printed by a library, and nobody's reply
                    log.flush()
        raise self._death(what)

    def _death(self, what: str) -> ModelUnavailable:
        self.close()
        said = (self._folder / LOG).read_text(encoding="utf-8", errors="replace").strip()
        return ModelUnavailable(
            f"{self.name} ended during {what!r}; the end of {self._folder / LOG}: {said[-1000:] or '(empty)'}"
        )


INHERITED = ("PATH", "HOME", "USERPROFILE", "SYSTEMROOT", "TMPDIR", "TEMP", "TMP", "LANG", "LC_ALL", "OMP_NUM_THREADS")


def _environment() -> dict[str, str]:
    """What a worker inherits: no keys, and nothing that sends its requests elsewhere (OPENROUTER_API_KEY, proxies)."""
    return {name: os.environ[name] for name in INHERITED if name in os.environ} | {"NO_PROXY": "127.0.0.1"}


def installed(
    name: str, models: Models, folder: Path, count: Callable[[str], int], check: Callable[[], None]
) -> External:
    """The system of this name in its environment. Raises InvalidInput when it has not been set up."""
    home = environment(name)
    if not home.ready:
        raise InvalidInput(f"{name} is not installed; run `memory-r1 bench setup {name}`")
    worker = WORKERS / f"{name.replace('-', '_')}_worker.py"
    return External(name, [str(home.python), str(worker)], models, folder, count, check)


def plain(dialogue: Dialogue) -> dict[str, Any]:
    """A dialogue as JSON. A turn without a time has its session's."""
    turns = [
        {
            "speaker": turn.speaker,
            "text": turn.text,
            "time": time.isoformat() if (time := turn.time or session.time) else None,
            "id": turn.id,
            "session": session.id,
        }
        for session in dialogue.sessions
        for turn in session.turns
    ]
    return {"id": dialogue.id, "speakers": list(dialogue.speakers), "turns": turns}


def _message(line: str) -> Any:
    try:
        return json.loads(line)
    except ValueError:
        return None


def _found(memory: Mapping[str, Any]) -> Found:
    said, happened = (datetime.fromisoformat(time) if (time := memory.get(name)) else None for name in ("said", "time"))
    return Found(
        text=in_context(memory["text"], said),
        time=said or happened,
        speaker=memory.get("speaker"),
        turn=memory.get("turn"),
        score=memory.get("score"),
    )
