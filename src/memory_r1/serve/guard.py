"""What stands before every path: whose request it is, how large, how often. Nothing is open that is not named here."""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from memory_r1.serve.keys import Key, Keys
from memory_r1.serve.limits import Limits as Limits
from memory_r1.serve.metrics import Metrics
from memory_r1.serve.pages import PAGES
from memory_r1.serve.refusals import Refusal

OPEN = frozenset({"/", "/health", "/ready", "/openapi.json"}) | PAGES
"""Paths that need no key: they show no memory."""

_LOCAL = frozenset({"localhost", "127.0.0.1", "::1"})
_MOST_BUCKETS = 10_000


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks: the holder of a key, or without keys whoever reaches the port."""

    key: Key | None = None

    @property
    def bound(self) -> dict[str, str]:
        """The ids that the key is bound to; none for the file's owner."""
        return self.key.scope.ids if self.key and self.key.scope else {}

    def ids(self, given: Mapping[str, str | None]) -> dict[str, str]:
        """The key's ids and those given, which may narrow them. Raises Refusal (403) for another's."""
        bound = self.bound
        for name, value in given.items():
            if value is not None and bound.get(name, value) != value:
                raise Refusal(403, "other_scope", f"this key is for another {name}", f"Leave {name} out.")
        return {**bound, **{name: value for name, value in given.items() if value is not None}}

    def check_everybody(self, what: str) -> None:
        """Raises Refusal (403) when the key is bound to a scope. `what` is of all scopes, with its verb."""
        if self.bound:
            remedy = "Use a key made with `memory-r1 keys create --everybody`."
            raise Refusal(403, "other_scope", f"{what} of all scopes", remedy)


class Guard:
    """ASGI middleware. Requests need a key as soon as there is one, and always with `keys_required`.

    Without keys only this machine is answered, under its own name (`local`): a web page that points its own name at
    this machine, or posts a form to it, is refused. Programs of this machine are not counted; other clients without a
    key, or with one that opens nothing, are, by their address.
    """

    def __init__(
        self, app: ASGIApp, keys: Keys, metrics: Metrics, limits: Limits, *, keys_required: bool, local: bool
    ) -> None:
        self._app, self._keys, self._metrics, self._limits = app, keys, metrics, limits
        self._keys_required, self._local = keys_required, local
        self._buckets: dict[str, tuple[float, float]] = {}  # whom -> (requests left, when that was)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            await self._answer(scope, receive, send)
        else:
            await send({"type": "websocket.close", "code": 1008})

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        began, status = time.perf_counter(), 500

        async def counted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                seconds = time.perf_counter() - began
                self._metrics.answered(scope["method"], _route(scope), status, seconds)
            await send(message)

        try:
            headers = Headers(scope=scope)
            caller = self._caller(headers, scope)
            self._check_size(headers)
        except Refusal as refusal:
            self._metrics.refused(refusal.code)
            await refusal.response()(scope, receive, counted)
            return
        scope.setdefault("state", {})["caller"] = caller
        try:
            await self._app(scope, self._limited(receive), counted)
        except BaseException:  # answered further out
            self._metrics.answered(scope["method"], _route(scope), 500, time.perf_counter() - began)
            raise

    def _caller(self, headers: Headers, scope: Scope) -> Caller:
        needed = self._keys_required or self._keys.exist
        if not needed and self._local:
            _check_local(headers)
            return Caller()
        if scope["path"] in OPEN:
            return Caller()
        if not needed:
            self._count(_network(scope), "from this address")
            return Caller()
        secret = _secret(headers)
        key = self._keys.find(secret) if secret else None
        if key is None:
            self._count(_network(scope), "from this address")
            raise Refusal(
                401,
                "unauthorized",
                "the key is unknown or was revoked" if secret else "this server needs an API key",
                "Send one that `memory-r1 keys create` made, as Authorization: Bearer or X-API-Key.",
                headers={"WWW-Authenticate": "Bearer"},
            )
        self._count(key.id, "with this key")
        return Caller(key)

    def _count(self, whom: str, told: str) -> None:
        rate = self._limits.rate
        if not rate:
            return
        now, most = time.monotonic(), 2 * rate
        left, then = self._buckets.get(whom, (most, now))
        left = min(most, left + (now - then) * rate) - 1
        if left < 0:
            wait = max(1, round(-left / rate))
            raise Refusal(
                429,
                "too_many_requests",
                f"more than {rate:g} requests a second {told}",
                f"Wait {wait} s.",
                headers={"Retry-After": str(wait)},
            )
        if len(self._buckets) > _MOST_BUCKETS:
            self._buckets.clear()
        self._buckets[whom] = left, now

    def _check_size(self, headers: Headers) -> None:
        length = headers.get("content-length", "0")
        if not length.isdecimal():
            raise Refusal(400, "invalid_input", "Content-Length is no number", "Send the length in bytes.")
        if int(length[:20]) > self._limits.body_bytes:
            raise self._too_large()

    def _limited(self, receive: Receive) -> Receive:
        """`receive`, counting: a chunked body names no length beforehand."""
        came = 0

        async def counting() -> Message:
            nonlocal came
            message = await receive()
            came += len(message.get("body", b""))
            if came > self._limits.body_bytes:
                raise self._too_large()
            return message

        return counting

    def _too_large(self) -> Refusal:
        most = self._limits.body_bytes
        return Refusal(413, "too_large", f"a request may have {most:,} bytes", "Send it in parts.")


