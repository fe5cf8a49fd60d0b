"""Words for full-text search in any language, as 32-bit codes that lie in the entry's own row.

Text is NFKC-normalised and casefolded. Runs of Han, Hiragana, Katakana, Hangul, Thai and the like, which are
written without spaces, become overlapping pairs of characters; everything else is split at word boundaries.
"""

from __future__ import annotations

import functools
import re
import unicodedata
import zlib

import numpy as np
from numpy.typing import NDArray

_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff"
_TOKEN = re.compile(rf"[{_UNSPACED}]+|[^\W_{_UNSPACED}]+")
_FIRST_UNSPACED = re.compile(rf"[{_UNSPACED}]")
_ASCII_WORD = re.compile(r"[a-z0-9]+")
_STEM_LENGTH = 5


def words(text: str) -> list[str]:
    """The words of a text, in order, casefolded."""
    if text.isascii():  # what the rest would give, in a third of the time
        return _ASCII_WORD.findall(text.lower())
    found: list[str] = []
    for token in _TOKEN.findall(unicodedata.normalize("NFKC", text).casefold()):
        if _FIRST_UNSPACED.match(token) and len(token) > 1:
            found.extend(token[i : i + 2] for i in range(len(token) - 1))
        else:
            found.append(token)
    return found


def term_codes(text: str) -> NDArray[np.uint32]:
    """(words,) CRC-32 codes. A word over five letters counts by its beginning, so that "adopted" meets "adopting":
    a stemmer for one language would help that language and hurt the others."""
    return np.array([_code(word) for word in words(text)], dtype=np.uint32)


@functools.lru_cache(maxsize=1 << 16)
def _code(word: str) -> int:
    return zlib.crc32(word[:_STEM_LENGTH].encode("utf-8", "replace"))
