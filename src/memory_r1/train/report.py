"""Where metrics may go besides the run's own folder."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib.util import find_spec

from memory_r1.errors import InvalidInput, ModelUnavailable

# Each with the packages that it takes, one of them.
REPORTERS: Mapping[str, tuple[str, ...]] = {"tensorboard": ("tensorboard", "tensorboardX"), "wandb": ("wandb",)}


def reporters(names: Iterable[str]) -> None:
    """Raises InvalidInput for a name that is not known, ModelUnavailable where its package is not installed."""
    for name in names:
        if name not in REPORTERS:
            raise InvalidInput(f"there is no report to {name!r}; known: {', '.join(REPORTERS)}")
        if not any(map(find_spec, REPORTERS[name])):
            raise ModelUnavailable(f"reporting to {name} needs a package of its own; run: pip install {name}")
