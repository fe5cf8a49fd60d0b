"""The inspector page in a real browser, on a real server: what people see, press and are told.

The browser is the one that MEMORY_R1_CHROMIUM names, or one on the PATH; where there is none, these tests are skipped.
"""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright
from serving import listening, serving

from memory_r1 import Memory
from memory_r1.bank import NewEntry
from memory_r1.serve.app import Settings, create_app
from memory_r1.serve.keys import Keys
from memory_r1.serve.pages import PAGES
from memory_r1.serve.training import Runs
from memory_r1.testing import HashEmbedder, ScriptedLLM
from memory_r1.train.shown import RunsFolder
from memory_r1.types import Prompt, Reply, Scope

VARIABLE = "MEMORY_R1_CHROMIUM"
FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
)
VIEWS = ("memories", "timeline", "ask", "add", "audit", "training")
MARKUP = "<script>window.hacked = 1</script> <img src=x onerror='window.hacked = 2'> & <b>bold</b>"
PATIENCE = 30_000.0  # milliseconds that anything may take on a busy machine

expect.set_options(timeout=PATIENCE)


def browser_file() -> str | None:
    named = os.environ.get(VARIABLE)
    return named or next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    file = browser_file()
    if file is None:
        pytest.skip(f"no Chromium: install one, or name it in {VARIABLE}")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=file, args=list(FLAGS))
        yield browser
        browser.close()


def decide(prompt: Prompt) -> str | Reply:
    """A model that takes each sentence for a fact, updates when there is a second dog, and knows of dogs only."""
    told = prompt.messages[-1].content
    if prompt.step == "extract":
        return json.dumps(
            {"facts": [f"{part.strip()}." for part in told.partition(": ")[2].split(".") if part.strip()]}
        )
    if prompt.step == "manage":
        if "second dog" in told.rpartition("New fact:")[2]:
            text = '{"operation": "UPDATE", "index": 1, "text": "Mia has two dogs, Biscuit and Pepper."}'
            return Reply(text, logprobs=[math.log(0.8)], model="scripted")
        return Reply('{"operation": "ADD"}', logprobs=[math.log(0.5)], model="scripted")
    if "dog" in told.rpartition("Question:")[2]:
        return '{"keep": [1], "answer": "Biscuit and Pepper"}'
    return '{"keep": [], "answer": "unknown"}'


class Visit:
    """A page of the inspector, and what must not happen on it: errors, and requests to anybody else."""

    def __init__(self, page: Page, url: str, memory: Memory) -> None:
        self.page, self.url, self.memory = page, url, memory
        self.errors: list[str] = []
        self.asked: list[str] = []
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("console", lambda message: self.errors.append(message.text) if message.type == "error" else None)
        page.context.on("request", lambda request: self.asked.append(request.url))

    def open(self, view: str = "memories") -> Page:
        self.page.goto(f"{self.url}/inspector#/{view}")
        return self.page

    def check(self, *expected: str) -> None:
        """`expected`: statuses of refusals that the browser may have told of on its console."""
        told = [error for error in self.errors if not any(f"status of {status}" in error for status in expected)]
        assert told == []
        assert [url for url in self.asked if not url.startswith(f"{self.url}/")] == []


@contextmanager
def visiting(
    browser: Browser,
    memory: Memory,
    *,
    keys: Keys | None = None,
    runs: Runs | None = None,
    refused: tuple[str, ...] = (),
    **how: Any,
) -> Iterator[Visit]:
    with memory, listening(create_app(memory, keys or Keys(), runs=runs)) as url:
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 800}, "locale": "en-GB"} | how)
        context.set_default_timeout(PATIENCE)
        visit = Visit(context.new_page(), url, memory)
        try:
            yield visit
        finally:
            context.close()
        visit.check(*refused)


def made(*texts: str, script: Any = decide, metadata: Mapping[str, Any] | None = None, user: str = "mia") -> Memory:
    memory = Memory(":memory:", llm=ScriptedLLM(script), embedder=HashEmbedder())
    if texts:
        memory.bank.add_many([NewEntry(text, Scope(user_id=user), metadata=metadata) for text in texts])
    return memory


def texts(page: Page) -> list[str]:
    return page.locator("#memory-list .text").all_text_contents()


# -- what people do ----------------------------------------------------------------------------------------------------


