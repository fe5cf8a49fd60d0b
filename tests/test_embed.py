"""Embedders: the ONNX one with the real e5-small, the OpenAI-compatible one with a server on this machine."""

from __future__ import annotations

import json
import logging
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from memory_r1.embed import Embedder, OnnxEmbedder, OpenAIEmbedder, default_embedder
from memory_r1.errors import InvalidInput, ModelUnavailable, WeightsMissing
from memory_r1.testing import HashEmbedder
from memory_r1.weights import find

KEY = "sk-very-secret"
Responder = Callable[[int, dict[str, Any]], tuple[int, Any]]


def answer(vectors: Callable[[str], list[float]]) -> Responder:
    """A responder that embeds each input with `vectors`, last item first: the index alone tells the order."""

    def respond(_: int, request: dict[str, Any]) -> tuple[int, Any]:
        items = [{"index": i, "embedding": vectors(text)} for i, text in enumerate(request["input"])]
        return 200, {"data": items[::-1]}

    return respond


@contextmanager
def server(respond: Responder) -> Iterator[tuple[str, list[tuple[dict[str, Any], str | None]]]]:
    """An /embeddings endpoint that answers call number 0, 1, … with `respond`; its address and its log."""
    log: list[tuple[dict[str, Any], str | None]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            log.append((request, self.headers.get("Authorization")))
            status, reply = respond(len(log) - 1, request)
            body = (reply if isinstance(reply, str) else json.dumps(reply)).encode()
            self.send_response(status if self.path == "/v1/embeddings" else 404)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{httpd.server_port}/v1", log
    finally:
        httpd.shutdown()
        thread.join()
        httpd.server_close()


def test_the_endpoints_vectors_come_back_unit_length_and_in_order() -> None:
    with server(answer(lambda text: [3.0, 4.0] if text == "a" else [0.0, float(len(text))])) as (url, log):
        embedder = OpenAIEmbedder(url, "tiny", api_key=KEY, batch=2)
        vectors = embedder.embed(["a", "bb", "ccc"])
        assert vectors.dtype == np.float32
        np.testing.assert_allclose(vectors, np.array([[0.6, 0.8], [0, 1], [0, 1]], np.float32), rtol=1e-6)
        assert embedder.dimension == 2
        sent = [request["input"] for request, _ in log]
        assert sent == [["a", "bb"], ["ccc"], ["dimension"]]
        assert {authorization for _, authorization in log} == {f"Bearer {KEY}"}


def test_no_texts_make_no_rows() -> None:
    with server(answer(lambda _: [1.0])) as (url, log):
        assert OpenAIEmbedder(url, "tiny", dimension=1).embed([]).shape == (0, 1)
        assert log == []


def test_an_empty_text_and_a_lone_surrogate_are_sent_as_what_a_server_takes() -> None:
    with server(answer(lambda _: [1.0])) as (url, log):
        OpenAIEmbedder(url, "tiny", dimension=1).embed(["", "a\ud800b", "\ud83d\ude00"])
        assert log[0][0]["input"] == [" ", "a\ufffdb", "😀"]


@pytest.mark.parametrize("status", [500, 503, 429])
def test_a_request_that_failed_on_the_servers_side_is_tried_again(status: int) -> None:
    well = answer(lambda _: [1.0, 0.0])
    with server(lambda call, request: well(call, request) if call == 2 else (status, "busy")) as (url, log):
        vectors = OpenAIEmbedder(url, "tiny", dimension=2, backoff=0.01).embed(["a"])
        assert (vectors.tolist(), len(log)) == ([[1.0, 0.0]], 3)


def test_a_server_that_stays_broken_is_reported_with_its_words_and_the_number_of_tries() -> None:
    with (
        server(lambda *_: (500, "out of memory")) as (url, log),
        pytest.raises(ModelUnavailable, match=r"500: out of memory \(tried 2 times\)"),
    ):
        OpenAIEmbedder(url, "tiny", dimension=2, retries=1, backoff=0.01).embed(["a"])
    assert len(log) == 2


def test_a_refused_connection_asks_whether_the_server_runs() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(ModelUnavailable, match=rf"127\.0\.0\.1:{port}.*is the server running"):
        OpenAIEmbedder(f"http://127.0.0.1:{port}/v1", "tiny", retries=1, backoff=0.01, dimension=1).embed(["a"])


def test_an_address_without_http_is_called_no_url() -> None:
    with pytest.raises(ModelUnavailable, match="is no URL"):
        OpenAIEmbedder("localhost:8000/v1", "tiny", dimension=1).embed(["a"])


def test_a_refused_key_is_not_tried_again_and_appears_nowhere(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with (
        server(lambda *_: (401, f"wrong key: {KEY}")) as (url, log),
        pytest.raises(ModelUnavailable, match=r"wrong key: \*\*\* - check the API key") as raised,
    ):
        OpenAIEmbedder(url, "tiny", dimension=2, api_key=f"{KEY}\n").embed(["a"])
    assert len(log) == 1
    assert KEY not in str(raised.value) + caplog.text


def test_a_wrong_path_names_the_remedy() -> None:
    with server(answer(lambda _: [1.0])) as (url, _), pytest.raises(ModelUnavailable, match=r"404.*ends in /v1"):
        OpenAIEmbedder(url.removesuffix("/v1"), "tiny", dimension=1).embed(["a"])


def test_vectors_of_another_dimension_are_an_error_that_names_both() -> None:
    with (
        server(answer(lambda _: [1.0, 0.0])) as (url, _),
        pytest.raises(ModelUnavailable, match="of 2 dimensions, not 3"),
    ):
        OpenAIEmbedder(url, "tiny", dimension=3).embed(["a"])


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        ({"data": []}, "0 vectors for 1 texts"),
        ({"error": "no"}, "did not reply as an OpenAI-compatible server"),
        ("<html>", "other than JSON"),
        ({"data": [{"index": 0, "embedding": [0.0, 0.0]}]}, "zero or not finite"),
        ('{"data": [{"index": 0, "embedding": [NaN, 0.0]}]}', "zero or not finite"),
    ],
)
def test_a_reply_that_is_no_embedding_is_an_error(reply: object, message: str) -> None:
    with server(lambda *_: (200, reply)) as (url, _), pytest.raises(ModelUnavailable, match=message):
        OpenAIEmbedder(url, "tiny", dimension=2).embed(["a"])


