"""A GGUF model in this process, by llama.cpp (`xllamacpp`): no network, no key, no other program.

llama.cpp's server object always listens somewhere. Here it gets a Unix socket in a private folder that is
removed as soon as it listens, so that nothing can connect; on Windows a loopback port behind a random key.
"""

from __future__ import annotations

import _thread
import ctypes
import json
import math
import os
import secrets
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from memory_r1.errors import InvalidInput, ModelUnavailable, WeightsMissing
from memory_r1.llm.gguf import Header, adapter_name, check_adapter, read_header
from memory_r1.types import AGENT_STEPS, STEPS, Prompt, Reply, Step

REMEDY = "fetch the models with `memory-r1 models pull`"

# Compact JSON as json.dumps writes it: white space between tokens would be sampled and paid for.
_WRITING = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}


class EmbeddedLLM:
    """A chat model from a GGUF file, with a LoRA adapter for some steps.

    `context_tokens` holds prompt and reply of one request (capped at what the model was trained with);
    `parallel` requests run at once, batched token by token; `threads` are CPU threads (None: the cores this process
    may use, at most 16). Raises WeightsMissing and AdapterMismatch before anything is loaded. Usable from many threads.

    `adapters` of the object names the adapter that plays each step, as replies do.

    A reply's `token_ids` leave out the token that ends it; they and `logprobs` are None where a character of
    the text took several tokens. A greedy reply to a prompt run alone is the same each time; run together with
    others it may differ where two tokens are nearly as likely, because batches of another size round otherwise; with
    an adapter also by how much of the prompt was still computed from before.
    """

    def __init__(
        self,
        model: Path | str,
        *,
        adapters: Mapping[Step, Path] | None = None,
        context_tokens: int = 8192,
        parallel: int = 2,
        threads: int | None = None,
        name: str | None = None,
    ) -> None:
        if parallel < 1 or context_tokens < 1 or (threads is not None and threads < 1):
            raise InvalidInput("context_tokens, parallel and threads must be at least 1")
        path = Path(model)
        base, trained = _read_base(path)
        self.name = name or path.stem
        self.context_tokens = min(context_tokens, trained or context_tokens)
        self._adapters = {step: Path(file) for step, file in (adapters or {}).items()}
        self._adapter_files = list(dict.fromkeys(self._adapters.values()))
        for file in self._adapter_files:
            check_adapter(file, path, base)
        self.adapters: Mapping[Step, str] = {step: adapter_name(file) for step, file in self._adapters.items()}
        # A slot per step that alternates keeps the static beginning of its prompts computed. Without adapters two
        # are enough, because what is pushed out of a slot is kept apart; but a slot whose adapter changes forgets all.
        self._slots = max(len(AGENT_STEPS) if self._adapter_files else 2, parallel)
        self._server: Any = _start(path, self._adapter_files, self.context_tokens, self._slots, threads)
        self._pool = ThreadPoolExecutor(parallel, thread_name_prefix="memory-r1-llm")
        self._closed = threading.Event()
        self._busy = 0
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"EmbeddedLLM({self.name!r}, context_tokens={self.context_tokens})"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End the requests that run at their next token, and free the model's memory then.

        Does not wait; harmless when repeated.
        """
        self._closed.set()
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._server = None

    def complete(self, prompts: Sequence[Prompt]) -> list[Reply]:
        """One reply per prompt, in order. Raises ModelUnavailable; Ctrl-C stops the requests that run."""
        server = self._opened()
        stopped = threading.Event()
        with self._counted(len(prompts)) as alone:
            futures = [self._pool.submit(self._ask, server, prompt, alone, stopped) for prompt in prompts]
            try:
                _wait(futures)
                return [future.result() for future in futures]
            finally:
                stopped.set()  # matters where this raises: the requests still running end at their next token
                for future in futures:
                    future.cancel()

    def chat(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """An OpenAI chat completion request as it stands, answered whole: for programs that speak that protocol.

        Without an adapter. A refusal comes back as {"error": {"code", "message", "type"}}.
        """
        try:
            reply = self._opened().handle_chat_completions(self._chat_body(body, stream=False))
        except (RuntimeError, ValueError) as error:
            return _refused(error)
        return self._told(reply)

    def chat_stream(self, body: Mapping[str, Any], receive: Callable[[dict[str, Any]], bool]) -> None:
        """As `chat`, in OpenAI's chunks as they come, a refusal as one of them; ends where `receive` returns True."""
        begun = set[int]()

        def told(chunk: Mapping[str, Any]) -> bool:
            for choice in chunk.get("choices", ()):
                # llama.cpp leaves the role out where the first token is half a character.
                if choice["index"] not in begun:
                    begun.add(choice["index"])
                    choice["delta"] = {"role": "assistant", **choice["delta"]}
            return receive(self._told(chunk)) or self._closed.is_set()

        try:
            self._opened().handle_chat_completions(self._chat_body(body, stream=True), told)
        except (RuntimeError, ValueError) as error:
            receive(_refused(error))

    def _chat_body(self, body: Mapping[str, Any], *, stream: bool) -> dict[str, Any]:
        lora = [{"id": i, "scale": 0.0} for i in range(len(self._adapter_files))]
        return {**body, "stream": stream, **({"lora": lora} if lora else {})}

    def _told(self, reply: Mapping[str, Any]) -> dict[str, Any]:
        """A reply or chunk of llama.cpp's under the model's own name, or its refusal in one shape."""
        if "choices" in reply:
            return {**reply, "model": self.name}
        return {"error": reply.get("error", reply)}

    def _opened(self) -> Any:
        """llama.cpp's server. Raises ModelUnavailable after `close`."""
        server = self._server
        if server is None:
            raise ModelUnavailable(f"the model {self.name} was closed; open it again")
        return server

    def follow(self, step: Step, prompt_ids: Sequence[int], max_tokens: int) -> list[int]:
        """The tokens that follow greedily, the one that ends a reply included: no chat template, no grammar.

        With the step's adapter. For comparing this runtime with another, token by token.
        """
        server = self._opened()
        body: dict[str, Any] = {"prompt": list(prompt_ids), "max_tokens": max_tokens, "temperature": 0.0, "top_k": 1}
        body |= {"cache_prompt": True, "return_tokens": True, "verbose": True, **self._lora(step)}
        try:
            reply = server.handle_completions(body)
        except (RuntimeError, ValueError) as error:
            raise ModelUnavailable(f"the model {self.name} refused a {step!r} prompt: {error}") from error
        if "__verbose" not in reply:
            raise ModelUnavailable(f"the model {self.name} failed at a {step!r} prompt: {reply['error']['message']}")
        return list(reply["__verbose"]["tokens"])

    @contextmanager
    def _counted(self, n: int) -> Iterator[bool]:
        """Counts n requests as running; gives whether there is one, alone."""
        with self._lock:
            self._busy += n
            alone = self._busy == 1
        try:
            yield alone
        finally:
            with self._lock:
                self._busy -= n

    def _ask(self, server: Any, prompt: Prompt, alone: bool, stopped: threading.Event) -> Reply:
        if not (isinstance(prompt.temperature, int | float) and math.isfinite(prompt.temperature)):
            # Left to the JSON writer it would depend on which is installed: orjson writes null for NaN.
            what = f"a {prompt.step!r} prompt: temperature must be a finite number"
            raise ModelUnavailable(f"the model {self.name} refused {what}")
        body = self._body(prompt)
        if alone:
            # Else the server takes the free slot whose last prompt began most alike.
            body["id_slot"] = STEPS.index(prompt.step) % self._slots
        chunks: list[dict[str, Any]] = []

        def receive(chunk: dict[str, Any]) -> bool:
            chunks.append(chunk)
            return stopped.is_set() or self._closed.is_set()

        try:
            server.handle_chat_completions(body, receive)
        except (RuntimeError, ValueError) as error:
            raise ModelUnavailable(f"the model {self.name} refused a {prompt.step!r} prompt: {error}") from error
        return self._reply(prompt, chunks)

    def _body(self, prompt: Prompt) -> dict[str, Any]:
        body: dict[str, Any] = {
            "messages": [{"role": m.role, "content": _clean(m.content)} for m in prompt.messages],
            "max_tokens": prompt.max_tokens,
            "temperature": prompt.temperature,
            # Sample from the model's own distribution: what is trained must be what was sampled from.
            "top_k": 1 if prompt.temperature == 0 else 0,
            "top_p": 1.0,
            "min_p": 0.0,
            "cache_prompt": True,
            "logprobs": prompt.logprobs,
            # Only a stream can be stopped before its end, and with progress also while the prompt is read.
            "stream": True,
            "stream_options": {"include_usage": True},
            "return_progress": True,
        }
        if prompt.logprobs:
            body["top_logprobs"] = 1  # 0 would give no log-probabilities at all
        if prompt.schema is not None:
            body["grammar"] = grammar(prompt.schema)
        return body | self._lora(prompt.step)

    def _lora(self, step: Step) -> dict[str, Any]:
        if not self._adapter_files:
            return {}
        chosen = self._adapters.get(step)
        return {"lora": [{"id": i, "scale": float(f == chosen)} for i, f in enumerate(self._adapter_files)]}

    def _reply(self, prompt: Prompt, chunks: Sequence[Mapping[str, Any]]) -> Reply:
        about: dict[str, Any] = {
            "model": self.name,
            "adapter": self.adapters.get(prompt.step),
            "context_tokens": self.context_tokens,
        }
        for chunk in chunks:
            error = chunk.get("error") or (chunk if "message" in chunk else None)
            if error and error.get("type") == "exceed_context_size_error":
                return Reply(text="", prompt_tokens=int(error["n_prompt_tokens"]), stop="overflow", **about)
            if error:
                raise ModelUnavailable(f"the model {self.name} failed at a {prompt.step!r} prompt: {error['message']}")
        choices = [choice for chunk in chunks for choice in chunk.get("choices") or ()]
        usage = next((chunk["usage"] for chunk in reversed(chunks) if chunk.get("usage")), None)
        if usage is None:
            raise ModelUnavailable(f"the model {self.name} was stopped in the middle of a reply")
        stop: Literal["end", "length"] = "length" if choices[-1]["finish_reason"] == "length" else "end"
        tokens = [token for choice in choices for token in (choice.get("logprobs") or {}).get("content") or ()]
        # llama.cpp tells nothing of the token that ends a reply, nor of those that end inside a character.
        whole = prompt.logprobs and len(tokens) == usage["completion_tokens"] - (stop == "end")
        return Reply(
            text="".join(choice["delta"].get("content") or "" for choice in choices),
            prompt_tokens=usage["prompt_tokens"],
            completion_tokens=usage["completion_tokens"],
            stop=stop,
            token_ids=[token["id"] for token in tokens] if whole else None,
            logprobs=[token["logprob"] for token in tokens] if whole else None,
            **about,
        )