def test_the_first_memory_of_an_empty_bank_is_added_by_hand(browser: Browser) -> None:
    with visiting(browser, made()) as visit:
        page = visit.open()
        page.get_by_role("link", name="Add the first memory").click()
        page.get_by_label("User", exact=True).fill("mia")
        page.get_by_label("What was said").fill("Mia likes tea.")
        page.get_by_role("button", name="Remember").click()
        expect(page.locator(".result .notice")).to_contain_text("Done: 1 ADD.")
        expect(page.locator("#scope-name")).to_have_text("mia")
        page.get_by_role("link", name="Memories").click()
        expect(page.locator("#memory-list .text")).to_have_text(["Mia likes tea."])
        assert [entry.text for entry in visit.memory.bank.all(Scope(user_id="mia"))] == ["Mia likes tea."]


def test_operations_of_a_long_add_show_while_it_runs(browser: Browser) -> None:
    seen = threading.Event()

    def waiting(prompt: Prompt) -> str | Reply:
        if prompt.step == "extract" and "Zurich" in prompt.messages[-1].content:
            assert seen.wait(30), "the first operation did not show before the second message was read"
        return decide(prompt)

    with visiting(browser, made("Mia likes tea.", script=waiting)) as visit:
        page = visit.open("add")
        page.get_by_label("What was said").fill("Mia has a dog.\n\nAna: I live in Zurich.")
        page.get_by_label("What was said").press("Control+Enter")
        expect(page.locator(".result .operation")).to_have_count(1)
        expect(page.locator(".result .loading")).to_contain_text("Reading 2 messages")
        seen.set()
        expect(page.locator(".result .operation")).to_have_count(2)
        expect(page.locator(".result .notice")).to_contain_text("Done: 2 ADD.")
        assert [entry.speaker for entry in visit.memory.bank.all(Scope(user_id="mia"))] == [None, "user", "Ana"]


def test_a_dry_run_tells_and_changes_nothing(browser: Browser) -> None:
    with visiting(browser, made("Mia likes tea.")) as visit:
        page = visit.open("add")
        page.get_by_label("What was said").fill("Mia has a dog.")
        page.get_by_label("Only show what would happen").check()
        page.get_by_role("button", name="Remember").click()
        expect(page.locator(".result .notice")).to_contain_text("Nothing was changed. It would be: 1 ADD.")
        assert visit.memory.bank.count() == 1


def test_an_update_shows_its_difference_and_confidence_and_is_undone_by_one_click(browser: Browser) -> None:
    memory = made()
    memory.add("Mia has a dog, Biscuit.", user_id="mia")
    memory.add("Mia has a second dog, Pepper.", user_id="mia")
    with visiting(browser, memory) as visit:
        page = visit.open("timeline")
        first = page.locator(".operation").first
        expect(first.locator(".kind")).to_have_text("UPDATE")
        expect(first.locator(".confidence")).to_have_text("80 % sure")
        expect(first.locator("del")).to_have_text(["a dog"])
        assert first.locator("ins").all_inner_texts() == ["two dogs", " and Pepper"]
        first.get_by_role("button", name="Undo").click()
        expect(page.locator(".toast")).to_contain_text("Operation 2 is undone. It says again: Mia has a dog, Biscuit.")
        expect(page.locator(".operation")).to_have_count(3)
        expect(page.locator(".operation").nth(0)).to_contain_text("undoes #2")
        expect(page.locator(".operation").nth(1)).to_contain_text("undone by #3")
        assert [entry.text for entry in memory.bank.all(Scope(user_id="mia"))] == ["Mia has a dog, Biscuit."]
        page.locator(".toast").get_by_role("button", name="Redo").click()
        expect(page.locator(".operation")).to_have_count(4)
        assert [entry.text for entry in memory.bank.all(Scope(user_id="mia"))] == [
            "Mia has two dogs, Biscuit and Pepper."
        ]


def test_what_was_changed_since_is_not_undone_and_says_why(browser: Browser) -> None:
    memory = made("Mia likes tea.")
    (entry,) = memory.bank.all(Scope(user_id="mia"))
    memory.update(entry.id, text="Mia likes green tea.")
    with visiting(browser, memory, refused=("409",)) as visit:
        page = visit.open("timeline")
        page.locator(".operation", has_text="added").get_by_role("button", name="Undo").click()
        told = page.locator(".operation .problem")
        expect(told).to_contain_text("changed since, so this was not undone")
        expect(told).to_contain_text("undo first: 2")


