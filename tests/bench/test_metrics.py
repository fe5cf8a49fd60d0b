"""The metrics on values worked by hand, and on what NLTK itself says."""

from __future__ import annotations

import math
import subprocess
import sys

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from nltk.tokenize import word_tokenize
from nltk.translate.bleu_score import SmoothingFunction, sentence_bleu

from memory_r1.bench.data import Question
from memory_r1.bench.metrics import abstained, bleu1, exact_match, f1, f1_locomo, scores
from memory_r1.errors import InvalidInput

DIGITS = 5e-5
# Few words, so that answers share some; with all that the metrics treat apart.
TEXTS = st.lists(
    st.sampled_from(
        ["a", "the", "and", "dog", "dogs", "Dog", "running", "2022", ",", ";", ".", "Yes!", "isn't", "’", "é"]
    ),
    max_size=8,
).map(" ".join)


@pytest.mark.parametrize(
    ("answer", "gold", "expected"),
    [
        ("a dog", "A dog!", 1.0),
        ("the dog", "dog", 2 / 3),  # articles are words: P 1/2, R 1
        ("dog dog dog", "dog", 1.0),  # sets: a repeated word is one word
        ("a big dog, a big cat", "a dog", 2 / 3),  # {a, big, dog, cat} and {a, dog}: P 2/4, R 2/2
        ("7 May 2023", "May 2023", 0.8),  # P 2/3, R 1
        ("2022", 2022, 1.0),
        ("in 2022.", 2022, 2 / 3),
        ("dogs", "dog", 0.0),  # no stemming
        ("mother-in-law", "mother in law", 0.0),  # a hyphen is part of its word
        ("Bob's", "Bob", 0.0),
        ("yes; because", "yes", 0.0),  # ";" stays at its word
        ("", "dog", 0.0),
        ("dog", "", 0.0),
        ("", "", 0.0),
        ("?!", "?!", 0.0),
    ],
)
def test_f1_compares_sets_of_lower_cased_words(answer: str, gold: str | int, expected: float) -> None:
    assert f1(answer, gold) == pytest.approx(expected, abs=DIGITS)


@pytest.mark.parametrize(
    ("answer", "gold", "category", "expected"),
    [
        ("the dog", "a Dog.", "single-hop", 1.0),
        ("dog dog dog", "dog", "single-hop", 0.5),  # multisets: P 1/3, R 1
        ("running dogs", "run, dog", "single-hop", 1.0),  # stemmed
        ("1,000", "1000", "single-hop", 1.0),  # commas go without a space
        ("mother-in-law", "mother in law", "single-hop", 0.0),  # and so do hyphens: "motherinlaw"
        ("in 2022", 2022, "temporal", 2 / 3),
        ("the", "a", "single-hop", 0.0),  # nothing left
        ("", "dog", "single-hop", 0.0),
        # The explanation counts in every category but one: {yes} of {yes, she, like, book} is P 1, R 1/4.
        ("yes", "Yes; she likes books", "open-domain", 1.0),
        ("yes", "Yes; she likes books", "single-hop", 0.4),
        # Of two gold parts "swimming" is found, and "red apples" has its best part in "apple": P 1, R 1/2.
        ("apple, swim", "swimming, red apples", "multi-hop", (1 + 2 / 3) / 2),
        ("apple, swim", "swimming, red apples", "single-hop", 0.8),  # P 2/2, R 2/3
        ("apple and swim", "swimming, apples", "multi-hop", 2 / 3),  # not split at "and": P 1/2, R 1, twice
        ("dog, dog", "dog, cat", "multi-hop", 0.5),  # one part may serve, and none is asked for twice
        ("", "dog, cat", "multi-hop", 0.0),
        ("2022", 2022, "multi-hop", 1.0),
    ],
)
def test_f1_of_locomo_stems_and_counts_and_splits_lists(
    answer: str, gold: str | int, category: str, expected: float
) -> None:
    assert f1_locomo(answer, gold, category) == pytest.approx(expected, abs=DIGITS)


@pytest.mark.parametrize(
    ("answer", "gold", "expected"),
    [
        ("the dog", "dog", 0.5),
        ("Dog.", "dog", 0.5),  # the full stop is a word
        ("dog", "a big dog", math.exp(-2)),  # P 1, brevity exp(1 - 3/1)
        ("a dog", "a big dog", math.exp(-0.5)),
        ("a a a dog", "a dog", 0.5),  # clipped: one "a" of three counts
        ("isn't", "is", 0.5),  # is + n't
        ("in 2022", 2022, 0.5),
        ("cat", "dog", 0.0),
        ("", "dog", 0.0),
        ("dog", "", 0.0),
        # Two sentences: york . please buy . (5) of which york and two full stops are in: york . i go . (5)
        ("York. Please buy.", "York. I go.", 0.6),
        # An abbreviation keeps its full stop: "dr." is one word of two.
        ("Dr. Dre", "Dr. Who", 0.5),
        ("J. R. Tolkien", "j. k. rowling", 1 / 3),
    ],
)
def test_bleu1_is_clipped_precision_times_brevity(answer: str, gold: str | int, expected: float) -> None:
    assert bleu1(answer, gold) == pytest.approx(expected, abs=DIGITS)


