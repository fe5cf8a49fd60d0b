"""The search index against a slow reference: exact cosine, BM25 by the book, fused ranks, any history of changes."""

from __future__ import annotations

import math
import random
from collections import Counter
from typing import Any

import numpy as np
import pytest

from memory_r1.bank.index import HomeIndex, IndexRow
from memory_r1.bank.postings import BM25_B, BM25_K1
from memory_r1.bank.ranking import RRF_CONSTANT, Hit, best, joined
from memory_r1.bank.terms import term_codes, words
from memory_r1.testing import HashEmbedder

EMBEDDER = HashEmbedder(48)
NEVER = math.inf


def row(key: int, text: str, speaker: str | None = None, expires_at: float = NEVER, alive: bool = True) -> IndexRow:
    vector = EMBEDDER.embed([text])[0].tobytes()
    return IndexRow(key, alive, speaker, expires_at, term_codes(text).astype("<u4").tobytes(), vector)


def search(
    index: HomeIndex, vector: Any, terms: Any, k: int, now: float, *, per_speaker: bool = False, keys: Any = None
) -> list[Hit]:
    return best(index.rows(vector, terms, now, keys=keys), terms, k, per_speaker=per_speaker)


def cosines(texts: dict[int, str], query: str) -> dict[int, float]:
    (wanted,) = EMBEDDER.embed([query])
    return {key: float(EMBEDDER.embed([text])[0] @ wanted) for key, text in texts.items()}


def bm25(texts: dict[int, str], query: str) -> dict[int, float]:
    """Robertson and Zaragoza 2009, over the texts that may be found."""
    counts = {key: Counter(term_codes(text).tolist()) for key, text in texts.items()}
    mean = sum(count.total() for count in counts.values()) / len(counts)
    scores = dict.fromkeys(texts, 0.0)
    for term in set(term_codes(query).tolist()):
        having = sum(term in count for count in counts.values())
        idf = math.log(1 + (len(texts) - having + 0.5) / (having + 0.5))
        for key, count in counts.items():
            norm = BM25_K1 * (1 - BM25_B + BM25_B * count.total() / mean)
            scores[key] += idf * count[term] * (BM25_K1 + 1) / (count[term] + norm) if count[term] else 0.0
    return {key: score for key, score in scores.items() if score > 0}


def fused(*rankings: dict[int, float]) -> dict[int, float]:
    scores: Counter[int] = Counter()
    for ranking in rankings:
        for place, key in enumerate(sorted(ranking, key=lambda key: -ranking[key])):
            scores[key] += (RRF_CONSTANT + 1) / (RRF_CONSTANT + 1 + place) / len(rankings)
    return dict(scores)


def changed(seed: int, changes: int, first: int = 1) -> tuple[HomeIndex, dict[int, str]]:
    """An index after many additions, changes and removals in batches, and the texts that should be in it.

    Keys begin with `first`.
    """
    random_ = random.Random(seed)
    index, texts = HomeIndex(EMBEDDER.dimension), {}
    vocabulary = [f"word{number}" for number in range(40)] + ["京都", "Straße", "adopted", "adopting"]
    while changes > 0:
        batch = []
        for _ in range(random_.randrange(1, 60)):
            key = first + random_.randrange(499)
            if key in texts and random_.random() < 0.4:
                batch.append(row(key, texts.pop(key), alive=False))
            else:
                # A word of its own, so that no two texts tie.
                texts[key] = " ".join(
                    [*random_.choices(vocabulary, k=random_.randrange(1, 12)), f"own{random_.random()}"]
                )
                batch.append(row(key, texts[key]))
        index.upsert(batch)
        changes -= len(batch)
    return index, texts


@pytest.mark.parametrize(("seed", "changes"), [(1, 10), (2, 300), (3, 2500)])
def test_after_any_changes_each_ranking_is_that_of_the_reference(seed: int, changes: int) -> None:
    index, texts = changed(seed, changes)
    assert len(index) == len(texts)
    for query in ("word1 word2", "adopts 京都に", "word3 word3 STRASSE"):
        (vector,), terms = EMBEDDER.embed([query]), term_codes(query)
        near = cosines(texts, query)
        hits = search(index, vector, None, 1000, 0.0)
        assert {hit.key: pytest.approx(hit.similarity, abs=1e-5) for hit in hits} == near
        assert [hit.similarity for hit in hits] == sorted((hit.similarity for hit in hits), reverse=True)
        exact = bm25(texts, query)
        found = search(index, None, terms, 1000, 0.0)
        assert {hit.key for hit in found} == exact.keys()
        ranked = [exact[hit.key] for hit in found]
        assert ranked == pytest.approx(sorted(ranked, reverse=True), rel=1e-5)


