"""Any server that speaks OpenAI's chat completions: hosted ones, vLLM, llama.cpp, Ollama, LM Studio."""

from __future__ import annotations

import json
import random
import re
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, wait
from queue import Empty, SimpleQueue
from types import MappingProxyType, TracebackType
from typing import Any, Literal, Self

import httpx

from memory_r1.errors import InvalidInput, ModelRefused, ModelUnavailable
from memory_r1.types import STEPS, Prompt, Reply, Step

_OPTIONAL = frozenset({"max_tokens", "temperature", "logprobs"})
"""Parameters that a request can do without, or names otherwise, where a server refuses them by name."""
SchemaMode = Literal["json_schema", "json_object", "none"]
_Waiting = SimpleQueue[tuple[Prompt, Future[Reply]]]
_WEAKER: Mapping[SchemaMode, SchemaMode] = {"json_schema": "json_object", "json_object": "none"}

FIRST_DELAY = 0.5
LONGEST_DELAY = 30.0
"""Seconds between two attempts: at first, and at most (also where Retry-After asks for more)."""

CONNECT = 10.0
"""Seconds in which a server must take a connection, however long its answers take."""

_OVERFLOW = re.compile(
    r"context[ _]length|context[ _]size|context window|maximum (?:model|input|prompt) length|prompt is too long"
    r"|exceeds? .{0,40}context",
    re.IGNORECASE,
)
# The wordings of OpenAI, vLLM and llama.cpp; the first pattern that is found counts.
_LIMIT = (
    r"maximum (?:context|model) length (?:is|of) (\d+)",
    r"available context size \((\d+)",
    r"context (?:length|size|window) (?:is|of)(?: only)? (\d+)",
)
_ASKED = (
    r"(\d+) (?:input tokens|in the (?:messages|prompt|input))",
    r"prompt contains (?:at least )?(\d+)",
    r"(?:request|prompt) \((?:total length )?(\d+)",
    r"messages resulted in (\d+)",
    r"you (?:passed|requested) (\d+)",
)