def grammar(schema: Mapping[str, Any]) -> str:
    """The llguidance grammar of compact JSON after `schema`, properties in its order.

    Not `response_format`: with it the chat parser takes a fence away, and the text is no longer the tokens.
    llama.cpp ignores, without an error, a schema that llguidance cannot compile: replies are then unconstrained.
    """
    return "%llguidance {}\nstart: %json " + json.dumps({**schema, "x-guidance": _WRITING})


def _read_base(path: Path) -> tuple[Header, int | None]:
    """The model's header and the context it was trained with, in tokens."""
    try:
        architecture = read_header(path, ("general.architecture",)).metadata.get("general.architecture", "")
        key = f"{architecture}.context_length"
        header = read_header(path, ("general.architecture", key))
    except WeightsMissing as error:
        raise WeightsMissing(f"{error}; {REMEDY}") from error
    return header, header.metadata.get(key)


def _start(path: Path, adapters: Sequence[Path], context: int, slots: int, threads: int | None) -> Any:
    """A running llama.cpp server, silent and out of reach from outside this process."""
    try:
        with _short_spins():
            import xllamacpp
    except ImportError as error:
        raise ModelUnavailable(
            "the embedded model needs the package xllamacpp (`pip install xllamacpp`); where it has no wheel, use "
            "an OpenAI-compatible endpoint"
        ) from error
    params = xllamacpp.CommonParams()
    params.model.path = str(path)
    params.verbosity = -1
    params.n_ctx = context * slots  # each slot gets its share
    params.n_parallel = slots
    params.kv_unified = False  # together, an idle slot's beginning would be dropped
    # Prompts pushed out of a slot, kept for later; but not by adapter: one that was read with another would be taken.
    params.cache_ram_mib = 0 if adapters else 256
    count = threads or min(_cores(), 16)
    params.cpuparams.n_threads = count
    params.cpuparams_batch.n_threads = count
    # With flash attention a prompt's logits depend on how much of it was still in the cache.
    params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    params.n_batch = 512  # tokens of a prompt read between two looks at Ctrl-C
    params.n_ubatch = 128  # as fast as 512 on CPUs, and a quarter of the scratch memory
    params.warmup = False
    params.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(str(file), 1.0) for file in adapters]
    params.lora_init_without_apply = True
    params.n_threads_http = 1
    params.endpoint_metrics = True  # for `_awake`
    params.ui = False
    params.api_keys = [secrets.token_urlsafe(32)]
    with tempfile.TemporaryDirectory(prefix="memory-r1-", ignore_cleanup_errors=True) as folder:
        if os.name == "posix":
            params.hostnames = [f"{folder}/s.sock"]
        try:
            with _own_interrupts():
                return _awake(xllamacpp.Server(params))
        except RuntimeError as error:
            raise WeightsMissing(f"llama.cpp cannot load {path} ({error}); {REMEDY}") from error


