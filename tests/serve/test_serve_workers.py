"""Who waits for whom: one user's adds take one slow thread, however many they are."""

from __future__ import annotations

import asyncio
import threading

import pytest

from memory_r1.serve.refusals import Refusal
from memory_r1.serve.service import Workers
from memory_r1.types import Scope


def test_one_users_adds_wait_for_each_other_and_for_nobody_else() -> None:
    async def use() -> tuple[list[int], list[str]]:
        workers, go = Workers(slow=2, most_waiting=3), threading.Event()
        done: list[int] = []

        def add(number: int) -> None:
            assert go.wait(20)
            done.append(number)

        adds = [asyncio.create_task(workers.in_turn(Scope("ann", run_id=f"r{n}"), add, n)) for n in range(4)]
        await asyncio.sleep(0)
        answers = [await workers.in_turn(Scope("bob"), lambda: "bob's"), await workers.slow(lambda: "an answer")]
        with pytest.raises(Refusal) as refused:
            await workers.in_turn(Scope("ann"), add, 5)
        assert refused.value.status_code == 503
        go.set()
        await asyncio.gather(*adds)
        await workers.in_turn(Scope("ann"), add, 6)
        return done, answers

    assert asyncio.run(use()) == ([0, 1, 2, 3, 6], ["bob's", "an answer"])


def test_who_gives_up_waiting_holds_up_nobody() -> None:
    async def use() -> str:
        workers, go = Workers(), threading.Event()
        first = asyncio.create_task(workers.in_turn(Scope("ann"), go.wait, 20))
        await asyncio.sleep(0.01)
        second = asyncio.create_task(workers.in_turn(Scope("ann"), lambda: "never"))
        await asyncio.sleep(0.01)
        second.cancel()
        go.set()
        await first
        return await workers.in_turn(Scope("ann"), lambda: "next")

    assert asyncio.run(use()) == "next"
