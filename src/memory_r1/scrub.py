"""Secrets and personal identifiers in a text, replaced by what they are: `[email]`, `[card]`, `[api key]`.

Found by kept libraries (the `[scrub]` extra): detect-secrets knows the keys of services, phonenumbers the world's
numbers, python-stdnum the check digits of cards and accounts. What has a form is found; names and addresses have none.
"""

from __future__ import annotations

import ipaddress
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from itertools import product
from typing import Any, Literal

from memory_r1.errors import InvalidInput

Group = Literal["secrets", "personal"]

Finder = Callable[[str], Iterator[tuple[int, int, str]]]
"""From a text to (start, end, kind) of what is to go."""

# What detect-secrets does not look for: newer keys, our own, and what people say to each other.
_KEYS = re.compile(
    r"\b(?:sk|pk|rk)[-_](?:proj-|ant-|live_|test_|svcacct-)?[\w-]{20,}|\bAIza[\w-]{35}|\bmr1_[\w-]{40,}|\bhf_[A-Za-z0-9]{30,}"
    r"|\beyJ(?:(?!\beyJ)[\w-]){8,}\.[\w-]{8,}\.[\w-]*|\bgithub_pat_\w{40,}|\bya29\.[\w-]{20,}|\bBearer\s+[\w.~+/-]{20,}=*"
)
_PRIVATE = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL)
_PASSWORD = re.compile(
    r"\b(?:pass(?:word|phrase|code|wort|wd)|passwort|kennwort|mot de passe|contraseña|pwd|pin(?: code)?|api[ _-]?key"
    r"|secret(?: key)?|access[ _-]?token|auth[ _-]?token)\b[\"']?\s*(?:[:=]|\b(?:is|was|ist|lautet|est|es)\b:?)\s*"
    r"(?:[\"'“„]([^\"'”“\n]{3,80})[\"'”“]"  # quoted; or with a digit or a sign in it; or after a colon
    r"|(\S*[^\sA-Za-z.,;!?]\S*[^\s.,;!?]|\S*[^\sA-Za-z.,;!?])|(?<=[:=] )(\S{4,})|(?<=[:=])(\S{4,}))",
    re.IGNORECASE,
)
_EMAIL = re.compile(r"[\w.+%'-]{1,64}@(?:[\w-]{1,63}\.){1,8}[^\W\d_][\w-]{1,62}")
_CARD = re.compile(r"(?<![\w.])\d(?:[ -]?\d){12,18}(?![\w])")
_IBAN = re.compile(r"\b[A-Za-z]{2}\d{2}(?:[ -]?[A-Za-z0-9]){11,30}\b")
_SSN = re.compile(r"(?<![\w-])\d{3}-\d{2}-\d{4}(?![\w-])")
_ADDRESS = re.compile(r"(?<![\w.:])(?:\d{1,3}(?:\.\d{1,3}){3}|[0-9A-Fa-f]{0,4}(?::[0-9A-Fa-f]{0,4}){2,7})(?![\w:])")
_END = re.compile(r"[\w+/=-]*")  # some forms stop within the key
_WINDOW, _STEP = 2_000, 1_500
"""Characters of a long text at once: some of detect-secrets' forms take the square of its length."""
_NO_KEYS = frozenset({"Public IP (ipv4)", "Private Key", "Basic Auth Credentials"})


class Scrubber:
    """Replaces what it finds of the chosen groups. `region` is a country such as "DE" whose phone numbers are told
    without a country code, too.

    Raises InvalidInput without the extra, and for no or an unknown group.
    """

    def __init__(self, groups: Collection[str], region: str | None = None) -> None:
        if not groups or (unknown := set(groups) - {"secrets", "personal"}):
            what = f"not {', '.join(sorted(unknown))}" if groups else "at least one of them"
            raise InvalidInput(f"scrub knows secrets and personal, {what}")
        try:
            self._finders: list[Finder] = []
            if "secrets" in groups:
                self._finders += [_passwords, *_service_keys()]
            if "personal" in groups:
                self._finders += [_emails, *_numbers(region)]
        except ModuleNotFoundError as error:
            raise InvalidInput("scrubbing needs its extra: pip install 'memory-r1[scrub]'") from error

    def __call__(self, text: str) -> tuple[str, Counter[str]]:
        """The text with placeholders, and how many of each kind. Doing it again changes nothing."""
        found: Counter[str] = Counter()
        for finder in self._finders:
            pieces, at = [], 0
            for start, end, kind in sorted(finder(text), key=lambda one: (one[0], -one[1])):
                if start >= at:
                    pieces += [text[at:start], f"[{kind}]"]
                    found[kind] += 1
                    at = end
            text = "".join([*pieces, text[at:]]) if pieces else text
        return text, found

    def value(self, value: Any) -> tuple[Any, Counter[str]]:
        """Plain JSON values with every string in them scrubbed, names of members, too."""
        found: Counter[str] = Counter()

        def scrubbed(value: Any) -> Any:
            if isinstance(value, str):
                text, more = self(value)
                found.update(more)
                return text
            if isinstance(value, Mapping):
                return {scrubbed(name): scrubbed(one) for name, one in value.items()}
            if isinstance(value, list | tuple):
                return [scrubbed(one) for one in value]
            return value

        return scrubbed(value), found