def test_an_entry_is_found_changed_and_deleted_and_its_history_tells(browser: Browser) -> None:
    with visiting(browser, made("Mia likes tea.", "Mia has a dog.", "Tom plays chess.")) as visit:
        page = visit.open()
        expect(page.locator("#memory-list .row")).to_have_count(3)
        assert texts(page) == ["Tom plays chess.", "Mia has a dog.", "Mia likes tea."]
        page.get_by_label("Search the memories").fill("tea")
        expect(page.locator("#memory-list .text").first).to_have_text("Mia likes tea.")
        page.locator("#memory-list a").first.click()
        detail = page.locator(".detail")
        expect(detail.locator(".whole")).to_have_text("Mia likes tea.")
        detail.get_by_role("button", name="Edit").click()
        detail.get_by_label("The memory's text").fill("Mia likes green tea.")
        detail.get_by_role("button", name="Save").click()
        expect(detail.locator(".operation")).to_have_count(2)
        expect(detail.locator("ins")).to_have_text(["green ", "Mia likes tea."])
        detail.get_by_role("button", name="Delete").click()
        expect(detail).to_contain_text("This memory was removed")
        assert visit.memory.bank.count() == 2
        page.locator(".toast").get_by_role("button", name="Undo").click()
        expect(detail.locator(".operation")).to_have_count(4)
        expect(detail.locator(".whole")).to_have_text("Mia likes green tea.")


def test_filters_by_metadata_and_by_time(browser: Browser) -> None:
    memory = made("Mia likes tea.", metadata={"topic": "food", "n": 5, "quarantined": True})
    memory.bank.add_many([NewEntry("Mia has a dog.", Scope(user_id="mia"), metadata={"topic": "pets", "n": 7})])
    with visiting(browser, memory) as visit:
        page = visit.open()
        expect(page.locator("#memory-list .row")).to_have_count(2)
        expect(page.locator("#memory-list .chip.warn")).to_have_text("quarantined")
        page.get_by_text("Filters", exact=True).click()
        page.get_by_label("Value").fill("pets")
        page.get_by_role("button", name="Add filter").click()
        expect(page.locator("#memory-list .text")).to_have_text(["Mia has a dog."])
        page.get_by_role("button", name="Remove the filter topic is pets").click()
        expect(page.locator("#memory-list .row")).to_have_count(2)
        page.get_by_label("Field").fill("n")
        page.get_by_label("Condition").select_option("at most")
        page.get_by_label("Value").fill("5")
        page.get_by_role("button", name="Add filter").click()
        expect(page.locator("#memory-list .text")).to_have_text(["Mia likes tea."])
        page.locator("#memory-list a").click()
        page.locator(".detail").get_by_role("button", name="n: 5").click()
        expect(page.locator(".chips .on")).to_have_count(2)
        page.get_by_label("As it was on").fill("2020-01-01T10:00")
        expect(page.locator(".more .empty")).to_contain_text("Nothing found")
        page.get_by_role("button", name="Show all").click()
        expect(page.locator("#memory-list .row")).to_have_count(2)


def test_a_question_shows_what_was_retrieved_kept_and_answered(browser: Browser) -> None:
    with visiting(browser, made("Mia has two dogs, Biscuit and Pepper.", "Mia likes tea.")) as visit:
        page = visit.open("ask")
        page.get_by_label("Question").fill("What are the dogs called?")
        page.get_by_label("Question").press("Enter")
        expect(page.locator(".said")).to_have_text("Biscuit and Pepper")
        expect(page.locator(".kept .text")).to_have_text(["Mia has two dogs, Biscuit and Pepper."])
        expect(page.get_by_role("heading", name="Retrieved: 2 memories")).to_be_visible()
        expect(page.locator(".tag.kept")).to_have_count(1)
        page.get_by_label("Question").fill("How tall is she?")
        page.get_by_label("Question").press("Enter")
        expect(page.locator(".answer.unknown")).to_contain_text("None of the memories below told it.")


def test_the_audit_shows_pairs_side_by_side(browser: Browser) -> None:
    with visiting(browser, made("Mia likes tea.", "Mia likes tea.")) as visit:
        page = visit.open("audit")
        pair = page.locator(".findings", has_text="duplicate")
        expect(pair.locator(".text")).to_have_text(["Mia likes tea."] * 2)
        expect(pair.locator(".count")).to_have_text("1")


