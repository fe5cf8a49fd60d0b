"""How right an answer is, by each measure the field prints; also what training rewards.

None of these is "the" F1: the same answers score several points apart by `f1` and `f1_locomo`, so that figures are only
comparable under one name. A gold answer may be a number, as in LoCoMo's file: 2022 is read as "2022". The text
"I don't know." gets no special treatment where a question can be answered: it mostly scores 0, but shares a full stop
with a gold answer that ends in one.
"""

from __future__ import annotations

import functools
import math
import re
import string
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from memory_r1.bench.data import Question
from memory_r1.errors import InvalidInput

Gold = str | int

NO_NLTK = "f1_locomo and bleu1 need NLTK: pip install 'memory-r1[bench]'"

_SPACED = str.maketrans(dict.fromkeys(".,!?", " "))
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)
# LoCoMo's own script takes the first two for an answer; the others are how small models say it in a sentence.
_ABSTAINING = ("no information available", "not mentioned", "i don't know", "i do not know")
# Where a full stop ends no sentence: the commonest of those that NLTK's trained splitter knows.
_ABBREVIATIONS = frozenset(
    ("dr", "mr", "mrs", "ms", "prof", "jr", "sr", "st", "inc", "vs", "ok", "a.m", "p.m", "u.s", "u.k", "ph.d", "j.k")
)


def scores(answer: str, known: bool, question: Question) -> dict[str, float]:
    """{"f1", "f1_locomo", "bleu1", "exact_match"}, or {"abstained"} alone for a question that cannot be answered."""
    if not question.answerable:
        return {"abstained": abstained(answer, known)}
    return {
        "f1": f1(answer, question.answer),
        "f1_locomo": f1_locomo(answer, question.answer, question.category),
        "bleu1": bleu1(answer, question.answer),
        "exact_match": exact_match(answer, question.answer),
    }


def f1(answer: str, gold: Gold) -> float:
    """Memory-R1's F1, as A-Mem and Mem0 have it: of the sets of lower-cased words, articles and all.

    Of punctuation only . , ! ? is ignored. Nothing on either side is 0.
    """
    answered, wanted = _words(answer), _words(gold)
    return _harmonic(len(answered & wanted), len(answered), len(wanted))


def _words(text: Gold) -> set[str]:
    return set(str(text).lower().translate(_SPACED).split())


def f1_locomo(answer: str, gold: Gold, category: str) -> float:
    """LoCoMo's own F1: of the multisets of Porter-stemmed words without punctuation, a, an, the and "and".

    In "multi-hop" both sides are lists split at commas, and the score is the mean, over the gold answer's parts, of the
    best F1 that any part of the answer has with it. In "open-domain" an explanation after ";" in the gold answer is
    left out. Raises InvalidInput when NLTK is not installed.
    """
    wanted = str(gold)
    if category == "open-domain":
        wanted = wanted.split(";")[0]
    if category != "multi-hop":
        return _stemmed_f1(answer, wanted)
    parts = [max(_stemmed_f1(given, part) for given in answer.split(",")) for part in wanted.split(",")]
    return sum(parts) / len(parts)


def _stemmed_f1(answer: str, gold: str) -> float:
    stem = _stemmer()
    answered, wanted = (Counter(map(stem, _plain(text, "a|an|the|and").split())) for text in (answer, gold))
    return _harmonic((answered & wanted).total(), answered.total(), wanted.total())


def _harmonic(shared: int, answered: int, wanted: int) -> float:
    """The harmonic mean of shared/answered and shared/wanted, 2PR / (P + R)."""
    return 2 * shared / (answered + wanted) if shared else 0.0


def exact_match(answer: str, gold: Gold) -> float:
    """SQuAD's: 1.0 when both are the same text but for case, ASCII punctuation, articles and white space, else 0.0.

    Unlike SQuAD's, texts of which nothing is left do not match: an empty answer is never right. A match does not mean
    f1 = 1, which counts articles.
    """
    given = _plain(answer, "a|an|the")
    return float(given != "" and given == _plain(str(gold), "a|an|the"))


def _plain(text: str, dropped: str) -> str:
    return " ".join(re.sub(rf"\b({dropped})\b", " ", text.lower().translate(_NO_PUNCTUATION)).split())


def bleu1(answer: str, gold: Gold) -> float:
    """BLEU of single words as the field computes it with NLTK: lower-cased word_tokenize and sentence_bleu with weights
    (1, 0, 0, 0) and smoothing method1. Punctuation counts as words.

        BLEU-1 = exp(min(0, 1 - gold_words / answer_words)) * shared / answer_words     (0 when nothing is shared)

    word_tokenize first splits sentences with a trained model that NLTK downloads. Here the same splitter knows a few
    of its abbreviations and none of its statistics, so that only a text with another abbreviation before its last word
    may be cut otherwise ("tues. 3 may"). With all its abbreviations, none of LoCoMo's 1,540 gold answers and 2 of its
    5,882 turns are. Raises InvalidInput when NLTK is not installed.
    """
    tokens = _tokenizer()
    answered, wanted = tokens(answer.lower()), tokens(str(gold).lower())
    shared = (Counter(answered) & Counter(wanted)).total()
    if not shared:
        return 0.0
    return math.exp(min(0.0, 1 - len(wanted) / len(answered))) * shared / len(answered)


def abstained(text: str, known: bool) -> float:
    """1.0 when an answer says that the memories do not tell, which is right where they do not; else 0.0."""
    said = text.lower().replace("’", "'")
    return float(not known or any(phrase in said for phrase in _ABSTAINING))


@functools.cache
def _stemmer() -> Callable[[str], str]:
    stemmer: Any = _nltk("nltk.stem.porter").PorterStemmer()
    # Stemming is most of the work, and a benchmark's words recur.
    return functools.lru_cache(100_000)(stemmer.stem)


@functools.cache
def _tokenizer() -> Callable[[str], Sequence[str]]:
    punkt = _nltk("nltk.tokenize.punkt")
    known = punkt.PunktParameters()
    known.abbrev_types = set(_ABBREVIATIONS)
    sentences = punkt.PunktSentenceTokenizer(known)
    words = _nltk("nltk.tokenize.destructive").NLTKWordTokenizer()
    return lambda text: [word for sentence in sentences.tokenize(text) for word in words.tokenize(sentence)]


def check_installed() -> None:
    """Raises InvalidInput where what scores answers is missing: before hours of reading, and not after."""
    _stemmer()
    _tokenizer()


def _nltk(module: str) -> Any:
    import importlib

    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise InvalidInput(NO_NLTK) from error