@settings(deadline=None)
@given(TEXTS, TEXTS)
def test_bleu1_is_what_nltk_says(answer: str, gold: str) -> None:
    # One sentence each: where it has more, word_tokenize would need a model that NLTK downloads.
    answer, gold = (text.replace(" .", " x") + "." for text in (answer, gold))
    reference, hypothesis = (word_tokenize(text.lower(), preserve_line=True) for text in (gold, answer))
    theirs = sentence_bleu(
        [reference], hypothesis, weights=(1, 0, 0, 0), smoothing_function=SmoothingFunction().method1
    )
    assert bleu1(answer, gold) == pytest.approx(float(theirs), abs=1e-9)


@pytest.mark.parametrize(
    ("answer", "gold", "expected"),
    [
        ("The dog!", "a  DOG", 1.0),
        ("2022", 2022, 1.0),
        ("2,022", 2022, 1.0),
        ("2022.0", 2022, 0.0),
        ("dog cat", "cat dog", 0.0),
        ("dog and cat", "dog cat", 0.0),  # SQuAD keeps "and"
        ("theatre", "atre", 0.0),  # only whole words are articles
        ("Yes", "Yes; she likes books", 0.0),
        ("", "the", 0.0),
        ("", "", 0.0),
    ],
)
def test_exact_match_forgives_case_punctuation_and_articles(answer: str, gold: str | int, expected: float) -> None:
    assert exact_match(answer, gold) == expected


@settings(deadline=None)
@given(TEXTS, TEXTS, st.sampled_from(["multi-hop", "temporal", "open-domain", "single-hop"]))
def test_every_score_is_between_0_and_1(answer: str, gold: str, category: str) -> None:
    found = scores(answer, True, Question("q", "d", "?", gold, category))
    assert list(found) == ["f1", "f1_locomo", "bleu1", "exact_match"]
    assert all(isinstance(score, float) and 0 <= score <= 1 for score in found.values())


@given(TEXTS, TEXTS)
def test_f1_takes_either_side_for_gold(first: str, second: str) -> None:
    assert f1(first, second) == f1(second, first)
    assert f1_locomo(first, second, "single-hop") == f1_locomo(second, first, "single-hop")


@given(TEXTS)
def test_an_exact_match_has_f1_of_locomo_1_but_not_always_f1_1(answer: str) -> None:
    assume(set(answer.lower().split()) & {"dog", "dogs", "running", "2022", "yes!", "isn't"})
    gold = f"The {answer.upper()}!"
    assert exact_match(answer, gold) == f1_locomo(answer, gold, "single-hop") == 1.0
    assert (exact_match("the dog", "dog"), f1("the dog", "dog")) == (1.0, pytest.approx(2 / 3))


@pytest.mark.parametrize(
    ("text", "known", "expected"),
    [
        ("I don't know.", False, 1.0),
        ("anything", False, 1.0),
        ("No information available", True, 1.0),
        ("That is NOT MENTIONED in the talk", True, 1.0),
        ("I don’t know that", True, 1.0),
        ("a dog", True, 0.0),
        ("an unknown artist", True, 0.0),
        ("", True, 0.0),
    ],
)
def test_an_answer_abstains_when_it_says_that_the_memories_do_not_tell(text: str, known: bool, expected: float) -> None:
    assert abstained(text, known) == expected


def test_a_question_that_cannot_be_answered_is_scored_by_abstention_alone() -> None:
    question = Question("q", "d", "?", "", "adversarial", answerable=False)
    assert scores("I don't know.", False, question) == {"abstained": 1.0}
    assert scores("a dog", True, question) == {"abstained": 0.0}


def test_not_knowing_what_can_be_known_is_scored_as_any_text() -> None:
    wrong = {"f1": 0.0, "f1_locomo": 0.0, "bleu1": 0.0, "exact_match": 0.0}
    assert scores("I don't know.", False, Question("q", "d", "?", "a dog", "single-hop")) == wrong
    # i do n't know . (5 words) has the gold answer's full stop.
    assert scores("I don't know.", False, Question("q", "d", "?", "A dog.", "single-hop")) == wrong | {"bleu1": 0.2}


def test_the_metrics_import_without_nltk_and_name_the_remedy_where_they_need_it() -> None:
    code = (
        "import sys; sys.modules['nltk'] = None\n"
        "from memory_r1.bench.metrics import bleu1, exact_match, f1, f1_locomo\n"
        "print(f1('a dog', 'dog'), exact_match('a dog', 'dog'))\n"
        "for call in (lambda: bleu1('a', 'a'), lambda: f1_locomo('a', 'a', 'temporal')):\n"
        "    try: call()\n"
        "    except Exception as error: print(type(error).__name__, error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    remedy = f"{InvalidInput.__name__} f1_locomo and bleu1 need NLTK: pip install 'memory-r1[bench]'"
    assert done.stdout.splitlines() == ["0.6666666666666666 1.0", remedy, remedy]