def test_a_bank_of_many_is_read_page_by_page(browser: Browser) -> None:
    with visiting(browser, made(*(f"Memory number {n}." for n in range(120)))) as visit:
        page = visit.open()
        expect(page.locator("#memory-list .row")).to_have_count(50)
        expect(page.locator(".side > [role=status]")).to_have_text("50 of 120 memories, newest first")
        page.keyboard.press("n")
        expect(page.locator("#memory-list .row")).to_have_count(100)
        page.get_by_role("button", name="Show 50 more").click()
        expect(page.locator("#memory-list .row")).to_have_count(120)
        assert texts(page) == [f"Memory number {n}." for n in reversed(range(120))]


def test_everything_is_done_by_keys(browser: Browser) -> None:
    with visiting(browser, made("Mia likes tea.", "Mia has a dog.")) as visit:
        page = visit.open()
        expect(page.locator("#memory-list .row")).to_have_count(2)
        page.keyboard.press("j")
        page.keyboard.press("ArrowDown")
        expect(page.locator("#memory-list a:focus .text")).to_have_text("Mia likes tea.")
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
        page.keyboard.press("k")
        page.keyboard.press("Enter")
        expect(page.locator(".detail .whole")).to_have_text("Mia has a dog.")
        page.keyboard.press("Escape")
        expect(page.locator(".detail")).to_contain_text("Choose a memory")
        page.keyboard.press("/")
        page.keyboard.type("tea u j 2")  # letters in a field are letters
        expect(page.get_by_label("Search the memories")).to_have_value("tea u j 2")
        page.keyboard.press("Escape")
        page.keyboard.press("2")
        expect(page.locator(".operation")).to_have_count(2)
        assert page.evaluate("getComputedStyle(document.querySelector('main:focus')).outlineStyle") == "none"
        page.keyboard.press("j")
        page.keyboard.press("u")
        expect(page.locator(".toast")).to_contain_text("is undone. It is gone again: Mia has a dog.")
        page.keyboard.press("?")
        expect(page.get_by_role("dialog", name="Keys")).to_be_visible()
        page.keyboard.press("Escape")
        page.keyboard.press("s")
        expect(page.get_by_role("dialog", name="Whose memory?")).to_be_visible()
        page.keyboard.press("Escape")
        page.keyboard.press("a")
        page.keyboard.type("Hello")
        expect(page.get_by_label("What was said")).to_have_value("Hello")


def test_a_key_that_is_pressed_right_after_another_acts_on_what_that_one_opened(browser: Browser) -> None:
    with visiting(browser, made("Mia likes tea.")) as visit:
        page = visit.open()
        expect(page.locator("#memory-list .row")).to_have_count(1)
        assert page.evaluate(AT_ONCE, ["3", "/"]) == "question"
        page.keyboard.press("Escape")
        assert page.evaluate(AT_ONCE, ["2", "a"]) == "new-text"
        page.keyboard.press("Escape")
        assert page.evaluate(AT_ONCE, ["2", "/"]) == "search"


AT_ONCE = """(keys) => {
  for (const key of keys) document.activeElement.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
  return document.activeElement.id;
}"""


@pytest.mark.parametrize("closing", ["Escape", "the button", "a click beside it"])
def test_keys_go_on_after_a_dialog_where_they_were_though_the_page_was_drawn_anew_below_it(
    browser: Browser, closing: str
) -> None:
    memory = made("Mia likes tea.", "Mia has a dog.")
    with visiting(browser, memory) as visit:
        page = visit.open("timeline")
        expect(page.locator(".operation")).to_have_count(2)
        page.keyboard.press("j")
        page.keyboard.press("s")
        expect(page.get_by_role("dialog", name="Whose memory?")).to_be_visible()
        memory.add("Tea is hot.", user_id="mia", infer=False)
        page.locator("[data-refresh]").dispatch_event("click")
        expect(page.locator(".operation")).to_have_count(3)
        if closing == "Escape":
            page.keyboard.press("Escape")
        elif closing == "the button":
            page.get_by_role("button", name="Close").click()
        else:
            page.mouse.click(5, 5)
        assert page.evaluate("[document.querySelectorAll('dialog').length, document.activeElement.dataset.id]") == [
            0,
            "2",
        ]
        page.keyboard.press("j")
        assert page.evaluate("document.activeElement.dataset.id") == "1"
        page.keyboard.press("a")
        page.keyboard.type("Hello")
        expect(page.get_by_label("What was said")).to_have_value("Hello")


