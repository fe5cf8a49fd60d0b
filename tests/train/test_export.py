"""A LoRA trained on the Hugging Face model does in llama.cpp what it did there: on random tiny models of each kind."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from memory_r1.errors import AdapterMismatch, InvalidInput, ModelUnavailable, WeightsMissing
from memory_r1.llm.embedded import EmbeddedLLM
from memory_r1.llm.gguf import adapter_name, read_header
from memory_r1.types import Message, Prompt

torch = pytest.importorskip("torch")
for package in ("transformers", "peft", "gguf", "safetensors"):
    pytest.importorskip(package)

import gguf
import tiny
from disk import full_disk
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file

from memory_r1.train.base import load_base, trainable
from memory_r1.train.export import halved, interleaved, read_adapter, scale, to_gguf, to_peft
from memory_r1.train.parity import compare

PROMPTS = [
    Prompt("manage", (Message("user", text),), max_tokens=24)
    for text in ("Ann has a dog.", "an\n\n  année 2026: 12345", "Bo?", "What does Carla do, and where?")
]
KINDS = pytest.mark.parametrize("kind", ["llama", "qwen2"])


def base(folder: Path, kind: Any, seed: int = 0) -> Path:
    return tiny.write_gguf(tiny.model(kind, seed), folder / f"{kind}-{seed}.gguf")


def adapted(model: Any, folder: Path, **settings: Any) -> Any:
    """The model with a random adapter, which is also saved in `folder`."""
    torch.manual_seed(1)
    made = get_peft_model(model, LoraConfig(**{"r": 4, "lora_alpha": 8, "target_modules": "all-linear", **settings}))
    with torch.no_grad():
        for name, weight in made.named_parameters():
            if "lora_" in name:
                weight.normal_(0, 0.3)
    made.save_pretrained(folder)
    return made.eval()


@KINDS
def test_the_trainable_model_has_the_weights_of_the_gguf(tmp_path: Path, kind: Any) -> None:
    model, tokenizer = load_base(base(tmp_path, kind), cache=tmp_path)
    expected = tiny.model(kind).state_dict()
    found = model.state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert (model.dtype, tokenizer.eos_token, model.config.tie_word_embeddings) == (torch.float32, "<|im_end|>", True)
    model.get_input_embeddings().weight.sum().backward()


def test_a_model_is_converted_once(tmp_path: Path) -> None:
    file = base(tmp_path, "llama")
    first = trainable(file, cache=tmp_path)
    written = (first / "model.safetensors").stat().st_mtime_ns
    assert trainable(file, cache=tmp_path) == first
    assert (first / "model.safetensors").stat().st_mtime_ns == written
    assert sorted(path.name for path in (tmp_path / "trainable").iterdir()) == [first.name]


@KINDS
@pytest.mark.parametrize(
    "settings",
    [
        pytest.param({}, id="plain"),
        pytest.param({"use_rslora": True, "r": 5}, id="rslora"),
        pytest.param(
            {"rank_pattern": {"q_proj": 2, "1.mlp.up_proj": 6}, "alpha_pattern": {"k_proj": 3, "o_proj": 20}},
            id="patterns",
        ),
        pytest.param({"target_modules": ["q_proj", "v_proj"]}, id="two-layers"),
    ],
)
def test_both_runtimes_choose_tokens_alike(tmp_path: Path, kind: Any, settings: Mapping[str, Any]) -> None:
    file = base(tmp_path, kind)
    model, tokenizer = load_base(file, cache=tmp_path)
    trained = adapted(model, tmp_path / "adapter", **settings)
    lora = to_gguf(tmp_path / "adapter", file, tmp_path / "lora.gguf", dtype="f32")
    with EmbeddedLLM(file, adapters={"manage": lora}, context_tokens=512) as llm:
        result = list(compare(PROMPTS, trained, tokenizer, llm))
        with trained.disable_adapter():
            plain = list(compare(PROMPTS, trained, tokenizer, llm))
    # Not the texts: random models write half characters, and the runtimes show those differently. Not every token:
    # where two are nearly as likely, rounding decides (llama.cpp keeps keys and values in float16).
    assert all(one.same_prompt for one in result)
    assert sum(one.same_tokens for one in result) >= 0.95 * sum(one.tokens for one in result)
    # The adapter matters: without it the two part.
    assert sum(one.same_tokens for one in plain) < 0.5 * sum(one.tokens for one in plain)


@KINDS
@pytest.mark.parametrize(
    "settings", [{}, {"use_rslora": True, "rank_pattern": {"q_proj": 2}, "alpha_pattern": {"o_proj": 20}}]
)
def test_an_export_can_be_trained_on(tmp_path: Path, kind: Any, settings: Mapping[str, Any]) -> None:
    file = base(tmp_path, kind)
    adapted(load_base(file, cache=tmp_path)[0], tmp_path / "adapter", **settings)
    lora = to_gguf(tmp_path / "adapter", file, tmp_path / "lora.gguf", dtype="f32")
    back = to_peft(lora, file, tmp_path / "back")
    was, becomes = read_adapter(tmp_path / "adapter"), read_adapter(back)
    assert was.keys() == becomes.keys()
    for module, layer in was.items():
        change = becomes[module].scale * becomes[module].b_OR @ becomes[module].a_RI
        np.testing.assert_allclose(change, layer.scale * layer.b_OR @ layer.a_RI, rtol=1e-5, atol=1e-6)


def test_an_adapter_of_another_model_cannot_be_trained_on(tmp_path: Path) -> None:
    file, other = base(tmp_path, "llama"), base(tmp_path, "llama", seed=5)
    adapted(load_base(file, cache=tmp_path)[0], tmp_path / "adapter")
    lora = to_gguf(tmp_path / "adapter", file, tmp_path / "lora.gguf")
    with pytest.raises(AdapterMismatch, match="it was trained from another model of the same shape"):
        to_peft(lora, other, tmp_path / "back")


def test_interleaved_rows_are_put_back() -> None:
    rows = np.arange(24, dtype=np.float32).reshape(8, 3)
    assert np.array_equal(halved(interleaved(rows, 2), 2), rows)


@pytest.mark.parametrize(
    ("dtype", "kind"), [("f16", gguf.GGMLQuantizationType.F16), ("f32", gguf.GGMLQuantizationType.F32)]
)
def test_the_file_says_what_it_is_and_what_it_was_trained_from(tmp_path: Path, dtype: Any, kind: Any) -> None:
    file = base(tmp_path, "llama")
    adapted(load_base(file, cache=tmp_path)[0], tmp_path / "adapter", target_modules=["v_proj"])
    lora = to_gguf(tmp_path / "adapter", file, tmp_path / "new" / "lora.gguf", dtype=dtype, name="manager")
    keys = ("general.type", "adapter.type", "adapter.lora.alpha", "general.name", "general.base_model.0.name")
    header = read_header(lora, ("general.architecture", *keys))
    assert dict(header.metadata) == {
        "general.architecture": "llama",
        "general.type": "adapter",
        "adapter.type": "lora",
        "adapter.lora.alpha": 8.0,
        "general.name": "manager",
        "general.base_model.0.name": "tiny llama",
    }
    assert dict(header.tensors) == {
        f"blk.{i}.attn_v.weight.lora_{side}": dims for i in (0, 1) for side, dims in (("a", (32, 4)), ("b", (4, 16)))
    }
    assert {tensor.tensor_type for tensor in gguf.GGUFReader(lora).tensors} == {kind}
    assert [path.name for path in lora.parent.iterdir()] == ["lora.gguf"]


def test_an_adapter_is_called_after_its_run_and_its_weights(tmp_path: Path) -> None:
    file = base(tmp_path, "llama")
    model = load_base(file, cache=tmp_path)[0]
    adapted(model, tmp_path / "manager-grpo" / "adapter", target_modules=["v_proj"])
    first, again = (to_gguf(tmp_path / "manager-grpo" / "adapter", file, tmp_path / f"{i}.gguf") for i in range(2))
    name, _, version = adapter_name(first).partition(" ")
    assert name == "manager-grpo"
    assert re.fullmatch("[0-9a-f]{12}", version)
    assert adapter_name(again) == adapter_name(first)
    shutil.copytree(tmp_path / "manager-grpo" / "adapter", tmp_path / "mine")
    assert adapter_name(to_gguf(tmp_path / "mine", file, tmp_path / "2.gguf")) == f"mine {version}"
    stronger = {name: 2 * tensor for name, tensor in load_file(tmp_path / "mine" / "adapter_model.safetensors").items()}
    save_file(stronger, tmp_path / "mine" / "adapter_model.safetensors")
    other = adapter_name(to_gguf(tmp_path / "mine", file, tmp_path / "3.gguf", name="manager"))
    assert re.fullmatch("manager [0-9a-f]{12}", other)
    assert version not in other


def test_an_adapter_that_does_not_name_its_version_is_called_after_its_file(tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(tmp_path / "theirs.gguf", "llama")
    writer.add_name("their adapter")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    assert adapter_name(tmp_path / "theirs.gguf") == "theirs.gguf"


def test_an_adapter_of_another_model_of_the_same_shape_is_refused(tmp_path: Path) -> None:
    file, other = base(tmp_path, "qwen2"), base(tmp_path, "qwen2", seed=5)
    adapted(load_base(file, cache=tmp_path)[0], tmp_path / "adapter")
    lora = to_gguf(tmp_path / "adapter", file, tmp_path / "lora.gguf")
    with pytest.raises(AdapterMismatch, match=r"lora\.gguf does not fit .*qwen2-5\.gguf: it was trained from another"):
        EmbeddedLLM(other, adapters={"manage": lora})


def test_an_adapter_of_another_shape_is_refused_and_nothing_is_left(tmp_path: Path) -> None:
    file, other = base(tmp_path, "qwen2"), base(tmp_path, "llama")
    adapted(load_base(file, cache=tmp_path)[0], tmp_path / "adapter", target_modules=["q_proj"])
    weights = {
        name: tensor[:, :8] for name, tensor in load_file(tmp_path / "adapter/adapter_model.safetensors").items()
    }
    save_file(
        {name: tensor.clone() for name, tensor in weights.items()}, tmp_path / "adapter/adapter_model.safetensors"
    )
    with pytest.raises(AdapterMismatch, match=r"attn_q\.weight\.lora_a and lora_b have the shapes \(8, 4\)"):
        to_gguf(tmp_path / "adapter", other, tmp_path / "out" / "lora.gguf")
    assert list((tmp_path / "out").iterdir()) == []


def test_rows_of_a_head_interleave_its_halves() -> None:
    rows = np.arange(8, dtype=np.float32)[:, None]
    assert interleaved(rows, 1)[:, 0].tolist() == [0, 4, 1, 5, 2, 6, 3, 7]
    assert interleaved(rows, 2)[:, 0].tolist() == [0, 2, 1, 3, 4, 6, 5, 7]
    with pytest.raises(InvalidInput, match="8 outputs are not 3 heads"):
        interleaved(rows, 3)


def test_the_scale_is_pefts() -> None:
    config = {"lora_alpha": 16, "alpha_pattern": {"layers.1.self_attn.k_proj": 4, "up_proj": 2}}
    modules = ("model.layers.0.self_attn.k_proj", "model.layers.1.self_attn.k_proj", "model.layers.1.mlp.up_proj")
    assert [scale(config, module, 4) for module in modules] == [4.0, 1.0, 0.5]
    assert scale(config | {"use_rslora": True}, modules[0], 4) == 8.0
    assert scale({"lora_alpha": 0}, modules[0], 4) == 0.0


def written(folder: Path, config: Mapping[str, Any], tensors: Mapping[str, Any]) -> Path:
    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps(config))
    save_file({name: tensor.clone() for name, tensor in tensors.items()}, folder / "adapter_model.safetensors")
    return folder


PLAIN = {"peft_type": "LORA", "lora_alpha": 8, "r": 4, "bias": "none"}
LAYER = "base_model.model.model.layers.0.self_attn.v_proj"
A, B = torch.ones(4, 32), torch.ones(16, 4)
PAIR = {f"{LAYER}.lora_A.weight": A, f"{LAYER}.lora_B.weight": B}


@pytest.mark.parametrize(
    ("config", "tensors", "says"),
    [
        pytest.param({"peft_type": "IA3"}, PAIR, "of the kind IA3; only LORA", id="kind"),
        pytest.param({"use_dora": True}, PAIR, "use_dora, which GGUF cannot express", id="dora"),
        pytest.param({"bias": "lora_only"}, PAIR, 'bias="lora_only"', id="bias"),
        pytest.param({"init_lora_weights": "pissa_niter_4"}, PAIR, "pissa_niter_4, which changes the base", id="pissa"),
        pytest.param({"lora_alpha": None}, PAIR, "no lora_alpha", id="alpha"),
        pytest.param({}, PAIR | {"base_model.model.lm_head.weight": A}, r"lm_head\.weight: only LoRA", id="saved"),
        pytest.param(
            {}, PAIR | {"base_model.model.model.embed_tokens.lora_embedding_A": A}, "only LoRA", id="embedding"
        ),
        pytest.param({}, PAIR | {f"{LAYER}.lora_B.bias": B}, "only LoRA", id="lora-bias"),
        pytest.param({}, {f"{LAYER}.lora_A.weight": A}, "one half of the pair", id="half"),
        pytest.param({}, {}, "no LoRA tensors", id="empty"),
        pytest.param({}, PAIR | {f"{LAYER}.lora_B.weight": B * torch.inf}, "diverged", id="infinite"),
        pytest.param({}, PAIR | {f"{LAYER}.lora_B.weight": B * 1e6}, "do not fit f16; export as f32", id="large"),
        pytest.param(
            {},
            {name.replace("layers.0", "layers.7"): tensor for name, tensor in PAIR.items()},
            r"changes model\.layers\.7\.self_attn\.v_proj, which a llama of 2 layers does not have",
            id="layers",
        ),
    ],
)
def test_what_gguf_cannot_express_is_refused(
    tmp_path: Path, config: Mapping[str, Any], tensors: Mapping[str, Any], says: str
) -> None:
    folder = written(tmp_path / "adapter", PLAIN | config, tensors)
    with pytest.raises(InvalidInput, match=says):
        to_gguf(folder, base(tmp_path, "llama"), tmp_path / "lora.gguf")
    assert not (tmp_path / "lora.gguf").exists()


def test_a_folder_without_an_adapter_and_a_damaged_one_are_named(tmp_path: Path) -> None:
    file = base(tmp_path, "llama")
    with pytest.raises(InvalidInput, match=r"holds no PEFT adapter: there is no adapter_config\.json"):
        to_gguf(tmp_path, file, tmp_path / "lora.gguf")
    folder = written(tmp_path / "adapter", PLAIN, PAIR)
    (folder / "adapter_model.safetensors").write_bytes(b"half")
    with pytest.raises(InvalidInput, match=r"adapter_model\.safetensors is damaged"):
        to_gguf(folder, file, tmp_path / "lora.gguf")


def test_models_that_cannot_be_trained_are_named(tmp_path: Path) -> None:
    with pytest.raises(WeightsMissing, match=r"nowhere\.gguf: No such file"):
        load_base(tmp_path / "nowhere.gguf", cache=tmp_path)
    writer = gguf.GGUFWriter(tmp_path / "bert.gguf", "bert")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    with pytest.raises(ModelUnavailable, match=r"bert\.gguf is of the architecture bert; only llama, qwen2"):
        load_base(tmp_path / "bert.gguf", cache=tmp_path)
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(base(tmp_path, "llama").read_bytes()[:-5000])
    with pytest.raises(WeightsMissing, match=r"cut\.gguf could not be converted"):
        load_base(cut, cache=tmp_path)
    assert list((tmp_path / "trainable").iterdir()) == []


@pytest.mark.parametrize("size", [10, 20_000])
def test_a_conversion_that_does_not_fit_on_the_disk_says_to_make_room_and_leaves_nothing(
    tmp_path: Path, size: int
) -> None:
    """At its first file, and within the weights."""
    file = base(tmp_path, "llama")
    with full_disk(size), pytest.raises(WeightsMissing, match=r"could not be converted into .*; make room there"):
        trainable(file, cache=tmp_path)
    assert list((tmp_path / "trainable").iterdir()) == []
    load_base(file, cache=tmp_path)


def test_without_the_extra_the_remedy_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = base(tmp_path, "llama")
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ModelUnavailable, match=r"run: pip install 'memory-r1\[train\]'"):
        load_base(file, cache=tmp_path)


def test_following_tokens_one_at_a_time_gives_the_same_and_refusals_are_ours(tmp_path: Path) -> None:
    llm = EmbeddedLLM(base(tmp_path, "llama"), context_tokens=128)
    whole = llm.follow("manage", [5, 6, 7], 6)
    assert len(whole) == 6
    assert whole == [llm.follow("manage", [5, 6, 7, *whole[:i]], 1)[0] for i in range(6)]
    with pytest.raises(ModelUnavailable, match=r"failed at a 'manage' prompt: .*exceeds the available context"):
        llm.follow("manage", [5] * 500, 1)
    llm.close()
    with pytest.raises(ModelUnavailable, match="was closed"):
        llm.follow("manage", [5], 1)
