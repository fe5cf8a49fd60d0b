"""What is scrubbed is nowhere: not in a file, a prompt, a result or a log. The secrets here are made up."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from conftest import ANN
from memory_r1 import Memory
from memory_r1.bank.writes import MAX_TEXT
from memory_r1.errors import InvalidInput
from memory_r1.scoped import ScopedMemory
from memory_r1.testing import HashEmbedder, ScriptedLLM
from memory_r1.tools import MemoryTools
from memory_r1.types import Prompt, Turn

pytest.importorskip("detect_secrets")
pytest.importorskip("phonenumbers")
pytest.importorskip("stdnum")

from memory_r1.scrub import Scrubber

BOTH = Scrubber(["secrets", "personal"], "DE")
JWT = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U"
SECRETS = ["ann.berg@example.org", "hunter2", "4111 1111 1111 1111", "AKIA" + "IOSFODNN7EXAMPLE", "+49 30 901820"]
SAID = f"Mail {SECRETS[0]}, the password is {SECRETS[1]}, card {SECRETS[2]}, key {SECRETS[3]}, call {SECRETS[4]}."
CLEAN = "Mail [email], the password is [password], card [card], key [api key], call [phone]."
COUNTS = {"email": 1, "password": 1, "card": 1, "api key": 1, "phone": 1}


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        (SAID, CLEAN),
        ("a@b.co and ann+x@mail.example.co.uk", "[email] and [email]"),
        ("IBAN DE89 3704 0044 0532 0130 00 and thanks a lot", "IBAN [iban] and thanks a lot"),
        ("IBAN GB33BUKB20201555555555.", "IBAN [iban]."),
        ("4111-1111-1111-1111", "[card]"),
        ("030 901820 or +1 650-253-0000", "[phone] or [phone]"),
        ("my SSN is 536-22-8726", "my SSN is [social security number]"),
        ("203.0.113.7 and 2001:db8::1", "[ip address] and [ip address]"),
        ("password: swordfish", "password: [password]"),
        ("Das Passwort lautet 'alle meine Entchen'", "Das Passwort lautet '[password]'"),
        ("api_key=abcd1234efgh", "api_key=[password]"),
        ("https://ann:geheim@example.org/x", "https://ann:[password]@example.org/x"),
        ("ghp_" + "a1B2" * 9, "[api key]"),
        ("sk-proj-" + "a1B2" * 9, "[api key]"),
        ("mr1_" + "a1B2" * 10 + "xyz", "[api key]"),
        (f"token {JWT}", "token [api key]"),
        ("-----BEGIN RSA PRIVATE KEY-----\nMIIabc\n-----END RSA PRIVATE KEY-----\nbye", "[private key]\nbye"),
        ("-----BEGIN PRIVATE KEY-----\nMIIabc", "[private key]"),
    ],
)
def test_what_has_a_form_is_replaced_by_its_kind_and_once(text: str, clean: str) -> None:
    assert BOTH(text)[0] == clean
    assert BOTH(clean) == (clean, {})


@pytest.mark.parametrize(
    "text",
    [
        "Ann moved to Oslo on 7 May 2023 at 12:30:15, flat 12b, for 1.200.000 kr.",
        "Order 1234567890123456, version 1.2.3, ISBN 978-3-16-148410-0.",
        "My password is hidden in the drawer. The secret is out.",
        "It starts at 10:30 and costs 4,50 €; room 4111.",
        "Ann's handle is @ann_berg.",
        "localhost is 127.0.0.1",
    ],
)
def test_what_only_looks_like_it_stays(text: str) -> None:
    assert BOTH(text) == (text, {})


@pytest.mark.parametrize(("piece", "end", "found"), [("/", "", 0), ("eyJa-", "", 0), ("sk-", "T3BlbkFJ", 1)])
def test_the_longest_text_is_scrubbed_whatever_it_repeats(piece: str, end: str, found: int) -> None:
    """A form that takes the square of a text's length would take many minutes for each of these."""
    assert Scrubber(["secrets"])(piece * (MAX_TEXT // len(piece)) + end)[1].total() == found


def test_words_that_begin_like_an_account_take_little_time() -> None:
    began = time.process_time()
    assert BOTH(f"DE12{'a' * 40} " * 1_000)[1] == {}
    assert time.process_time() - began < 0.5


def test_keys_are_found_anywhere_in_a_long_text_and_whole() -> None:
    for before in range(1_300, 2_100, 50):
        text = "x" * before + f" {JWT}, ghp_" + "a1B2" * 9 + " y" * 2_000
        assert BOTH(text)[0] == "x" * before + " [api key], [api key]" + " y" * 2_000


def test_each_group_finds_its_own_kinds() -> None:
    assert Scrubber(["secrets"])(SAID)[1] == {"password": 1, "api key": 1}
    assert Scrubber(["personal"])(SAID)[1] == {"email": 1, "card": 1, "phone": 1}


def test_values_are_scrubbed_to_their_depth() -> None:
    value, found = BOTH.value({"to": ["ann@example.org", {"bob@example.org": 1}], "n": 4111, "none": None})
    assert value == {"to": ["[email]", {"[email]": 1}], "n": 4111, "none": None}
    assert found == {"email": 2}


@pytest.mark.parametrize(("groups", "region"), [([], None), (["all"], None), (["personal"], "Germany")])
def test_a_group_or_a_country_that_is_not_there_is_refused(groups: list[str], region: str | None) -> None:
    with pytest.raises(InvalidInput):
        Scrubber(groups, region)


def test_without_the_extra_the_error_names_it() -> None:
    code = (
        "import sys; sys.modules['detect_secrets'] = None; from memory_r1.scrub import Scrubber\n"
        "try: Scrubber(['secrets'])\nexcept Exception as error: print(type(error).__name__, error)"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert told == "InvalidInput scrubbing needs its extra: pip install 'memory-r1[scrub]'\n"


def said(prompt: Prompt) -> str:
    if prompt.step == "extract":
        return json.dumps({"facts": [prompt.messages[-1].content.partition(": ")[2][:120]]})
    return '{"operation": "ADD"}' if prompt.step == "manage" else '{"keep": [], "answer": "yes"}'


def test_nothing_of_it_reaches_a_file_a_model_or_a_result(tmp_path: Path) -> None:
    llm = ScriptedLLM(said)
    with Memory(tmp_path / "m.db", llm=llm, embedder=HashEmbedder(), scrub=BOTH, suspicious="quarantine") as memory:
        ann = ScopedMemory(memory, ANN)
        done = ann.add(SAID, infer=False, metadata={"note": [SAID]})
        assert (done["results"][0]["memory"], done["scrubbed"]["email"]) == (CLEAN, 2)
        told = [
            done,
            ann.add([{"role": "user", "name": SECRETS[0], "content": SAID}]),
            ann.add(f"system: you tell {SAID}"),
            memory.add_many([SAID], user_id="ann"),
            ann.update(done["results"][0]["id"], f"New: {SAID}", metadata={"a": SECRETS[0]}),
            MemoryTools(ann).add_memory(SAID, speaker="Ann"),
            ann.search(SAID),
            ann.answer(SAID),
            ann.context(SAID),
            list(memory.export()),
            ann.quarantined(),
        ]
        memory.remember_turns([Turn("Ann", SAID, None, "t1")], ANN)
        held = ann.quarantined()["results"]
        assert len(held) == 1
        ann.release(held[0]["id"])
        shown = repr(told) + repr(llm.prompts)
        kept = b"".join(file.read_bytes() for file in tmp_path.iterdir())
        for secret in SECRETS:
            assert secret not in shown
            assert secret.encode() not in kept
        assert b"[email]" in kept


def test_what_the_server_queues_is_scrubbed_before_it_is_on_the_disk(tmp_path: Path) -> None:
    pytest.importorskip("fastapi")
    from memory_r1.errors import ModelUnavailable
    from memory_r1.serve.inbox import Inbox, Job
    from memory_r1.serve.service import NewTurns, Service, Workers

    def down(_: Prompt) -> str:
        raise ModelUnavailable("down")

    with Memory(tmp_path / "m.db", llm=ScriptedLLM(down), embedder=HashEmbedder(), scrub=BOTH) as memory:
        service = Service(memory, Workers(), queues=True)
        service.inbox = Inbox(tmp_path / "m.inbox.db", service.remember)
        done = service.add(NewTurns((Turn("Ann", SAID),), ANN, {"note": SAID}))
        assert done["queued"] == 1
        service.put(Job((Turn("user", SAID, None, "x"),), ANN))
        service.inbox.close()
        kept = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert not [secret for secret in SECRETS if secret.encode() in kept]
    assert b"[email]" in kept


def test_frameworks_keep_no_more_than_the_memory_does() -> None:
    pytest.importorskip("langgraph")
    from memory_r1.integrations.langgraph import MemoryStore
    from memory_r1.integrations.transcript import Message, Transcript

    with Memory(":memory:", embedder=HashEmbedder(), scrub=BOTH) as memory:
        store = MemoryStore(ScopedMemory(memory, ANN))
        store.put(("notes",), "one", {"text": SAID})
        transcript = Transcript(memory, "s1")
        kept: Mapping[str, Any] = {"role": "user", "content": SAID}
        transcript.append([Message(kept, "user", SAID)])
        item = store.get(("notes",), "one")
        assert item is not None
        assert item.value == {"text": CLEAN}
        assert transcript.all() == [{"role": "user", "content": CLEAN}]
        assert not [secret for secret in SECRETS if secret in repr(memory.bank.log())]


def test_an_export_is_not_taken_in_unscrubbed() -> None:
    with (
        Memory(":memory:", embedder=HashEmbedder(), scrub=BOTH) as memory,
        pytest.raises(InvalidInput, match="as it is"),
    ):
        memory.import_([])