# -- what people trust -------------------------------------------------------------------------------------------------


def test_stored_markup_is_shown_as_text_and_runs_nothing(browser: Browser) -> None:
    memory = made(MARKUP, f"{MARKUP} again", metadata={MARKUP: MARKUP}, user=f"mia {MARKUP}")
    (entry, _) = memory.bank.all(Scope(user_id=f"mia {MARKUP}"))
    memory.update(entry.id, text=f"{MARKUP} changed")
    with visiting(browser, memory) as visit:
        page = visit.open(f"memories/{entry.id}")
        expect(page.locator(".detail .whole")).to_have_text(f"{MARKUP} changed")
        expect(page.locator("#scope-name")).to_have_text(f"mia {MARKUP}")
        for view in ("timeline", "audit", "ask"):
            page.keyboard.press(str(VIEWS.index(view) + 1))
            if view == "ask":
                page.get_by_label("Question").fill(f"dog {MARKUP}")
                page.get_by_label("Question").press("Enter")
            expect(page.get_by_text(MARKUP).locator("visible=true").first).to_be_visible()
        assert page.evaluate("window.hacked") is None
        assert page.locator("main script, main img, main b, dialog script").count() == 0


def test_a_key_is_asked_for_kept_in_the_tab_and_never_in_an_address(browser: Browser) -> None:
    keys = Keys()
    _, secret = keys.create(Scope(user_id="mia"))
    memory = made("Mia likes tea.")
    memory.bank.add_many([NewEntry("Tom likes coffee.", Scope(user_id="tom"))])
    with visiting(browser, memory, keys=keys, refused=("401", "403")) as visit:
        page = visit.open()
        dialog = page.get_by_role("dialog", name="This server needs a key")
        dialog.get_by_label("API key").fill("mr1-wrong")
        dialog.get_by_role("button", name="Open").click()
        expect(dialog.get_by_role("alert")).to_contain_text("unknown or was revoked")
        dialog.get_by_label("API key").fill(secret)
        dialog.get_by_role("button", name="Open").click()
        expect(page.locator("#memory-list .text")).to_have_text(["Mia likes tea."])
        page.reload()
        expect(page.locator("#memory-list .text")).to_have_text(["Mia likes tea."])
        page.keyboard.press("6")
        expect(page.locator(".empty")).to_contain_text("This key cannot see training runs")
        assert page.evaluate("JSON.stringify(localStorage)").count(secret) == 0
        assert page.evaluate("JSON.stringify(sessionStorage)").count(secret) == 1
        assert not any(secret in url for url in [*visit.asked, page.url])


def test_a_server_that_is_gone_is_told_with_what_to_do(browser: Browser) -> None:
    with visiting(browser, made("Mia likes tea."), refused=()) as visit:
        page = visit.open()
        expect(page.locator("#memory-list .row")).to_have_count(1)
        page.route("**/memories?*", lambda route: route.abort())
        page.get_by_role("button", name="Refresh").click()
        expect(page.get_by_role("alert")).to_contain_text("See whether memory-r1 serve is still running")
        page.unroute("**/memories?*")
        page.get_by_role("button", name="Try again").click()
        expect(page.locator("#memory-list .row")).to_have_count(1)
        assert [error for error in visit.errors if "ERR_FAILED" not in error] == []
        visit.errors.clear()


def test_the_pages_files_are_those_that_are_served_and_hold_nothing_of_elsewhere() -> None:
    folder = files("memory_r1.serve") / "inspector"
    names = {file.name for file in folder.iterdir()}
    assert names == {path.removeprefix("/inspector/") for path in PAGES - {"/inspector", "/docs"}} | {
        "index.html",
        "docs.html",
    }
    keys = Keys()
    keys.create(Scope(user_id="mia"))
    with serving(keys=keys) as client:
        assert client.get("/", follow_redirects=False).headers["location"] == "/inspector"
        for path in sorted(PAGES):
            reply = client.get(path)
            assert reply.status_code == 200, path
            assert "script-src 'self';" in reply.headers["content-security-policy"]
            assert "unsafe" not in reply.headers["content-security-policy"]
            text = reply.text.replace("http://www.w3.org/", "")
            assert not re.search(r"https?:|innerHTML|insertAdjacentHTML|document\.write|\son\w+=", text), path
            assert client.get(path, headers={"If-None-Match": reply.headers["etag"]}).status_code == 304
        assert client.get("/inspector/../app.py").status_code in (401, 404)


