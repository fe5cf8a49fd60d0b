"""`memory-r1 serve` and `memory-r1 keys`: the memory over HTTP."""

from __future__ import annotations

import ipaddress
import os
import signal
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, Literal, NoReturn

import click

from memory_r1.cli.options import (
    DEFAULT_USER,
    as_json,
    beside,
    db,
    named_scope,
    open_memory,
    options,
    whose_or_all,
    writing,
)
from memory_r1.cli.output import Group, columns, scope_name, show
from memory_r1.errors import InvalidInput
from memory_r1.memory import default_path
from memory_r1.serve.limits import KEEP_ALIVE_SECONDS, Limits
from memory_r1.spans import Span, no_span
from memory_r1.types import Scope

if TYPE_CHECKING:  # the extra may not be there
    from opentelemetry.sdk.trace import TracerProvider

    from memory_r1.serve.chat import Upstream
    from memory_r1.serve.keys import Key
    from memory_r1.serve.training import Runs

_LIMITS = Limits()
_keys_file = click.option(
    "--keys",
    "keys_file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The file of API keys. Default: beside the bank, .keys.db instead of .db.",
)


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen at; 0.0.0.0 is all.")
@click.option("--port", type=click.IntRange(1, 65535), default=8888, show_default=True)
@click.option("--allow-open", is_flag=True, help="Listen beyond this machine without keys: everybody reads everything.")
@click.option(
    "--when-model-down",
    type=click.Choice(["refuse", "queue"]),
    default="refuse",
    show_default=True,
    help="What becomes of adds: 503, or kept on the disk until it is back.",
)
@click.option("--upstream", "upstream_url", help="The OpenAI-compatible server that answers chats. Default: the model.")
@click.option("--upstream-model", help="The model's name there, whatever a client asks for.")
@click.option("--upstream-key", envvar="MEMORY_R1_UPSTREAM_KEY", help="Better: the variable MEMORY_R1_UPSTREAM_KEY.")
@click.option("--user", default=DEFAULT_USER, show_default=True, help="Whose memory chats use when nobody is named.")
@click.option(
    "--rate",
    type=click.FloatRange(0),
    default=_LIMITS.rate,
    show_default=True,
    help="Requests a second for a key, or for an address without one; 0 is no limit.",
)
@click.option(
    "--max-body",
    type=click.IntRange(1),
    default=_LIMITS.body_bytes,
    show_default=True,
    help="Bytes of a request at most.",
)
@click.option(
    "--otel",
    is_flag=True,
    help="Send OpenTelemetry spans, as the variables OTEL_* say; so does naming an endpoint there.",
)
@click.option(
    "--runs",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Show the curves of the training runs that lie in this folder.",
)
@click.option("--access-log", is_flag=True, help="Log a line for each request.")
@options(_keys_file, writing, db)
def serve(
    host: str,
    port: int,
    allow_open: bool,
    when_model_down: Literal["refuse", "queue"],
    upstream_url: str | None,
    upstream_model: str | None,
    upstream_key: str | None,
    user: str,
    rate: float,
    max_body: int,
    runs: Path | None,
    otel: bool,
    access_log: bool,
    keys_file: Path | None,
    db: Path | None,
    **llm: Any,
) -> None:
    """Serve the memory over HTTP. Paths are those of Mem0's server, with undo, history, answers and a chat endpoint.

    On this machine alone it needs no key. Once `memory-r1 keys create` has made one, every request needs a key, and
    each key opens its own scope and no other. Ctrl-C or SIGTERM ends it after what it is doing.
    """
    try:
        import uvicorn

        from memory_r1.serve.app import Settings, create_app
        from memory_r1.serve.chat import ChatSettings
        from memory_r1.serve.keys import Keys
    except ModuleNotFoundError as error:
        raise InvalidInput("the server needs its extra: pip install 'memory-r1[serve]'") from error

    bank = db or default_path()
    local = is_loopback(host)
    keys = Keys(keys_file or beside(bank, "keys"))
    if not local and not allow_open and not keys.exist:
        raise InvalidInput(
            f"--host {host} is open to other machines: make a key first (`memory-r1 keys create --user ann`), or say "
            "--allow-open and let everybody read and change everything"
        )
    settings = Settings(
        limits=Limits(max_body, rate),
        chat=ChatSettings(default=Scope(user_id=user)),
        when_model_down=when_model_down,
        inbox=beside(bank, "inbox"),
        keys_required=not local and not allow_open,
        local=local,
    )
    provider = _telemetry(otel)
    span: Span = no_span
    if provider is not None:
        from memory_r1.telemetry import spans, watched

        span = spans(provider)
    with closing(keys), ended_by_sigterm(), open_memory(db, **llm, span=span) as memory:
        upstream = _upstream(upstream_url, upstream_model, upstream_key, llm)
        app = create_app(memory, keys, upstream=upstream, settings=settings, runs=_runs(runs))
        click.echo(f"http://{_shown(host)}:{port}/inspector", err=True)
        # Without a limit for its shutdown, uvicorn waits for the requests that run.
        config = uvicorn.Config(
            app if provider is None else watched(app, provider),
            host,
            port,
            access_log=access_log,
            log_level="info" if access_log else "warning",
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            proxy_headers=False,
            server_header=False,
        )
        server = uvicorn.Server(config)
        try:
            server.run()
        except SystemExit as end:  # of uvicorn, where it could not start; older ones return
            if end.code == 0 or server.started:
                raise
    if not server.started:
        raise InvalidInput(f"port {port} of {host} cannot be listened at: another program may have it; choose --port")


