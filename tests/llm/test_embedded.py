"""EmbeddedLLM: the checks before loading, and the smallest real model where it is in the cache."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import platformdirs
import pytest

from memory_r1.errors import AdapterMismatch, InvalidInput, ModelUnavailable, WeightsMissing
from memory_r1.llm.embedded import EmbeddedLLM, grammar
from memory_r1.types import Message, Prompt, Reply, Step

MODELS = Path(os.environ.get("MEMORY_R1_MODELS") or Path(platformdirs.user_cache_dir("memory-r1")) / "models")
MODEL = MODELS / "SmolLM2-135M-Instruct.Q4_1.gguf"
real = [
    pytest.mark.models,
    pytest.mark.skipif(not MODEL.exists(), reason=f"{MODEL.name} is not in {MODELS}; run `memory-r1 models pull`"),
]
TARGET, WIDTH = "blk.0.attn_output.weight", 576

FACTS = {
    "type": "object",
    "properties": {"facts": {"type": "array", "maxItems": 2, "items": {"type": "string", "maxLength": 12}}},
    "required": ["facts"],
    "additionalProperties": False,
}
OPERATION = {
    "anyOf": [
        {
            "type": "object",
            "properties": {"op": {"const": "ADD"}},
            "required": ["op"],
            "additionalProperties": False,
        },
        {
            "type": "object",
            "properties": {"op": {"enum": ["UPDATE", "DELETE"]}, "id": {"enum": [1, 2]}},
            "required": ["op", "id"],
            "additionalProperties": False,
        },
    ]
}


def prompt(text: str, step: Step = "extract", **more: Any) -> Prompt:
    return Prompt(step, (Message("system", "You reply with JSON."), Message("user", text)), **{"max_tokens": 8, **more})


def _string(text: str) -> bytes:
    return struct.pack("<Q", len(text)) + text.encode()


def write_lora(file: Path, *, architecture: str = "llama", width: int = WIDTH, b: float = 0.0) -> Path:
    """A rank-1 LoRA adapter of one tensor: lora_a all 1.0, lora_b all `b`, alpha 1."""
    metadata = {"general.type": "adapter", "general.architecture": architecture, "adapter.type": "lora"}
    shapes = {f"{TARGET}.lora_a": (width, 1), f"{TARGET}.lora_b": (1, width)}
    out = b"GGUF" + struct.pack("<IQQ", 3, len(shapes), len(metadata) + 1)
    for key, value in metadata.items():
        out += _string(key) + struct.pack("<I", 8) + _string(value)
    out += _string("adapter.lora.alpha") + struct.pack("<If", 6, 1.0)
    for i, (name, dims) in enumerate(shapes.items()):
        out += _string(name) + struct.pack("<IQQIQ", 2, *dims, 0, i * width * 4)
    out += bytes(-len(out) % 32)  # the data begins at a multiple of the alignment
    file.write_bytes(out + struct.pack(f"<{2 * width}f", *[1.0] * width, *[b] * width))
    return file


@pytest.fixture(scope="module")
def llm() -> Iterator[EmbeddedLLM]:
    with EmbeddedLLM(MODEL, context_tokens=512) as llm:
        yield llm


def ask(llm: EmbeddedLLM, text: str, **more: Any) -> Reply:
    return llm.complete([prompt(text, **more)])[0]


def test_an_absent_model_says_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(WeightsMissing, match=r"nowhere\.gguf.*memory-r1 models pull"):
        EmbeddedLLM(tmp_path / "nowhere.gguf")


def test_a_damaged_model_says_how_to_get_a_whole_one(tmp_path: Path) -> None:
    file = tmp_path / "half.gguf"
    file.write_bytes(b"GGUF\x03\x00")
    with pytest.raises(WeightsMissing, match=r"half\.gguf is not a GGUF file, or is damaged.*memory-r1 models pull"):
        EmbeddedLLM(file)


def test_a_header_without_weights_is_a_damaged_model(tmp_path: Path) -> None:
    file = tmp_path / "header.gguf"
    file.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 0, 0))
    with pytest.raises(WeightsMissing, match=r"cannot load .*header\.gguf.*memory-r1 models pull"):
        EmbeddedLLM(file)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux's OpenMP library is told how to wait")
@pytest.mark.parametrize(
    ("environment", "spins"),
    [({}, "300"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "active"}, "30000000000")],
)
def test_threads_wait_for_each_other_by_short_spins_unless_the_environment_says_how(
    tmp_path: Path, environment: Mapping[str, str], spins: str
) -> None:
    file = tmp_path / "header.gguf"
    file.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 0, 0))
    code = (
        "import os\nfrom memory_r1.llm.embedded import EmbeddedLLM\n"
        f"try: EmbeddedLLM({str(file)!r})\nexcept Exception: print(os.environ.get('GOMP_SPINCOUNT'))"
    )
    inherited = {k: v for k, v in os.environ.items() if k not in {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"}}
    # The OpenMP library then tells its settings as it is loaded.
    environment = {**inherited, "OMP_DISPLAY_ENV": "verbose", **environment}
    run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60)
    assert f"GOMP_SPINCOUNT = '{spins}'" in run.stderr
    assert run.stdout.strip() == str(environment.get("GOMP_SPINCOUNT"))


@pytest.mark.parametrize("wrong", [{"parallel": 0}, {"context_tokens": 0}, {"threads": 0}])
def test_settings_that_cannot_be_meant_are_refused(wrong: Mapping[str, int]) -> None:
    with pytest.raises(InvalidInput):
        EmbeddedLLM("any.gguf", **wrong)  # type: ignore[arg-type]


def test_the_grammar_keeps_the_schema_and_fixes_the_white_space() -> None:
    head, _, body = grammar(FACTS).partition("%json ")
    assert head == "%llguidance {}\nstart: "
    assert json.loads(body).items() > FACTS.items()


class TestWithTheModel:
    pytestmark = real

    def test_a_reply_has_its_tokens_and_what_it_cost(self, llm: EmbeddedLLM) -> None:
        reply = ask(llm, "Say hello to Ann.")
        assert reply.text
        assert (reply.stop, reply.completion_tokens, reply.model) == ("length", 8, MODEL.stem)
        assert reply.token_ids is not None
        assert reply.logprobs is not None
        assert len(reply.token_ids) == len(reply.logprobs) == 8
        assert all(value <= 0 for value in reply.logprobs)
        assert reply.prompt_tokens > 8
        assert (reply.adapter, reply.context_tokens) == (None, 512)

    @pytest.mark.parametrize("schema", [FACTS, OPERATION], ids=["list", "choice"])
    def test_a_schema_gives_compact_json_without_a_fence(self, llm: EmbeddedLLM, schema: dict[str, Any]) -> None:
        reply = ask(llm, "Ann has a dog.", schema=schema, max_tokens=60)
        assert reply.stop == "end"
        assert json.dumps(json.loads(reply.text), ensure_ascii=False) == reply.text
        assert reply.token_ids is None or len(reply.token_ids) == reply.completion_tokens - 1

    def test_characters_of_several_tokens_arrive_whole_and_without_wrong_ids(self, llm: EmbeddedLLM) -> None:
        reply = ask(llm, "x", schema={"enum": ["🦊 ü 日"]}, max_tokens=40)
        assert reply.text == '"🦊 ü 日"'
        assert reply.token_ids is None
        assert reply.logprobs is None

    def test_a_prompt_that_does_not_fit_is_an_overflow_with_its_size(self, llm: EmbeddedLLM) -> None:
        reply = ask(llm, "word " * 3000)
        assert (reply.text, reply.stop, reply.context_tokens) == ("", "overflow", 512)
        assert reply.prompt_tokens > 3000

    def test_greedy_replies_are_the_same_whatever_was_asked_before(self, llm: EmbeddedLLM) -> None:
        first = ask(llm, "Name three colours of the sea.")
        assert ask(llm, "Name three colours of the sea.") == first
        ask(llm, "Name three colours of the sky at night.")
        assert ask(llm, "Name three colours of the sea.") == first

    def test_a_batch_keeps_the_order_of_its_prompts(self, llm: EmbeddedLLM) -> None:
        schemas = [{"enum": [word]} for word in ("one", "two", "three", "four")]
        replies = llm.complete([prompt("?", schema=schema) for schema in schemas])
        assert [reply.text for reply in replies] == ['"one"', '"two"', '"three"', '"four"']

    def test_several_threads_may_ask_at_once(self, llm: EmbeddedLLM) -> None:
        with ThreadPoolExecutor(4) as pool:
            texts = list(pool.map(lambda i: ask(llm, "?", schema={"enum": [f"r{i}"]}).text, range(4)))
        assert texts == [f'"r{i}"' for i in range(4)]

    def test_text_that_is_no_unicode_is_asked_all_the_same(self, llm: EmbeddedLLM) -> None:
        assert ask(llm, "a \ud800 b", max_tokens=1).completion_tokens == 1

    @pytest.mark.parametrize("temperature", ["warm", float("nan")])
    def test_what_llama_cpp_refuses_is_reported_with_the_model(self, llm: EmbeddedLLM, temperature: Any) -> None:
        with pytest.raises(ModelUnavailable, match=rf"{MODEL.stem} .*'extract' prompt: "):
            ask(llm, "?", temperature=temperature)

    def test_a_step_keeps_its_static_beginning_computed_while_steps_alternate(self, llm: EmbeddedLLM) -> None:
        steps: tuple[Step, ...] = ("extract", "manage")

        def seconds(i: int) -> float:
            start = time.process_time()  # of this process's threads, so that other programs do not count
            ask(llm, f"{steps[i % 2]} these words again. " * 40 + f"Number {i}?", step=steps[i % 2], max_tokens=1)
            return time.process_time() - start

        cold = seconds(0) + seconds(1)
        warm = min(seconds(i) + seconds(i + 1) for i in (2, 4))
        assert warm < cold / 2

    def test_a_step_keeps_its_beginning_computed_while_steps_with_adapters_alternate(self, tmp_path: Path) -> None:
        steps: tuple[Step, ...] = ("extract", "manage", "answer")
        adapters = {step: write_lora(tmp_path / f"{step}.gguf", b=0.01) for step in steps}
        with EmbeddedLLM(MODEL, adapters=adapters, context_tokens=1024, threads=1) as llm:

            def seconds(step: Step, i: int) -> float:
                start = time.process_time()
                ask(llm, f"{step} these words again. " * 40 + f"Number {i}?", step=step, max_tokens=1)
                return time.process_time() - start

            cold = sum(seconds(step, 0) for step in steps)
            warm = min(sum(seconds(step, i) for step in steps) for i in (1, 2))
        assert warm < cold / 2

    def test_a_prompt_that_was_read_with_one_adapter_is_read_anew_with_another(self, tmp_path: Path) -> None:
        first, second = ("Tell me of the sea. " * 10, "Tell me of the sky. " * 10)
        strong = write_lora(tmp_path / "strong.gguf", b=0.5)
        adapters: dict[Step, Path] = {"extract": write_lora(tmp_path / "zero.gguf"), "manage": strong}

        def likely(llm: EmbeddedLLM, text: str, step: Step) -> float:
            (logprob,) = ask(llm, text, step=step, max_tokens=1).logprobs or ()
            return logprob

        with EmbeddedLLM(MODEL, adapters={"manage": strong}, context_tokens=512) as alone:
            expected = likely(alone, first, "manage")
        with EmbeddedLLM(MODEL, adapters=adapters, context_tokens=512) as llm:
            other = likely(llm, first, "extract")
            likely(llm, second, "extract")  # pushes the first out of its slot
            likely(llm, second, "manage")
            assert likely(llm, first, "manage") == pytest.approx(expected, abs=0.1)
        assert abs(other - expected) > 0.5

    def test_a_streamed_chat_is_the_same_reply_in_pieces_and_ends_where_it_is_told_to(self, llm: EmbeddedLLM) -> None:
        body = {"messages": [{"role": "user", "content": "Say hello to Ann."}], "temperature": 0, "max_tokens": 12}

        def pieces(most: int, **more: Any) -> list[dict[str, Any]]:
            came: list[dict[str, Any]] = []

            def receive(chunk: dict[str, Any]) -> bool:
                came.append(chunk)
                return len(came) == most

            llm.chat_stream({**body, **more}, receive)
            return came

        whole = llm.chat(body)
        *parts, usage = pieces(99, stream_options={"include_usage": True})
        deltas = [part["choices"][0]["delta"] for part in parts]
        assert "".join(delta.get("content") or "" for delta in deltas) == whole["choices"][0]["message"]["content"]
        assert [place for place, delta in enumerate(deltas) if "role" in delta] == [0]
        assert parts[-1]["choices"][0]["finish_reason"] == "length"
        assert (usage["choices"], usage["usage"]["completion_tokens"], usage["model"]) == ([], 12, MODEL.stem)
        assert len(pieces(2)) == 2
        (refused,) = pieces(99, messages=[{"role": "user", "content": "word " * 3000}])
        assert (refused["error"]["code"], refused["error"]["type"]) == (400, "exceed_context_size_error")
        (wrong,) = pieces(99, messages=[{"role": "user"}])
        assert wrong["error"]["code"] == 400

    def test_the_context_is_capped_at_what_the_model_was_trained_with(self) -> None:
        with EmbeddedLLM(MODEL, context_tokens=100_000, parallel=1, name="small") as llm:
            assert llm.context_tokens == 8192
            assert repr(llm) == "EmbeddedLLM('small', context_tokens=8192)"

    def test_a_closed_model_says_so(self) -> None:
        llm = EmbeddedLLM(MODEL, context_tokens=256)
        llm.close()
        llm.close()
        with pytest.raises(ModelUnavailable, match="was closed"):
            ask(llm, "Hello")

    def test_closing_ends_what_is_being_written_so_that_a_process_can_end(self) -> None:
        llm = EmbeddedLLM(MODEL, context_tokens=4096)
        closed = 0  # how many times: once it is, no more chunks come

        def receive(_: dict[str, Any]) -> bool:
            nonlocal closed
            if llm._busy:  # the other one runs, too
                llm.close()
                closed += 1
            return False

        body = {"messages": [{"role": "user", "content": "Tell a long story."}], "max_tokens": 100_000}
        with ThreadPoolExecutor() as pool:
            remembering = pool.submit(ask, llm, "Tell a long story.", max_tokens=100_000)
            llm.chat_stream(body, receive)
            with pytest.raises(ModelUnavailable, match="in the middle of a reply"):
                remembering.result(60)
        assert closed == 1

    def test_adapters_act_on_their_own_steps_only(self, llm: EmbeddedLLM, tmp_path: Path) -> None:
        zero = write_lora(tmp_path / "zero.gguf")
        strong = write_lora(tmp_path / "strong.gguf", b=0.5)
        base = ask(llm, "Ann has a dog.")
        with EmbeddedLLM(MODEL, adapters={"manage": zero, "answer": strong}, context_tokens=512) as adapted:
            plain, nothing, changed, again = (
                ask(adapted, "Ann has a dog.", step=step) for step in ("extract", "manage", "answer", "extract")
            )
        assert (plain.text, plain.logprobs) == (base.text, base.logprobs) == (again.text, again.logprobs)
        assert (nothing.text, nothing.adapter) == (base.text, "zero.gguf")
        assert changed.logprobs != base.logprobs
        assert (plain.adapter, changed.adapter) == (None, "strong.gguf")

    @pytest.mark.parametrize(
        ("wrong", "says"), [({"architecture": "qwen2"}, "architecture qwen2"), ({"width": 64}, r"\(64, 1\)")]
    )
    def test_an_adapter_of_another_base_is_refused(self, tmp_path: Path, wrong: dict[str, Any], says: str) -> None:
        adapter = write_lora(tmp_path / "other.gguf", **wrong)
        with pytest.raises(AdapterMismatch, match=rf"other\.gguf does not fit .*{MODEL.name}: .*{says}"):
            EmbeddedLLM(MODEL, adapters={"manage": adapter})

    def test_loading_and_asking_print_nothing_and_open_no_port(self) -> None:
        code = _script(
            "print(llm.complete([prompt])[0].completion_tokens, os.path.exists(llm._server.listening_address[7:]))"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=True)
        assert (done.stdout, done.stderr) == ("4 False\n" if os.name == "posix" else done.stdout, "")

    @pytest.mark.skipif(os.name != "posix", reason="sends a signal to one process")
    def test_ctrl_c_ends_a_long_reply_at_once(self) -> None:
        code = _script(
            "threading.Timer(1, os.kill, (os.getpid(), signal.SIGINT)).start()",
            "try: llm.complete([replace(prompt, max_tokens=100000)])",
            "except KeyboardInterrupt: print('interrupted')",
            "llm.close()",
        )
        start = time.monotonic()
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=True)
        assert (done.stdout, done.stderr) == ("interrupted\n", "")
        assert time.monotonic() - start < 60


def _script(*lines: str) -> str:
    return "\n".join(
        [
            "import os, signal, threading",
            "from dataclasses import replace",
            "from memory_r1.llm.embedded import EmbeddedLLM",
            "from memory_r1.types import Message, Prompt",
            "prompt = Prompt('extract', (Message('user', 'Tell a long story.'),), max_tokens=4)",
            f"llm = EmbeddedLLM({str(MODEL)!r}, context_tokens=4096)",
            *lines,
        ]
    )


@real[0]
@real[1]
def test_a_model_that_was_opened_and_never_asked_closes() -> None:
    opened = f"EmbeddedLLM({str(MODEL)!r}, context_tokens=64)"
    code = f"from memory_r1.llm.embedded import EmbeddedLLM\nfor _ in range(5): {opened}.close()"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
