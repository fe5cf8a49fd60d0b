"""What a training run is made of: settings with their defaults, read from TOML with overrides."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_type_hints

from memory_r1.errors import InvalidInput
from memory_r1.train.rewards import RewardConfig
from memory_r1.train.samples import GUARDED
from memory_r1.types import Step

T = TypeVar("T")
Agent = Literal["extractor", "manager", "answer"]
STEP_OF: Mapping[str, Step] = {"extractor": "extract", "manager": "manage", "answer": "answer"}
"""The step that each agent plays."""

Algo = Literal["grpo", "ppo", "sft"]


@dataclass(frozen=True, slots=True)
class LoraSettings:
    """The adapter that is trained. `rank` 0 trains the whole model, as the paper did."""

    rank: int = 16
    alpha: int = 32
    targets: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


@dataclass(frozen=True, slots=True)
class LogoSettings:
    """Fair credit over long dialogues (LoGo-GRPO of Memory-R2), of the manager by GRPO. `turns` 0 leaves it out.

    An episode is then a segment of `turns` turns; a group's rollouts are asked the same questions at its end, at most
    `questions` of them. At `snapshots` decisions of one rollout, drawn where a question is at stake, `alternatives` are
    sampled from the bank as it was, each worth what it leaves right after the turn. The advantages of rollouts and of
    alternatives have the weights `global_weight` and `local_weight`; a local weight of 0 plays no alternatives. `rows`
    replies are learned from at once: memory grows with their prompts, which in a rollout are all different.
    """

    turns: int = 0
    global_weight: float = 1.0
    local_weight: float = 1.0
    snapshots: int = 2
    alternatives: int = 4
    questions: int = 64
    rows: int = 4

    def __post_init__(self) -> None:
        for name, least in (("turns", 0), ("snapshots", 0), ("alternatives", 2), ("questions", 1), ("rows", 1)):
            if getattr(self, name) < least:
                raise InvalidInput(f"logo.{name} must be at least {least}")
        if min(self.global_weight, self.local_weight) < 0 or not self.global_weight + self.local_weight:
            raise InvalidInput("logo.global_weight and logo.local_weight must not be negative, nor both 0")


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """One run. A step plays `groups` samples, `group_size` episodes each, and updates `epochs` times from them.

    `learning_rate` stays constant after `warmup` steps, or with the schedule "cosine" falls to 0 at the last step;
    `critic_rate` is constant from the first. `kl` weighs the divergence from the policy that training began with, taken
    from the loss or, as verl can, from each token's reward (`kl_in`); GRPO skips groups of equal rewards, and their
    divergence with them. `loss` says how tokens are averaged: "dapo" all tokens of a step alike (verl's default),
    "grpo" within each reply first, "dr_grpo" by a constant. `balance`, of sft alone, repeats the rarer operations until
    all are equally frequent. `scale` divides a group's advantages by its standard deviation. `resample` draws another
    sample, at most so often, for a group whose rewards are all the same. Of PPO alone are `gamma`, `lam`, `value_clip`
    and `critic_warmup`, the first steps in which only the critic learns. `context` caps the tokens of prompt and reply;
    so many `batch_tokens` are sampled side by side. `related` and `retrieved` are how many memories the manager and the
    Answer Agent see. At most `guarded` questions are asked after a turn besides those that it tells about: such as
    wiping a memory would leave without an answer. `unanswerable` also asks what nothing tells, or nothing any more.
    `keep_turns`, of the Answer Agent alone, shows it turns that are kept word for word among the memories. Without
    `distil`, of it too, it is asked for the answer alone, not first for the memories that tell. `replay`
    says who decides what the bank before a turn holds: the teacher, or the policy as training finds it. A checkpoint is
    written every `save_every` steps, and the last `keep` stay. `report` names what TRL reports to besides the run's own
    files. `vllm` samples by vLLM, which takes `vllm_memory` of the GPU; such a run does not resume bit for bit.
    """

    agent: Agent = "manager"
    algo: Algo = "grpo"
    model: str = "smollm2"
    steps: int = 100
    groups: int = 4
    group_size: int = 8
    epochs: int = 1
    learning_rate: float = 1e-5
    critic_rate: float = 1e-4
    warmup: int = 5
    schedule: Literal["constant", "cosine"] = "constant"
    temperature: float = 1.0
    clip: float = 0.2
    kl: float = 1e-3
    kl_in: Literal["loss", "reward"] = "loss"
    loss: Literal["dapo", "grpo", "dr_grpo"] = "dapo"
    scale: bool = True
    resample: int = 0
    gamma: float = 1.0
    lam: float = 1.0
    value_clip: float = 0.2
    critic_warmup: int = 0
    max_grad_norm: float = 1.0
    context: int = 4096
    batch_tokens: int = 16_384
    related: int = 3
    retrieved: int = 60
    guarded: int = GUARDED
    unanswerable: bool = False
    keep_turns: bool = False
    distil: bool = True
    balance: bool = False
    replay: Literal["teacher", "policy"] = "teacher"
    seed: int = 0
    save_every: int = 10
    keep: int = 3
    bf16: bool = False
    checkpointing: bool = False
    report: tuple[str, ...] = ()
    vllm: bool = False
    vllm_memory: float = 0.3
    lora: LoraSettings = LoraSettings()
    logo: LogoSettings = LogoSettings()
    reward: RewardConfig = field(default_factory=RewardConfig)

    def __post_init__(self) -> None:
        for name in ("steps", "groups", "epochs", "context", "batch_tokens", "related", "retrieved", "save_every"):
            if getattr(self, name) < 1:
                raise InvalidInput(f"{name} must be at least 1")
        if self.agent == "extractor" and self.algo != "sft":
            raise InvalidInput("the extractor is cloned (algo=sft): no reward is defined for what it finds")
        if self.segmented and self.algo == "ppo":
            raise InvalidInput(
                "logo.turns needs algo=grpo: its advantages are measured within groups, without a critic"
            )
        if self.keep_turns and self.agent != "answer":
            raise InvalidInput("keep_turns is of agent=answer: no decision changes a kept turn")
        if not self.distil and self.agent != "answer":
            raise InvalidInput("distil is of agent=answer: others keep no memories first")
        if self.guarded < 0:
            raise InvalidInput("guarded must be at least 0")
        if self.temperature <= 0:
            raise InvalidInput("temperature must be above 0: greedy replies of a group are all the same")
        if self.group_size < 2:
            raise InvalidInput("group_size must be at least 2: a reply is measured against the others of its group")
        if self.keep < 2:
            raise InvalidInput("keep must be at least 2, so that one checkpoint is whole while the next is written")
        if self.vllm and self.algo == "sft":
            raise InvalidInput("vllm samples replies; sft samples none")
        if self.save_every % self.epochs or self.steps % self.epochs:
            raise InvalidInput(
                "save_every and steps must be multiples of epochs: a run resumes where episodes are played"
            )
        if self.max_grad_norm <= 0:
            raise InvalidInput("max_grad_norm must be above 0; a large one clips nothing")

    @property
    def segmented(self) -> bool:
        """Whether episodes are segments of a dialogue."""
        return self.agent == "manager" and self.logo.turns > 0

    @property
    def state(self) -> dict[str, Any]:
        """As plain JSON values."""
        state: dict[str, Any] = _plain(asdict(self))
        return state


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _plain(one) for name, one in value.items()}
    return list(map(_plain, value)) if isinstance(value, list | tuple) else value


def load_config(path: Path | None = None, overrides: Iterable[str] = (), **given: Any) -> TrainConfig:
    """The defaults, changed by a TOML file, by `name=value` pairs ("reward.metric=f1"), and by keywords not None.

    Raises InvalidInput for a setting that is not there or of another kind, naming those that are.
    """
    settings: dict[str, Any] = {}
    if path is not None:
        try:
            settings = tomllib.loads(path.read_text(encoding="utf-8"))
        except tomllib.TOMLDecodeError as error:
            raise InvalidInput(f"{path.name} is not TOML: {error}") from error
    for override in overrides:
        name, sign, text = override.partition("=")
        if not sign:
            raise InvalidInput(f"{override!r} must be NAME=VALUE")
        settings = _merged(settings, _nested(name.strip(), _value(text.strip())))
    # All at once, since some settings are checked against others.
    return changed(TrainConfig(), settings | {name: value for name, value in given.items() if value is not None})


def config_of(state: Mapping[str, Any]) -> TrainConfig:
    """The config whose `state` this is."""
    return changed(TrainConfig(), state)


def changed(config: T, settings: Mapping[str, Any], inside: str = "") -> T:
    """A settings object with some of them changed, those of nested objects too."""
    hints, known = get_type_hints(type(config)), {one.name for one in fields(config)}  # type: ignore[arg-type]
    changes = {}
    for name, value in settings.items():
        if name not in known:
            raise InvalidInput(f"there is no setting {inside + name!r}; known: {', '.join(sorted(known))}")
        before = getattr(config, name)
        if is_dataclass(before):
            if not isinstance(value, Mapping):
                raise InvalidInput(f"{inside + name} must be settings of its own, such as {name}.NAME=VALUE")
            changes[name] = changed(before, value, f"{name}.")
        else:
            changes[name] = _checked(inside + name, value, before, hints[name])
    return replace(config, **changes)  # type: ignore[type-var]


def _checked(name: str, value: Any, before: Any, hint: Any) -> Any:
    options = get_args(hint) if getattr(hint, "__origin__", None) is Literal else ()
    if options and value not in options:
        raise InvalidInput(f"{name} must be one of {', '.join(options)}, not {value!r}")
    if isinstance(before, float) and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(before, tuple):
        return tuple(value) if isinstance(value, list | tuple) else (str(value),)
    if type(value) is not type(before):
        raise InvalidInput(f"{name} must be {type(before).__name__}, such as {before!r}, not {value!r}")
    return value


def _merged(settings: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(settings)
    for name, value in more.items():
        before = merged.get(name)
        both = isinstance(before, Mapping) and isinstance(value, Mapping)
        merged[name] = _merged(before, value) if both else value  # type: ignore[arg-type]
    return merged


def _nested(name: str, value: Any) -> dict[str, Any]:
    first, dot, rest = name.partition(".")
    return {first: _nested(rest, value) if dot else value}


def _value(text: str) -> Any:
    """A TOML value, or the text itself: metric=f1 needs no quotes."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
