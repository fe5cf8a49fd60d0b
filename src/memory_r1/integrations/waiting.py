"""What a framework said goodbye to, until the memory has taken it: frameworks offer a message once."""

from __future__ import annotations

import logging
import threading
import uuid
from collections import deque
from collections.abc import Iterable

from memory_r1.bank.writes import in_pieces, mended
from memory_r1.errors import ModelError, ModelRefused
from memory_r1.scoped import ScopedMemory

log = logging.getLogger(__name__)


class Waiting:
    """Remembers messages in order. Those that a model is down for wait for the next call, and none is told twice.

    One that the model refuses for itself is left out, so that it holds up nobody. Blocks, as Memory does.
    """

    def __init__(self, memory: ScopedMemory) -> None:
        self._memory = memory
        self._messages: deque[dict[str, str]] = deque()
        self._lock = threading.Lock()

    def remember(self, said: Iterable[tuple[str, str]]) -> None:
        """(role, text) each."""
        with self._lock:
            self._messages += (
                {"role": role, "content": piece, "id": uuid.uuid4().hex}
                for role, text in said
                for piece in in_pieces(mended(text))
            )
            while self._messages:
                try:
                    self._memory.add([self._messages[0]])
                except ModelRefused:
                    log.error("a message is not remembered: the model refuses it")
                except ModelError as error:
                    log.warning("%d messages wait to be remembered: %s", len(self._messages), type(error).__name__)
                    return
                self._messages.popleft()