def test_one_string_is_not_a_sequence_of_texts() -> None:
    with pytest.raises(InvalidInput, match="sequence of strings"):
        OpenAIEmbedder("http://127.0.0.1:1/v1", "tiny", dimension=1).embed("abc")


def test_the_embedders_are_of_one_kind() -> None:
    embedders: list[Embedder] = [HashEmbedder(8), OpenAIEmbedder("http://127.0.0.1:1/v1", "tiny", dimension=8)]
    assert [(embedder.name, embedder.dimension) for embedder in embedders] == [("hash-8", 8), ("tiny", 8)]


def test_a_model_that_is_not_there_or_is_no_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(WeightsMissing, match=r"gone\.onnx is not there"):
        OnnxEmbedder(tmp_path / "gone.onnx")
    (tmp_path / "bad.onnx").write_bytes(b"not a model")
    (tmp_path / "tokenizer.json").write_text("{}", encoding="utf-8")
    with pytest.raises(WeightsMissing, match=r"tokenizer\.json is no tokenizer"):
        OnnxEmbedder(tmp_path / "bad.onnx")


@pytest.fixture(scope="module")
def e5_small() -> OnnxEmbedder:
    try:
        find("e5-small")
    except WeightsMissing as error:
        pytest.skip(f"needs the real model: {error}")
    return default_embedder()


@pytest.mark.models
def test_e5_small_finds_the_passage_that_answers(e5_small: OnnxEmbedder) -> None:
    passages = ["Ann adopted a puppy named Bo.", "Ben sold his car last spring.", "Ann plays chess on Sundays."]
    questions = ["What pet does Ann have?", "Which vehicle did Ben get rid of?", "What is Ann's hobby?"]
    alike = e5_small.embed(questions, query=True) @ e5_small.embed(passages).T
    assert alike.argmax(axis=1).tolist() == [0, 1, 2]


@pytest.mark.models
def test_e5_smalls_vector_is_close_to_that_of_the_float32_original(e5_small: OnnxEmbedder) -> None:
    original = [-0.0046, -0.0159, -0.1133, -0.0322, 0.0609, -0.0709, -0.0328, 0.0233]
    vector = e5_small.embed(["Ann adopted a puppy named Bo."])[0]
    np.testing.assert_allclose(vector[:8], original, atol=0.012)


@pytest.mark.models
def test_a_texts_vector_does_not_depend_on_the_texts_beside_it(e5_small: OnnxEmbedder) -> None:
    texts = ["short", "a text of middling length, with a comma", "word " * 600, "", "short"]
    together = e5_small.embed(texts)
    assert together.shape == (5, 384)
    assert together.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, rtol=1e-5)
    for text, vector in zip(texts, together, strict=True):
        assert e5_small.embed([text])[0] @ vector > 0.9999


@pytest.mark.models
def test_any_string_at_all_can_be_embedded(e5_small: OnnxEmbedder) -> None:
    vectors = e5_small.embed(
        ["", " ", "\x00", "\ud800", "word " * 200_000, "x" * 1_000_000, "[SEP] 日本語 😀"], query=True
    )
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)
    assert e5_small.embed([]).shape == (0, 384)


@pytest.mark.models
def test_questions_and_passages_are_embedded_with_their_prefixes(e5_small: OnnxEmbedder) -> None:
    bare = OnnxEmbedder(find("e5-small"), threads=1)
    expected = bare.embed(["query: where?", "passage: where?"])
    np.testing.assert_allclose(e5_small.embed(["where?"], query=True)[0], expected[0], atol=1e-5)
    np.testing.assert_allclose(e5_small.embed(["where?"])[0], expected[1], atol=1e-5)


@pytest.mark.models
def test_a_text_counts_up_to_the_last_token_that_fits(e5_small: OnnxEmbedder) -> None:
    del e5_small
    short = OnnxEmbedder(find("e5-small"), max_tokens=4)
    cut, same, other = short.embed(["one two three four", "one two", "one three"])
    assert cut @ same > 0.9999 > cut @ other


@pytest.mark.models
def test_several_threads_may_embed_at_once(e5_small: OnnxEmbedder) -> None:
    texts = [f"Ann has {i} cats" for i in range(12)]
    with ThreadPoolExecutor(4) as pool:
        rows = list(pool.map(lambda text: e5_small.embed([text])[0], texts))
    np.testing.assert_allclose(rows, e5_small.embed(texts), atol=1e-4)


@pytest.mark.models
def test_pooling_that_the_graph_cannot_give_is_refused(e5_small: OnnxEmbedder) -> None:
    del e5_small
    with pytest.raises(InvalidInput, match="pooling 'mean' does not suit"):
        OnnxEmbedder(find("e5-small"), pooling="mean")