def test_the_score_is_the_fused_rank_and_one_for_what_is_first_in_both() -> None:
    texts = {1: "tea from China", 2: "tea tea tea and more of it", 3: "coffee from Brazil is roasted", 4: "rice"}
    index = HomeIndex(EMBEDDER.dimension)
    index.upsert([row(key, text) for key, text in texts.items()])
    query = "tea from China"
    hits = search(index, EMBEDDER.embed([query])[0], term_codes(query), 10, 0.0)
    expected = fused(cosines(texts, query), bm25(texts, query))
    assert {hit.key: pytest.approx(hit.score) for hit in hits} == expected
    assert (hits[0].key, hits[0].score) == (1, 1.0)
    assert [hit.score for hit in hits] == sorted(expected.values(), reverse=True)


@pytest.mark.parametrize("homes", [1, 2, 7])
def test_several_homes_are_ranked_as_one_that_holds_all_of_them(homes: int) -> None:
    parts = [changed(seed, 60 * 5 ** (seed % 3), 1000 * seed) for seed in range(homes)]
    outside = {key for _, texts in parts for key in texts if key % 5 == 0}
    keys = np.array([key for _, texts in parts for key in texts if key not in outside], dtype=np.int64)
    texts = {key: text for _, texts in parts for key, text in texts.items() if key not in outside}
    order = joined((index.rows(None, None, 0.0, keys=keys) for index, _ in parts), None).keys.tolist()
    assert sorted(order) == sorted(texts)
    one = HomeIndex(EMBEDDER.dimension)
    one.upsert([row(key, texts[key]) for key in order])  # equals are ranked in their order
    for query in ("word1 word2", "adopts 京都に", "word3 word3 STRASSE", "nobody says this"):
        (vector,), terms = EMBEDDER.embed([query]), term_codes(query)
        for wanted in ((vector, None), (None, terms), (vector, terms)):
            together = joined((index.rows(*wanted, 0.0, keys=keys) for index, _ in parts), wanted[1])
            for k in (5, 10_000):
                expected = search(one, *wanted, k, 0.0)
                assert best(together, wanted[1], k) == [
                    (hit.key, pytest.approx(hit.score), pytest.approx(hit.similarity, abs=1e-6)) for hit in expected
                ]
    assert best(joined([], terms), terms, 5) == []


def test_speakers_are_counted_over_several_homes() -> None:
    index, other = HomeIndex(EMBEDDER.dimension), HomeIndex(EMBEDDER.dimension)
    index.upsert([row(number, f"tea {number}", "Ann Lee") for number in range(1, 5)])
    other.upsert([row(9, "tea", "Carl", expires_at=-1.0)])
    other.upsert([row(number, f"tea with milk {number}", "Bo") for number in range(5, 9)])
    (vector,), terms = EMBEDDER.embed(["tea"]), term_codes("tea")

    together = joined((each.rows(vector, terms, 0.0) for each in (index, other)), terms)

    def speakers(k: int, *, per_speaker: bool) -> str:
        hits = best(together, terms, k, per_speaker=per_speaker)
        return "".join("a" if hit.key < 5 else "b" for hit in hits)

    assert speakers(4, per_speaker=False) == "aaaa"
    assert sorted(speakers(4, per_speaker=True)) == list("aabb")


def test_k_cuts_the_list_and_does_not_change_its_order() -> None:
    index, texts = changed(4, 800)
    (vector,), terms = EMBEDDER.embed(["word1 word2 word3"]), term_codes("word1 word2 word3")
    for one in ((vector, None), (None, terms)):
        whole = search(index, *one, 1000, 0.0)
        for k in (1, 2, 7, 50):
            assert search(index, *one, k, 0.0) == whole[:k]
    assert [len(search(index, vector, terms, k, 0.0)) for k in (1, 10, 10_000)] == [1, 10, len(texts)]


