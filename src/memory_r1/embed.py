"""Texts to unit vectors: an ONNX model on this machine, or an OpenAI-compatible endpoint."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from memory_r1.errors import InvalidInput, ModelUnavailable, WeightsMissing

Pooling = Literal["mean", "cls", "none"]

_PADDING, _TOKENS = 32, 4096


class Embedder(Protocol):
    """Turns texts into vectors whose dot product says how alike they are.

    `name` identifies the vectors: a bank records it and refuses an embedder of another name or dimension.
    """

    name: str

    @property
    def dimension(self) -> int: ...

    def embed(self, texts: Sequence[str], *, query: bool = False) -> NDArray[np.float32]:
        """Unit-length float32 rows, (len(texts), dimension), in order. Raises ModelError."""
        ...


class OnnxEmbedder:
    """A BERT-like sentence-embedding model in ONNX, with its tokenizer.json.

    `tokenizer` is by default the tokenizer.json beside the model, `name` the model's folder and file name.
    `pooling` "none" means that the graph gives one vector a text; by default that is read off its output, and
    token vectors are averaged. `batch` texts of similar length run at once, one where the graph fixes that.
    `threads` None leaves the number to onnxruntime. May be used from several threads.

    Raises WeightsMissing when a file is missing or cannot be read, InvalidInput when the graph is of another kind.
    """

    def __init__(
        self,
        model: str | Path,
        *,
        tokenizer: str | Path | None = None,
        name: str | None = None,
        query_prefix: str = "",
        passage_prefix: str = "",
        pooling: Pooling | None = None,
        max_tokens: int = 512,
        threads: int | None = None,
        batch: int = 16,
    ) -> None:
        model = Path(model)
        tokenizer = model.with_name("tokenizer.json") if tokenizer is None else Path(tokenizer)
        for path in (model, tokenizer):
            if not path.is_file():
                raise WeightsMissing(f"{path} is not there: an embedder needs the ONNX model and its tokenizer.json")
        self.name = name or f"{model.parent.name}/{model.stem}"
        self._prefix = {True: query_prefix, False: passage_prefix}
        self._encode, self._cls, self._sep, self._pad = _bert_tokenizer(tokenizer)
        self._session = _session(model, threads)
        inputs = {value.name: value for value in self._session.get_inputs()}
        output = self._session.get_outputs()[0]
        unknown = set(inputs) - {"input_ids", "attention_mask", "token_type_ids"}
        if unknown or "input_ids" not in inputs or len(output.shape) not in (2, 3):
            raise InvalidInput(f"{model} is no sentence-embedding model: {sorted(inputs)} -> {output.shape}")
        self._types = {key: np.int32 if value.type == "tensor(int32)" else np.int64 for key, value in inputs.items()}
        rows, tokens = inputs["input_ids"].shape[:2]
        # Exporters also fix the batch by giving the output one row while the input's stays open.
        fixed = next((size for size in (rows, output.shape[0]) if isinstance(size, int)), None)
        if fixed not in (None, 1):
            raise InvalidInput(f"{model} has its batch fixed to {fixed}; only 1 or a free batch works")
        self._batch = fixed or batch
        self._length = tokens if isinstance(tokens, int) else None
        self._max_tokens = min(max_tokens, self._length or max_tokens)
        self._pooling: Pooling = pooling or ("none" if len(output.shape) == 2 else "mean")
        if (self._pooling == "none") != (len(output.shape) == 2):
            raise InvalidInput(f"pooling {self._pooling!r} does not suit {model}, whose output is {output.shape}")
        size = output.shape[-1]
        self.dimension = size if isinstance(size, int) else self._run([[self._cls, self._sep]]).shape[1]

    def embed(self, texts: Sequence[str], *, query: bool = False) -> NDArray[np.float32]:
        """Unit-length rows, (len(texts), dimension); a text beyond max_tokens counts up to there."""
        prefix = self._prefix[query]
        rows = [self._ids(prefix + text) for text in _texts(texts)]
        vectors = np.empty((len(rows), self.dimension), dtype=np.float32)
        for places in _batches([len(row) for row in rows], self._batch):
            vectors[places] = self._run([rows[place] for place in places])
        return vectors

    def _ids(self, text: str) -> list[int]:
        return [self._cls, *self._encode(text)[: self._max_tokens - 2], self._sep]

    def _run(self, rows: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        width = self._length or max(map(len, rows))
        ids = np.full((len(rows), width), self._pad)
        mask = np.zeros_like(ids)
        for i, row in enumerate(rows):
            ids[i, : len(row)] = row
            mask[i, : len(row)] = 1
        values = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        output = self._session.run(None, {key: values[key].astype(kind) for key, kind in self._types.items()})[0]
        if self._pooling == "mean":
            output = np.einsum("btd,bt->bd", output, mask.astype(np.float32))
        elif self._pooling == "cls":
            output = output[:, 0]
        return _unit(output)


class OpenAIEmbedder:
    """The /embeddings of an OpenAI-compatible server: `base_url` ends where "/embeddings" follows.

    `dimension` None asks the server once. 429, 5xx and connection errors are tried again `retries` times, after
    `backoff` seconds, doubling. `timeout` is in seconds, `batch` in texts a request. Raises ModelUnavailable when
    the server cannot be reached, refuses, or gives vectors of another dimension. The key appears in no message.
    """

    def __init__(
        self,
        base_url: str,
        model: str,
        dimension: int | None = None,
        api_key: str | None = None,
        *,
        timeout: float = 60.0,
        retries: int = 3,
        backoff: float = 0.5,
        batch: int = 64,
    ) -> None:
        import httpx  # slow to import, and only this class needs it

        self.name = model
        self._dimension = dimension
        self._url = base_url.rstrip("/") + "/embeddings"
        self._shown = re.sub(r"//[^/@]*@", "//", self._url)  # without a password
        key = (api_key or "").strip()
        if not (key.isascii() and key.isprintable()):
            raise InvalidInput("api_key holds characters that no HTTP header can carry")
        self._key, self._retries, self._backoff, self._batch = key, retries, backoff, batch
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._client = httpx.Client(timeout=timeout, headers=headers)

    @property
    def dimension(self) -> int:
        if self._dimension is None:
            self._dimension = len(self._request(["dimension"])[0])
        return self._dimension

    def embed(self, texts: Sequence[str], *, query: bool = False) -> NDArray[np.float32]:
        """Unit-length rows, (len(texts), dimension). Questions and passages are embedded alike."""
        del query
        texts = [text or " " for text in _texts(texts)]  # servers refuse an empty input
        batches = [texts[start : start + self._batch] for start in range(0, len(texts), self._batch)]
        rows = [row for batch in batches for row in self._request(batch)]
        vectors = np.empty((len(rows), self.dimension), dtype=np.float32)
        for i, row in enumerate(rows):
            if len(row) != self.dimension:
                raise ModelUnavailable(
                    f"{self._shown}: {self.name} gives vectors of {len(row)} dimensions, not {self.dimension}; "
                    f"set the embedder's dimension to {len(row)}, or name the model that was meant"
                )
            vectors[i] = row
        lengths = np.linalg.norm(vectors, axis=1)
        if not (np.isfinite(lengths) & (lengths > 0)).all():
            raise ModelUnavailable(f"{self._shown}: {self.name} gave a vector that is zero or not finite")
        return _unit(vectors)

    def _request(self, texts: Sequence[str]) -> list[list[float]]:
        """One vector a text, in order."""
        body = self._post({"model": self.name, "input": list(texts), "encoding_format": "float"})
        try:
            items = sorted(body["data"], key=lambda item: item["index"])
            rows = [[float(value) for value in item["embedding"]] for item in items]
        except (KeyError, TypeError, ValueError) as error:
            raise ModelUnavailable(f"{self._shown} did not reply as an OpenAI-compatible server: {error!r}") from error
        if len(rows) != len(texts):
            raise ModelUnavailable(f"{self._shown} gave {len(rows)} vectors for {len(texts)} texts")
        return rows

    def _post(self, request: dict[str, Any]) -> Any:
        import httpx

        wait, problem = self._backoff, ""
        for attempt in range(self._retries + 1):
            if attempt:
                time.sleep(wait)
                wait *= 2
            try:
                response = self._client.post(self._url, json=request)
            except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
                raise ModelUnavailable(
                    f"{self._shown} is no URL ({error}); give one like http://host:8000/v1"
                ) from error
            except httpx.TransportError as error:
                problem = f"cannot be reached ({error or type(error).__name__}); is the server running?"
                continue
            if response.is_success:
                try:
                    return response.json()
                except ValueError as error:
                    raise ModelUnavailable(f"{self._shown} replied with something other than JSON") from error
            problem = f"answered {response.status_code}: {self._clean(response.text)}"
            if response.status_code != 429 and response.status_code < 500:
                raise ModelUnavailable(f"{self._shown} {problem}{_REMEDIES.get(response.status_code, '')}")
        raise ModelUnavailable(f"{self._shown} {problem} (tried {self._retries + 1} times)")

    def _clean(self, text: str) -> str:
        # Servers quote the key they refuse.
        return (text.replace(self._key, "***") if self._key else text).strip()[:300]


_REMEDIES = {
    401: " - check the API key",
    403: " - check the API key and what it may use",
    404: " - check that the address ends in /v1 (or the server's own prefix) and that the model exists there",
}


def default_embedder(cache: Path | None = None, threads: int | None = None) -> OnnxEmbedder:
    """e5-small in int8, 34 MB, English, 384 dimensions, 512 tokens; brought into the cache at the first use.

    Raises WeightsMissing when that fails.
    """
    from memory_r1.weights import pull  # slow to import: archives and downloads

    return OnnxEmbedder(
        pull("e5-small", cache),
        name="e5-small-int8",
        query_prefix="query: ",
        passage_prefix="passage: ",
        threads=threads,
    )


def _texts(texts: Sequence[str]) -> list[str]:
    """The texts with every lone surrogate, which no tokenizer or JSON parser takes, replaced by U+FFFD."""
    if isinstance(texts, str) or not all(isinstance(text, str) for text in texts):
        raise InvalidInput("embed takes a sequence of strings")
    return [text.encode("utf-16", "surrogatepass").decode("utf-16", "replace") for text in texts]


def _batches(lengths: Sequence[int], most: int) -> Iterator[list[int]]:
    """Places of texts to run together, shortest first: at most `most`, with at most _PADDING tokens added to each,
    and _TOKENS in all, as attention takes memory by the square of the length."""
    batch: list[int] = []
    for place in sorted(range(len(lengths)), key=lengths.__getitem__):
        width = lengths[place]
        if batch and (len(batch) == most or width - lengths[batch[0]] > _PADDING or width * (len(batch) + 1) > _TOKENS):
            yield batch
            batch = []
        batch.append(place)
    if batch:
        yield batch


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(lengths, np.float32(1e-12)), dtype=np.float32)


def _bert_tokenizer(path: Path) -> tuple[Callable[[str], list[int]], int, int, int]:
    """(encode without the frame, id of [CLS], of [SEP], of [PAD])."""
    try:
        from kitoken import Kitoken
    except ImportError as error:
        raise ModelUnavailable(
            "the embedded embedder needs kitoken, which has no wheel for this platform; use an OpenAI-compatible "
            "endpoint (OpenAIEmbedder)"
        ) from error
    try:
        tokens = json.loads(path.read_text(encoding="utf-8")).get("added_tokens") or ()
        ids = {token["content"]: int(token["id"]) for token in tokens}
        tokenizer = Kitoken.from_file(str(path))
    except Exception as error:
        raise WeightsMissing(f"{path} is no tokenizer.json that can be read: {error}") from error
    if not {"[CLS]", "[SEP]", "[PAD]"} <= set(ids):
        raise InvalidInput(f"{path} is not of a BERT-like model: it has no [CLS], [SEP] and [PAD]")
    return (lambda text: list(tokenizer.encode(text, True))), ids["[CLS]"], ids["[SEP]"], ids["[PAD]"]


def _session(model: Path, threads: int | None) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    # Idle threads that spin would take the cores from the language model beside it.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if threads is not None:
        options.intra_op_num_threads = threads
    try:
        return onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise WeightsMissing(f"{model} cannot be loaded: {error}") from error