class OpenAILLM:
    """A chat model behind `{base_url}/chat/completions`.

    Each request may take `timeout` seconds (a long prompt takes minutes on a CPU); 429, 5xx and broken connections
    are tried `retries` times more.
    At most `concurrency` requests run at once. `schema_mode` is how a prompt's schema is asked for: a
    server that refuses it is asked a weaker way, from then on. `extra` goes into every request's body.

    `adapters` names the LoRA that plays a step, as the server knows it: by vLLM's name of a module, which is a model's
    name, or by llama.cpp's number. Steps that it does not name play by the model alone.
    """

    def __init__(
        self,
        base_url: str,
        model: str,
        *,
        adapters: Mapping[Step, str | int] = MappingProxyType({}),
        api_key: str | None = None,
        timeout: float = 600.0,
        retries: int = 3,
        concurrency: int = 8,
        schema_mode: SchemaMode = "json_schema",
        logprobs: bool = True,
        extra: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        if retries < 0 or concurrency < 1 or timeout <= 0:
            raise InvalidInput("retries must be at least 0, concurrency at least 1 and timeout above 0")
        if not base_url.startswith(("http://", "https://")):
            raise InvalidInput(f"base_url must begin with http:// or https://, not {base_url!r}")
        self.base_url = base_url.rstrip("/")
        self.model = model
        self.adapters: Mapping[Step, str] = {step: str(adapter) for step, adapter in adapters.items()}
        # Without a word about adapters, llama.cpp applies all that it has.
        self._alone: Mapping[str, Any] = {"lora": []} if any(isinstance(one, int) for one in adapters.values()) else {}
        self._played = {step: _played(adapters[step]) if step in adapters else self._alone for step in STEPS}
        self.schema_mode: SchemaMode = schema_mode
        self._unwanted: frozenset[str] = (
            frozenset()
        )  # what the server refused of _OPTIONAL, as OpenAI's later models do
        self._retries = retries
        self._logprobs = logprobs
        self._extra = dict(extra)
        self._key = api_key or ""
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        limits = httpx.Limits(max_connections=concurrency, max_keepalive_connections=concurrency)
        self._client = httpx.Client(
            headers=headers, timeout=httpx.Timeout(timeout, connect=min(timeout, CONNECT)), limits=limits
        )
        self._concurrency = concurrency
        self._running = threading.Semaphore(concurrency)  # of several batches together

    def __repr__(self) -> str:
        return f"OpenAILLM({self._safe(self.base_url)!r}, {self.model!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections; requests that run fail. Harmless when repeated."""
        self._client.close()

    def complete(self, prompts: Sequence[Prompt]) -> list[Reply]:
        """One reply per prompt, in order. Raises ModelUnavailable, after the retries, if one cannot be had.

        Ctrl-C, or the first failure, ends it at once: requests that run are left alone, and no other is sent.
        """
        if self._client.is_closed:
            raise self._unavailable("was closed; make a new client")
        waiting: _Waiting = SimpleQueue()
        futures: list[Future[Reply]] = []
        for prompt in prompts:
            futures.append(Future())
            waiting.put((prompt, futures[-1]))
        stopped = threading.Event()
        try:
            for _ in range(min(self._concurrency, len(futures))):
                # Not a thread pool's: Python waits for those at its end, however long a server takes, after Ctrl-C too.
                threading.Thread(target=self._work, args=(waiting, stopped), name="memory-r1-http", daemon=True).start()
            _wait(futures)
            return [future.result() for future in futures]
        finally:
            stopped.set()

    def chat(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """An OpenAI chat completion request passed on as it stands, but for the model's name; no adapter plays.

        A refusal comes back as {"error": {"code", "message", "type"}}. Raises ModelUnavailable after the retries.
        """
        asked = {**body, "model": self.model, "stream": False, **self._alone, **self._extra}
        response = self._post(asked, threading.Event())
        if response.is_success:
            return dict(response.json())
        message = self._safe(_message(response))
        return {"error": {"code": response.status_code, "message": message, "type": "invalid_request_error"}}

    def lora_files(self) -> dict[int, str]:
        """The files of a llama.cpp server's adapters by number, each with its folder's name; none of other servers."""
        try:
            response = self._client.get(f"{self.base_url.removesuffix('/v1')}/lora-adapters")
            listed = response.json() if response.is_success else []
            return {int(one["id"]): "/".join(re.split(r"[\\/]", one["path"])[-2:]) for one in listed}
        except httpx.TransportError as error:
            raise self._unreachable(error) from None
        except (ValueError, KeyError, TypeError):
            return {}  # another program's page

    def _work(self, waiting: _Waiting, stopped: threading.Event) -> None:
        """Ask for one after another until none is left."""
        while True:
            with self._running:
                try:
                    prompt, future = waiting.get_nowait()
                except Empty:
                    return
                if stopped.is_set():
                    return
                try:
                    future.set_result(self._ask(prompt, stopped))
                except BaseException as error:  # noqa: BLE001 - raised again by the caller, who would wait for ever
                    future.set_exception(error)

    def _ask(self, prompt: Prompt, stopped: threading.Event) -> Reply:
        asked: SchemaMode = self.schema_mode if prompt.schema is not None else "none"
        mode = asked
        while True:
            body = self._body(prompt, mode)
            response = self._post(body, stopped)
            message = _message(response)
            if response.is_success:
                if mode != asked:  # and not before: the words of a refusal may be the user's, which the server repeats
                    self.schema_mode = mode
                return self._reply(response, prompt.step)
            if response.status_code in (400, 413) and _OVERFLOW.search(message):
                return self._overflow(message)
            if response.status_code == 400 and (named := _parameter(response)) in _OPTIONAL and named in body:
                self._unwanted |= {named}
                continue
            if response.status_code not in (400, 422) or not _about_format(message) or mode == "none":
                raise self._refused(response.status_code, message, body["model"])
            mode = _WEAKER[mode]

    def _body(self, prompt: Prompt, mode: SchemaMode) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": self.model,
            "messages": [
                {"role": m.role, "content": m.content.encode("utf-8", "replace").decode()} for m in prompt.messages
            ],
            "max_tokens": prompt.max_tokens,
            "temperature": prompt.temperature,
        }
        if self._logprobs and prompt.logprobs:
            body["logprobs"] = True
        if mode == "json_object":
            body["response_format"] = {"type": "json_object"}
        elif mode == "json_schema":
            schema = {"name": prompt.step, "schema": prompt.schema, "strict": True}
            body["response_format"] = {"type": "json_schema", "json_schema": schema}
        if "max_tokens" in self._unwanted:
            body["max_completion_tokens"] = body.pop("max_tokens")
        body = {name: value for name, value in body.items() if name not in self._unwanted}
        return {**body, **self._played[prompt.step], **self._extra}

    def _post(self, body: Mapping[str, Any], stopped: threading.Event) -> httpx.Response:
        """The last answer after the retries. Raises ModelUnavailable where there was none."""
        content = json.dumps(body).encode()
        for attempt in range(self._retries + 1):
            last = attempt == self._retries
            asked: float | None = None
            try:
                response = self._client.post(
                    f"{self.base_url}/chat/completions", content=content, headers={"Content-Type": "application/json"}
                )
            except httpx.TransportError as error:
                if last:
                    raise self._unreachable(error) from None  # its request would carry the key
            except (httpx.InvalidURL, RuntimeError) as error:
                raise self._unavailable(f"cannot be asked: {self._safe(str(error))}") from None
            else:
                if last or (response.status_code != 429 and response.status_code < 500):
                    return response
                asked = _retry_after(response)
            if stopped.wait(_delay(attempt, asked)):
                raise self._unavailable("was not asked again: nobody waits for the reply any more")
        raise AssertionError("the last attempt returns or raises")

    def _reply(self, response: httpx.Response, step: Step) -> Reply:
        try:
            data = response.json()
            choice, usage = data["choices"][0], data.get("usage") or {}
            tokens = (choice.get("logprobs") or {}).get("content") or []
            ids = choice.get("token_ids") or [token.get("id") for token in tokens]
            return Reply(
                text=choice["message"].get("content") or "",
                prompt_tokens=int(usage.get("prompt_tokens") or 0),
                completion_tokens=int(usage.get("completion_tokens") or 0),
                stop="length" if choice.get("finish_reason") == "length" else "end",
                model=self.model if "model" in self._played[step] else data.get("model") or self.model,
                adapter=self.adapters.get(step),
                prompt_ids=data.get("prompt_token_ids"),
                token_ids=ids if ids and None not in ids else None,
                logprobs=[float(token["logprob"]) for token in tokens] or None,
            )
        except (ValueError, KeyError, IndexError, TypeError, AttributeError):
            start = self._safe(response.text[:120])
            raise self._unavailable(f"sent what is not a chat completion: {start!r}; check base_url") from None

    def _overflow(self, message: str) -> Reply:
        return Reply(
            text="",
            prompt_tokens=_number(_ASKED, message) or 0,
            stop="overflow",
            model=self.model,
            context_tokens=_number(_LIMIT, message),
        )

    def _unreachable(self, error: httpx.TransportError) -> ModelUnavailable:
        if isinstance(error, httpx.TimeoutException):
            return self._unavailable("did not answer in time; raise timeout, or look at the server's load")
        what = self._safe(str(error)) or type(error).__name__
        return self._unavailable(f"cannot be reached ({what}); check that the server runs and base_url is right")

    def _refused(self, status: int, message: str, asked: str) -> ModelUnavailable:
        named = "the model's name" if asked == self.model else f"the name of the adapter, {asked}"
        remedy = {
            401: "; check api_key",
            403: "; check api_key and its rights",
            404: f"; check base_url and {named}",
            429: "; lower concurrency or wait",
        }.get(status, "; look into the server's log" if status >= 500 else "")
        error = self._unavailable(f"answered {status}: {self._safe(message[:300])}{remedy}")
        return ModelRefused(str(error)) if status in (400, 413, 422) else error

    def _unavailable(self, what: str) -> ModelUnavailable:
        return ModelUnavailable(f"the model {self.model} at {self._safe(self.base_url)} {what}")

    def _safe(self, text: str) -> str:
        """Text without the key: some servers repeat it in their errors, and a URL may hold a password."""
        text = re.sub(r"//[^/@\s]+@", "//***@", text)
        return text.replace(self._key, "***") if self._key else text


def _played(adapter: str | int) -> Mapping[str, Any]:
    """What a request says to be answered with an adapter."""
    return {"model": adapter} if isinstance(adapter, str) else {"lora": [{"id": adapter, "scale": 1.0}]}


def _wait(futures: Sequence[Future[Reply]]) -> None:
    """Until all are done or one failed. In short steps, because on Windows a lock's wait hides Ctrl-C."""
    pending: set[Future[Reply]] = set(futures)
    while pending:
        done, pending = wait(pending, timeout=0.2, return_when="FIRST_EXCEPTION")
        if any(future.exception() for future in done):
            return


def _message(response: httpx.Response) -> str:
    """The server's error text: OpenAI's and llama.cpp's {"error": {"message"}}, vLLM's {"message"}, or the body."""
    if response.is_success:
        return ""
    try:
        data = response.json()
    except ValueError:
        return response.text.strip()
    error = data.get("error", data) if isinstance(data, dict) else data
    message = error.get("message", error.get("detail")) if isinstance(error, dict) else error
    return message if isinstance(message, str) else json.dumps(data)


def _parameter(response: httpx.Response) -> str | None:
    """The parameter that OpenAI's kind of error names."""
    try:
        named = response.json()["error"]["param"]
    except (ValueError, KeyError, TypeError):
        return None
    return named if isinstance(named, str) else None


def _about_format(message: str) -> bool:
    return any(word in message.casefold() for word in ("response_format", "json_schema", "json_object", "guided"))


def _retry_after(response: httpx.Response) -> float | None:
    """Seconds the server asks to wait, where it gives a number (a date is too rare to read)."""
    value = response.headers.get("retry-after", "")
    return float(value) if re.fullmatch(r"\d+(\.\d+)?", value) else None


def _delay(attempt: int, asked: float | None) -> float:
    """Seconds to wait: what the server asks, else doubling, with jitter so that a batch does not come back at once."""
    if asked is not None:
        return min(asked, LONGEST_DELAY)
    return min(FIRST_DELAY * 2.0**attempt, LONGEST_DELAY) * random.uniform(0.5, 1.0)


def _number(patterns: Sequence[str], message: str) -> int | None:
    """The number the first fitting pattern finds."""
    found = next((match for p in patterns if (match := re.search(p, message, re.IGNORECASE))), None)
    return int(found[1]) if found else None