def test_the_apis_page_describes_every_path(browser: Browser) -> None:
    with visiting(browser, made()) as visit:
        visit.page.goto(f"{visit.url}/docs")
        expect(visit.page.get_by_role("heading", level=1)).to_contain_text("memory-r1")
        api = visit.page.request.get(f"{visit.url}/openapi.json").json()
        methods = sum(len(methods) for methods in api["paths"].values())
        assert visit.page.locator("article.path").count() == methods > 15
        curl = visit.page.locator("#post-memories .curl").inner_text()
        assert (
            """-d '{"messages":[{"content":"I moved to Oslo last week.","role":"user"}],"user_id":"alice"}'""" in curl
        )


# -- how it looks ------------------------------------------------------------------------------------------------------


def test_no_view_scrolls_sideways_on_a_phone(browser: Browser, tmp_path: Path) -> None:
    memory = made("a" * 300, f"Mia likes tea. {MARKUP}", metadata={"a long name of a key " * 4: "and its value " * 9})
    a_run(tmp_path / "a-run-with-a-rather-long-name-of-its-own", steps=30)
    phone = {"viewport": {"width": 360, "height": 740}, "has_touch": True, "is_mobile": True}
    with visiting(browser, memory, runs=RunsFolder(tmp_path), **phone) as visit:
        page = visit.open()
        ready = {"memories": ".row", "timeline": ".operation", "ask": ".empty", "add": "form", "audit": ".findings"}
        for view in VIEWS:
            page.evaluate("view => { location.hash = `#/${view}`; }", view)
            page.locator(f"main {ready.get(view, '.panel svg')}").first.wait_for()
            assert page.evaluate(WIDEST) == [], view
        page.evaluate("location.hash = '#/memories'")
        page.locator("summary", has_text="Filters").click()
        assert page.evaluate(WIDEST) == []
        page.locator("#memory-list a").first.click()
        page.locator(".detail .operation").wait_for()
        assert page.evaluate(WIDEST) == []
        page.get_by_role("link", name="All memories").click()
        expect(page.locator("#memory-list .row")).to_have_count(2)
        page.goto(f"{visit.url}/docs")
        page.locator("article.path").first.wait_for()
        assert page.evaluate(WIDEST) == []


WIDEST = """() => document.documentElement.scrollWidth <= innerWidth ? [] : [...document.querySelectorAll("body *")]
  .filter((node) => node.getBoundingClientRect().right > innerWidth).map((node) => node.outerHTML.slice(0, 100))"""
NAMELESS = """() => [...document.querySelectorAll("a, button, input, select, textarea, summary, svg[role=img], img")]
  .filter((node) => node.offsetParent !== null || node.tagName === "svg")
  .filter((node) => !node.getAttribute("aria-label") && !node.textContent.trim() && !node.labels?.length)
  .filter((node) => !node.hasAttribute("alt"))
  .map((node) => node.outerHTML.slice(0, 120))"""
COLOURS = """(names) => names.map((name) => {
  const text = getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim().slice(1);
  return [...(text.length === 3 ? [...text].map((one) => one + one).join("") : text).matchAll(/../g)].map(
    (pair) => parseInt(pair[0], 16) / 255);
})"""
WRITTEN = [  # (text, what it stands on)
    *(
        ("ink", "page"),
        ("ink", "panel"),
        ("ink", "wash"),
        ("ink", "delete-wash"),
        ("accent", "panel"),
        ("accent", "wash"),
    ),
    *(("soft", "page"), ("soft", "panel"), ("soft", "sunk"), ("on-accent", "accent")),
    *((name, f"{name}-wash") for name in ("add", "update", "delete", "noop", "warn")),
]


def hard_to_read(page: Page) -> list[tuple[str, str, float]]:
    """Texts whose contrast is below WCAG's 4.5, in the colours that hold now."""

    def lightness(colour: list[float]) -> float:
        red, green, blue = (one / 12.92 if one <= 0.03928 else ((one + 0.055) / 1.055) ** 2.4 for one in colour)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    found = []
    for text, ground in WRITTEN:
        low, high = sorted(map(lightness, page.evaluate(COLOURS, [text, ground])))
        if (ratio := (high + 0.05) / (low + 0.05)) < 4.5:
            found.append((text, ground, round(ratio, 2)))
    return found