def _passwords(text: str) -> Iterator[tuple[int, int, str]]:
    for match in _PRIVATE.finditer(text):
        yield match.start(), match.end(), "private key"
    for match in _PASSWORD.finditer(text):
        group = next(number for number in range(1, 5) if match[number] is not None)
        if not match[group].startswith("["):  # a placeholder
            yield match.start(group), match.end(group), "password"


def _service_keys() -> Iterable[Finder]:
    from detect_secrets.core.plugins.util import get_mapping_from_secret_type_to_class
    from detect_secrets.plugins.base import RegexBasedDetector

    classes: Mapping[str, Any] = get_mapping_from_secret_type_to_class()
    detectors = [one for kind, one in classes.items() if issubclass(one, RegexBasedDetector) and kind not in _NO_KEYS]
    forms = [form for detector in detectors for form in detector().denylist]
    basic = classes["Basic Auth Credentials"]()

    def keys(text: str) -> Iterator[tuple[int, int, str]]:
        for match in _KEYS.finditer(text):
            yield match.start(), match.end(), "api key"
        windows = range(0, max(len(text) - _WINDOW + _STEP, 1), _STEP)
        for form, at in product(forms, windows):
            for match in form.finditer(text, at, at + _WINDOW):
                yield match.start(), _END.match(text, match.end()).end(), "api key"  # type: ignore[union-attr]  # it matches

    def in_addresses(text: str) -> Iterator[tuple[int, int, str]]:
        for secret in set(basic.analyze_string(text)):
            for match in re.finditer(re.escape(f":{secret}@"), text):
                yield match.start() + 1, match.end() - 1, "password"

    return [in_addresses, keys]


def _emails(text: str) -> Iterator[tuple[int, int, str]]:
    return ((match.start(), match.end(), "email") for match in _EMAIL.finditer(text))


def _numbers(region: str | None) -> Iterable[Finder]:
    import phonenumbers
    from stdnum import iban, luhn
    from stdnum.us import ssn

    if region is not None and region not in phonenumbers.SUPPORTED_REGIONS:
        raise InvalidInput(f"no country {region!r} for phone numbers: give two capital letters, such as DE")

    def checked(form: re.Pattern[str], valid: Callable[[str], bool], kind: str) -> Finder:
        def find(text: str) -> Iterator[tuple[int, int, str]]:
            for match in form.finditer(text):
                if valid(match[0]):
                    yield match.start(), match.end(), kind

        return find

    def ibans(text: str) -> Iterator[tuple[int, int, str]]:
        """The pattern may take words behind the number in: the longest beginning that is valid counts."""
        for match in _IBAN.finditer(text):
            ends = [
                match.end(),
                *(match.start() + space.start() for space in reversed(list(re.finditer(" ", match[0])))),
            ]
            for end in ends:
                if iban.is_valid(text[match.start() : end]):
                    yield match.start(), end, "iban"
                    break

    def phones(text: str) -> Iterator[tuple[int, int, str]]:
        for match in phonenumbers.PhoneNumberMatcher(text, region):
            yield match.start, match.end, "phone"

    return [
        ibans,
        checked(_CARD, lambda digits: digits[0] in "23456" and luhn.is_valid(re.sub(r"\D", "", digits)), "card"),
        checked(_SSN, ssn.is_valid, "social security number"),
        checked(_ADDRESS, _is_address, "ip address"),
        phones,
    ]


def _is_address(text: str) -> bool:
    try:
        found = ipaddress.ip_address(text)
    except ValueError:
        return False
    return not (found.is_loopback or found.is_unspecified)