def caller_of(scope: Mapping[str, Any]) -> Caller:
    """The caller that the guard let in."""
    caller = scope["state"]["caller"]
    assert isinstance(caller, Caller)
    return caller


def _secret(headers: Headers) -> str | None:
    """The key that a request carries; two different ones are none."""
    kind, _, token = headers.get("authorization", "").partition(" ")
    found = {token.strip()} if kind.lower() == "bearer" and token.strip() else set()
    found |= {value.strip() for value in headers.getlist("x-api-key") if value.strip()}
    return found.pop() if len(found) == 1 else None


_FORWARDED = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip")
"""What proxies say of the client they ask for: through one on this machine, everybody looks local."""


def _check_local(headers: Headers) -> None:
    """Only programs of this machine: browsers say whose page asks, under which name, and most proxies for whom."""
    if any(name in headers for name in _FORWARDED):
        raise Refusal(
            403,
            "other_host",
            "without keys this server answers to this machine alone, and the request came through a proxy",
            "Make keys with `memory-r1 keys create`.",
        )
    if _host(headers.get("host", "")) not in _LOCAL:
        raise Refusal(
            403,
            "other_host",
            "without keys this server answers to localhost alone",
            "Ask for http://localhost, or make keys with `memory-r1 keys create`.",
        )
    origin = headers.get("origin")
    if origin is not None and _host(origin.partition("://")[2]) not in _LOCAL:
        raise Refusal(403, "other_origin", "a page of another site asks", "Make keys with `memory-r1 keys create`.")


def _network(scope: Scope) -> str:
    """Where a request comes from: an address, or of IPv6 the network that one client has to itself."""
    told = scope["client"][0] if scope.get("client") else ""
    try:
        address = ipaddress.ip_address(told)
    except ValueError:
        return str(told)
    if isinstance(address, ipaddress.IPv6Address):
        return str(address.ipv4_mapped or ipaddress.IPv6Network((int(address) >> 64 << 64, 64)))
    return str(address)


def _host(authority: str) -> str:
    """The host in "host:port" or "[::1]:port"."""
    if authority.startswith("["):
        return authority[1:].partition("]")[0]
    return authority.partition(":")[0].lower()


def _route(scope: Scope) -> str:
    """The path's pattern: few, whatever clients ask for."""
    return str(getattr(scope.get("route"), "path", "unmatched"))