def test_everything_has_a_name_and_can_be_read_in_light_and_dark(browser: Browser, tmp_path: Path) -> None:
    a_run(tmp_path / "one", steps=3)
    memory = made("Mia likes tea.", "Mia likes tea.", metadata={"topic": "food"})
    with visiting(browser, memory, runs=RunsFolder(tmp_path), color_scheme="dark") as visit:
        page = visit.open()
        page.locator(".row").first.wait_for()
        page.locator("#memory-list a").first.click()
        page.locator(".detail .operation").wait_for()
        page.locator("summary", has_text="Filters").click()
        ready = {"timeline": ".operation", "ask": ".empty", "add": "form", "audit": ".findings"}
        for view in VIEWS:
            page.keyboard.press(str(VIEWS.index(view) + 1))
            page.locator(f"main {ready.get(view, '.row, .panel svg')}").first.wait_for()
            assert page.evaluate(NAMELESS) == [], view
        ids = page.evaluate("[...document.querySelectorAll('[id]')].map((node) => node.id)")
        assert len(ids) == len(set(ids))
        dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert hard_to_read(page) == []
        page.get_by_role("button", name="Light or dark").click()
        assert hard_to_read(page) == []
        light = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (dark, light) == ("rgb(18, 21, 24)", "rgb(251, 251, 252)")
        page.reload()
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == light


# -- training ----------------------------------------------------------------------------------------------------------


def a_run(folder: Path, steps: int) -> None:
    folder.mkdir()
    config = {"agent": "manager", "algo": "grpo", "model": "smollm2", "steps": 100}
    (folder / "config.json").write_text(json.dumps({"config": config, "date": "2026-11-20T10:00:00+00:00"}))
    rows = [
        {"step": step, "reward": step / 100, "kl": 0.01, "operations/ADD": 0.75, "operations/NOOP": 0.25, "loss": None}
        for step in range(1, steps + 1)
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_training_runs_show_their_curves(browser: Browser, tmp_path: Path) -> None:
    a_run(tmp_path / "first", steps=50)
    a_run(tmp_path / "second", steps=20)
    with visiting(browser, made(), runs=RunsFolder(tmp_path)) as visit:
        page = visit.open("training")
        expect(page.locator(".run")).to_have_count(2)
        expect(page.locator(".run").first).to_contain_text("20 of 100 steps · reward 0.155 · 20 Nov 2026")
        expect(page.locator("figcaption")).to_have_text(["reward", "KL", "operations"])
        name = "reward: reward from 0.01 at step 1 to 0.2 at step 20"
        expect(page.locator(".panel svg[role=img]").first).to_have_attribute("aria-label", name)
        assert page.locator(".panel").nth(2).locator("path.line").count() == 2
        page.get_by_role("checkbox", name=re.compile("first")).check()
        expect(page.locator(".panel").first.locator("path.line")).to_have_count(2)


def test_without_a_folder_the_page_says_how_to_show_runs(browser: Browser) -> None:
    with visiting(browser, made("Mia likes tea."), refused=("404",)) as visit:
        expect(visit.open("training").locator(".empty")).to_contain_text("memory-r1 serve --runs runs")


def test_the_curves_of_runs_need_a_key_for_everybody(tmp_path: Path) -> None:
    a_run(tmp_path / "first", steps=5)
    keys = Keys()
    _, anns = keys.create(Scope(user_id="ann"))
    _, everybodys = keys.create(None)
    memory = Memory(":memory:", embedder=HashEmbedder())
    app = create_app(memory, keys, runs=RunsFolder(tmp_path), settings=Settings())
    with memory, listening(app) as url:

        def asked(path: str, key: str) -> tuple[int, Any]:
            reply = httpx.get(f"{url}{path}", headers={"X-API-Key": key})
            return reply.status_code, reply.json().get("error", {}).get("code")

        for path in ("/runs", "/runs/first"):
            assert asked(path, anns) == (403, "other_scope")
            assert asked(path, everybodys) == (200, None)
        assert asked("/runs/none", everybodys) == (404, "not_found")
