"""The pages for people: the inspector and the description of the API. Plain files, and nothing from elsewhere."""

from __future__ import annotations

import hashlib
from importlib.resources import files
from typing import Annotated

from fastapi import APIRouter, Header
from starlette.responses import RedirectResponse, Response

_TYPES = {"html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}

# No script or style stands in a page or comes from elsewhere, and none can be made of a text: stored memories are data.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-cache",  # it is asked each time whether it changed
}


_FILES = (
    *(
        "style.css",
        "icon.svg",
        "theme.js",
        "app.js",
        "api.js",
        "dom.js",
        "state.js",
        "diff.js",
        "chart.js",
        "dialogs.js",
    ),
    *("entries.js", "operations.js", "memories.js", "timeline.js", "ask.js", "add.js", "audit.js", "training.js"),
    "docs.js",
)
_AT = {"/inspector": "index.html", "/docs": "docs.html"} | {f"/inspector/{name}": name for name in _FILES}

PAGES = frozenset(_AT)
"""Paths that show no memory."""


def pages_router() -> APIRouter:
    router = APIRouter(include_in_schema=False)

    @router.get("/")
    async def home() -> Response:
        return RedirectResponse("/inspector")

    folder = files("memory_r1.serve") / "inspector"
    for path, name in _AT.items():
        _add(router, path, (folder / name).read_bytes(), _TYPES[name.rpartition(".")[2]])
    return router


def _add(router: APIRouter, path: str, content: bytes, kind: str) -> None:
    headers = {**_HEADERS, "ETag": f'"{hashlib.sha256(content).hexdigest()[:16]}"'}

    @router.get(path)
    async def page(if_none_match: Annotated[str | None, Header()] = None) -> Response:
        if if_none_match == headers["ETag"]:
            return Response(status_code=304, headers=headers)
        return Response(content, media_type=kind, headers=headers)