def test_expired_rows_and_rows_outside_the_keys_are_never_found() -> None:
    index = HomeIndex(EMBEDDER.dimension)
    index.upsert([row(1, "tea", expires_at=100.0), row(2, "tea"), row(3, "tea", expires_at=300.0)])
    (vector,) = EMBEDDER.embed(["tea"])

    def keys(now: float, only: list[int] | None = None) -> list[int]:
        chosen = None if only is None else np.array(only, dtype=np.int64)
        return sorted(hit.key for hit in search(index, vector, term_codes("tea"), 9, now, keys=chosen))

    assert [keys(now) for now in (0, 99.9, 100, 300, -math.inf)] == [[1, 2, 3], [1, 2, 3], [2, 3], [2], [1, 2, 3]]
    assert [keys(0, only) for only in ([], [2], [3, 99])] == [[], [2], [3]]


def test_two_speakers_get_half_each_one_or_three_share_by_rank() -> None:
    index = HomeIndex(EMBEDDER.dimension)
    index.upsert([row(number, f"tea {number}", "Ann") for number in range(1, 9)] + [row(9, "rice", "Bo")])
    (vector,), terms = EMBEDDER.embed(["tea"]), term_codes("tea")

    def keys(k: int) -> set[int]:
        return {hit.key for hit in search(index, vector, terms, k, 0.0, per_speaker=True)}

    assert 9 in keys(4)
    assert len(keys(4)) == 3
    index.upsert([row(10, "milk", None)])
    assert not keys(4) & {9, 10}
    index.upsert([row(9, "", alive=False), row(10, "", alive=False)])
    assert len(keys(4)) == 4


def test_an_empty_index_and_a_query_of_unknown_or_no_words_find_nothing_by_text() -> None:
    (vector,) = EMBEDDER.embed(["tea"])
    index = HomeIndex(EMBEDDER.dimension)
    assert search(index, vector, term_codes("tea"), 5, 0.0) == []
    index.upsert([row(1, "tea"), row(2, "!!!")])
    assert search(index, None, term_codes("coffee"), 5, 0.0) == []
    assert search(index, None, term_codes("?!"), 5, 0.0) == []
    assert [hit.key for hit in search(index, vector, term_codes("?!"), 5, 0.0)] == [1, 2]
    index.upsert([row(1, "", alive=False), row(2, "", alive=False)])
    assert search(index, vector, term_codes("tea"), 5, 0.0) == []


def test_the_last_row_of_a_key_in_a_batch_counts() -> None:
    index = HomeIndex(EMBEDDER.dimension)
    index.upsert([row(1, "tea"), row(1, "milk"), row(2, "rice"), row(2, "rice", alive=False)])
    (vector,) = EMBEDDER.embed(["milk"])
    assert [(hit.key, round(hit.similarity, 5)) for hit in search(index, vector, None, 5, 0.0)] == [(1, 1.0)]


def test_dead_rows_are_told_so_that_the_index_is_built_anew() -> None:
    index = HomeIndex(EMBEDDER.dimension)
    for _ in range(30):
        index.upsert([row(key, f"tea {key}") for key in range(100)])
    assert (len(index), index.dead_share) == (100, pytest.approx(29 / 30))
    assert index.nbytes > 100 * EMBEDDER.dimension * 4


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Ann's dog, Buddy!", ["ann", "s", "dog", "buddy"]),
        ("ＡＮＮ STRASSE Straße", ["ann", "strasse", "strasse"]),
        ("京都に住む", ["京都", "都に", "に住", "住む"]),
        ("京", ["京"]),
        ("2023年", ["2023", "年"]),
        ("I love 京都 and ソウル", ["i", "love", "京都", "and", "ソウ", "ウル"]),
        ("snake_case 3.5", ["snake", "case", "3", "5"]),
        ("!!! 😀", []),
    ],
)
def test_words_in_any_language(text: str, expected: list[str]) -> None:
    assert words(text) == expected


def test_a_long_word_meets_its_other_forms_and_not_short_ones() -> None:
    adopted, adopting, adept = (term_codes(word).tolist() for word in ("adopted", "Adopting", "adept"))
    assert adopted == adopting != adept