@contextmanager
def ended_by_sigterm() -> Iterator[None]:
    """SIGTERM as an exit that closes what is open. uvicorn, when it has ended by a signal, sends it once more."""

    def end(_: int, __: FrameType | None) -> NoReturn:
        raise SystemExit(0)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _telemetry(otel: bool) -> TracerProvider | None:
    """Where spans go; None where nobody wants them: OTEL_* of a whole machine must not need our extra."""
    named = any(os.environ.get(name) for name in ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"))
    off = os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true" or os.environ.get("OTEL_TRACES_EXPORTER") == "none"
    if not otel and (not named or off):
        return None
    try:
        from memory_r1.telemetry import otlp
    except ModuleNotFoundError as error:
        if otel:
            raise InvalidInput("spans need their extra: pip install 'memory-r1[otel]'") from error
        return None
    return otlp()


def _upstream(url: str | None, name: str | None, key: str | None, llm: dict[str, Any]) -> Upstream | None:
    from memory_r1.serve.chat import HttpUpstream

    if url is not None:
        return HttpUpstream(url, name, key)
    if llm["base_url"] is not None:  # the memory's model answers chats, too, and can stream there
        # Without a word about adapters, llama.cpp applies all that it has.
        numbered = any(one.partition("=")[2].isdigit() for one in llm["adapters"])
        alone: dict[str, Any] = {"lora": []} if numbered else {}
        return HttpUpstream(llm["base_url"], llm["model"], llm["api_key"], extra=alone)
    return None


def _runs(folder: Path | None) -> Runs | None:
    if folder is None:
        return None
    from memory_r1.train.shown import RunsFolder

    return RunsFolder(folder)


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address; a name other than localhost may be anything."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _shown(host: str) -> str:
    return f"[{host}]" if ":" in host else host


# -- keys -----------------------------------------------------------------------------------------------------------


@click.group(cls=Group)
def keys() -> None:
    """Keys for the server: each opens one scope and no other."""


@keys.command("create")
@click.option("--name", default="", help="What the key is for, to tell it from others.")
@click.option("--everybody", is_flag=True, help="A key for every scope: for a backend that serves all users.")
@options(whose_or_all, _keys_file, db, as_json)
def create(
    name: str,
    everybody: bool,
    keys_file: Path | None,
    db: Path | None,
    as_json: bool,
    user_id: str | None,
    agent_id: str | None,
    run_id: str | None,
) -> None:
    """Make a key and print it, once. From the first key on, every request needs one."""
    from memory_r1.serve.keys import Keys

    scope = named_scope(user_id, agent_id, run_id)
    if (scope is None) != everybody:
        raise InvalidInput("say whose memory the key opens, with --user, --agent or --run, or --everybody for all")
    made = Keys(keys_file or beside(db or default_path(), "keys"))
    key, secret = made.create(scope, name)
    made.close()
    value = {**_value(key), "key": secret}
    show(value, as_json, [secret])
    if not as_json:  # apart from the key, so that KEY=$(memory-r1 keys create …) holds it alone
        click.echo(click.style(f"opens {_opens(key)}; it cannot be shown again", dim=True), err=True)


@keys.command("list")
@options(_keys_file, db, as_json)
def list_(keys_file: Path | None, db: Path | None, as_json: bool) -> None:
    """List the keys: what each opens, and since when. The keys themselves are not kept."""
    from memory_r1.serve.keys import Keys

    made = Keys(_existing(keys_file, db))
    found = made.all()
    made.close()
    rows = [
        (key.id, _opens(key), key.name, f"{key.created_at:%Y-%m-%d}", "revoked" if key.revoked_at else "")
        for key in found
    ]
    show([_value(key) for key in found], as_json, columns(rows) if rows else ["No key was made yet."])


@keys.command("revoke")
@click.argument("key_id")
@options(_keys_file, db, as_json)
def revoke(key_id: str, keys_file: Path | None, db: Path | None, as_json: bool) -> None:
    """Revoke a key, at once, by the id that `keys list` shows."""
    from memory_r1.serve.keys import Keys

    made = Keys(_existing(keys_file, db))
    key = made.revoke(key_id)
    made.close()
    show(_value(key), as_json, [f"{key.id} opens nothing any more."])


def _existing(keys_file: Path | None, db: Path | None) -> Path:
    file = keys_file or beside(db or default_path(), "keys")
    if not file.exists():
        raise InvalidInput(f"no keys at {file}: make one with `memory-r1 keys create --user ann`, or check --db")
    return file


def _opens(key: Key) -> str:
    return scope_name(key.scope) if key.scope else "everybody's memory"


def _value(key: Key) -> dict[str, Any]:
    return {
        "id": key.id,
        "name": key.name,
        "scope": key.scope.ids if key.scope else None,
        "created_at": key.created_at.isoformat(),
        "revoked_at": key.revoked_at.isoformat() if key.revoked_at else None,
    }