def _awake(server: Any) -> Any:
    """The server, once its loop takes requests: one that is freed before that waits for itself for ever."""
    server.handle_metrics()  # the one request that asks no model
    return server


@contextmanager
def _short_spins() -> Iterator[None]:
    """Lets llama.cpp's threads, if they are loaded here, sleep soon when they wait for one that has no core.

    By default they spin for a millisecond or more, on the very core that the other may be waiting for: beside a
    training run a reply took more than ten times as long. The OpenMP library, which torch has in common with it, reads
    its environment once, as it is loaded; afterwards the process and its children have theirs as it was.
    """
    if sys.platform != "linux" or os.environ.keys() & {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"}:
        yield
        return
    os.environ["GOMP_SPINCOUNT"] = "300"
    try:
        yield
    finally:
        os.environ.pop("GOMP_SPINCOUNT", None)  # another thread's import may have ended first


def _cores() -> int:
    """The cores this process may use: in a container or under taskset fewer than the machine has."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@contextmanager
def _own_interrupts() -> Iterator[None]:
    """Keeps what Ctrl-C and SIGTERM do: llama.cpp's server, once loaded, has put its own handlers in place."""
    if sys.platform == "win32":
        yield
        # Handlers are asked last come first, and llama.cpp's lets none of the earlier ones be asked.
        ctypes.windll.kernel32.SetConsoleCtrlHandler(_on_console_event, True)
        return
    # By the C library, because Python's signal.signal works in the main thread only.
    change = ctypes.CDLL(None).sigaction
    saved = {number: ctypes.create_string_buffer(512) for number in (signal.SIGINT, signal.SIGTERM)}
    for number, action in saved.items():
        change(int(number), None, action)
    try:
        yield
    finally:
        for number, action in saved.items():
            change(int(number), action, None)


if sys.platform == "win32":

    @ctypes.WINFUNCTYPE(ctypes.c_int, ctypes.c_uint)
    def _on_console_event(event: int) -> int:
        if event != signal.CTRL_C_EVENT:
            return 0
        _thread.interrupt_main()
        return 1


def _wait(futures: Sequence[Future[Reply]]) -> None:
    """Until all are done or one failed. In short steps, because on Windows a lock's wait hides Ctrl-C."""
    pending: set[Future[Reply]] = set(futures)
    while pending:
        done, pending = wait(pending, timeout=0.2, return_when="FIRST_EXCEPTION")
        if any(future.exception() for future in done):
            return


def _refused(error: Exception) -> dict[str, Any]:
    return {"error": {"code": 400, "message": str(error), "type": "invalid_request_error"}}


def _clean(text: str) -> str:
    """Text without lone surrogates, which are not UTF-8 and would be refused."""
    return text.encode("utf-8", "replace").decode()
