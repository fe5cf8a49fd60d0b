"""Memory for async code."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

from memory_r1.memory import Memory

P = ParamSpec("P")
T = TypeVar("T")


def _awaited(method: Callable[Concatenate[Memory, P], T]) -> Callable[Concatenate[AsyncMemory, P], Awaitable[T]]:
    async def call(self: AsyncMemory, /, *args: P.args, **kwargs: P.kwargs) -> T:
        import asyncio  # see flow.arun

        return await asyncio.to_thread(method, self.memory, *args, **kwargs)

    call.__doc__ = method.__doc__
    call.__name__ = method.__name__
    return call


class AsyncMemory:
    """Memory for async code: the same methods, awaited; each runs in a worker thread."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.memory = Memory(*args, **kwargs)

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        made = cls.__new__(cls)
        made.memory = Memory.from_config(config)
        return made

    add = _awaited(Memory.add)
    add_many = _awaited(Memory.add_many)
    scrubbed = _awaited(Memory.scrubbed)
    remember_turns = _awaited(Memory.remember_turns)
    update = _awaited(Memory.update)
    delete = _awaited(Memory.delete)
    delete_all = _awaited(Memory.delete_all)
    undo = _awaited(Memory.undo)
    purge = _awaited(Memory.purge)
    reset = _awaited(Memory.reset)
    search = _awaited(Memory.search)
    answer = _awaited(Memory.answer)
    context = _awaited(Memory.context)
    get = _awaited(Memory.get)
    get_all = _awaited(Memory.get_all)
    history = _awaited(Memory.history)
    quarantined = _awaited(Memory.quarantined)
    release = _awaited(Memory.release)
    discard = _awaited(Memory.discard)
    export = _awaited(Memory.export)
    import_ = _awaited(Memory.import_)
    close = _awaited(Memory.close)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
