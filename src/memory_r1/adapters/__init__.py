"""The trained adapters that come with memory-r1, and which of them play.

adapters/MODEL/STEP.gguf         MODEL a name of the catalogue; a step without a file plays as the model alone
adapters/MODEL/MODEL_CARD.md     what they were trained on, and what for
"""

from __future__ import annotations

import importlib.resources
from collections.abc import Mapping
from importlib.resources.abc import Traversable
from pathlib import Path

from memory_r1.types import AGENT_STEPS, Step
from memory_r1.weights import Weights

ROOM = importlib.resources.files("memory_r1.adapters")


def shipped(model: Weights | None, room: Traversable = ROOM) -> dict[Step, Path]:
    """The adapters that come with a model of the catalogue; none with any other (None)."""
    if model is None:
        return {}
    files = {step: room / model.name / f"{step}.gguf" for step in AGENT_STEPS}
    return {step: Path(str(file)) for step, file in files.items() if file.is_file()}


def playing(
    model: Weights | None, given: Mapping[Step, Path], *, untrained: bool = False, room: Traversable = ROOM
) -> dict[Step, Path]:
    """The adapter by which each step is played: the one given for it, else, unless `untrained`, the shipped one."""
    return {**({} if untrained else shipped(model, room)), **given}
