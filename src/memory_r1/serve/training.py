"""The curves of training runs, for the inspector. Who keeps them is passed in: serving knows nothing of training."""

from __future__ import annotations

from typing import Annotated, Any, Protocol

from fastapi import APIRouter, Path, Request
from starlette.responses import Response

from memory_r1.serve import schemas
from memory_r1.serve.guard import caller_of
from memory_r1.serve.refusals import Json, Refusal
from memory_r1.serve.service import Workers


class Runs(Protocol):
    """Training runs to look at: a line for each, and one with its curves."""

    def lines(self) -> list[dict[str, Any]]: ...

    def curves(self, name: str) -> dict[str, Any] | None: ...


def training_router(runs: Runs | None, workers: Workers) -> APIRouter:
    """`/runs` and `/runs/{name}`; both are refused where there are no runs to show."""
    router = APIRouter()

    def shown(request: Request) -> Runs:
        caller_of(request.scope).check_everybody("training runs are")
        if runs is None:
            raise Refusal(404, "runs_off", "this server shows no training runs", "Start it with --runs FOLDER.")
        return runs

    @router.get("/runs", tags=["training"], responses={200: {"model": schemas.RunLines}})
    async def lines(request: Request) -> Response:
        """Training runs, the newest first. With keys on it needs one that is bound to no scope."""
        return Json({"results": await workers.quick(shown(request).lines)})

    @router.get("/runs/{name}", tags=["training"], responses={200: {"model": schemas.RunCurves}})
    async def curves(request: Request, name: Annotated[str, Path(max_length=200)]) -> Response:
        """One run: its settings, and its reward, KL, operations, … by step."""
        found = await workers.quick(shown(request).curves, name)
        if found is None:
            raise Refusal(404, "not_found", "no training run has this name", "GET /runs lists them.")
        return Json(found)

    return router
