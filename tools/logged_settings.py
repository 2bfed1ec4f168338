"""``litmus settings``: the settings that are part of the log, shown and changed."""

import json
import sys
from typing import Annotated, Any

import httpx
import typer
from rich.console import Console

from tools.errors import LitmusError, NotRunningError
from tools.home import Home
from tools.settings import Settings

REQUEST_TIMEOUT_S = 20.0

_LISTS = ("retire_sources", "add_sources")


def settings(
    changes: Annotated[
        list[str] | None,
        typer.Argument(
            help="lateness=2h, stride=5 (or auto), retire_sources=TOPIC/PARTITION[,…], "
            "add_sources=…; without any, shows them."
        ),
    ] = None,
    *,
    gateway: Annotated[str | None, typer.Option(help="Address; else that of the stack.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For a machine to read.")] = False,
) -> None:
    """Show or change the settings that results depend on: they are part of the log."""
    console = Console(highlight=False)
    try:
        body = body_of(changes or [])
        found = _ask(gateway or gateway_of_stack(), body)
    except LitmusError as error:
        if as_json:
            print(json.dumps({"error": str(error)}))
        else:
            console.print(str(error), style="red", markup=False, soft_wrap=True)
        sys.exit(1)
    if as_json:
        print(json.dumps(found))
        return
    for name in ("lateness", "stride", "sources"):
        shown = found[name]
        shown = ", ".join(shown) if isinstance(shown, list) else shown
        console.print(f"{name:<9} {'auto' if shown is None else shown}", markup=False)
    for effect in found.get("effects", []):
        console.print(effect, markup=False, soft_wrap=True)


def gateway_of_stack() -> str:
    """Return the address of the gateway of the stack that runs from the home.

    Raises:
        NotRunningError: If none does.
    """
    home = Settings().home
    description = Home(home).description()
    if description is None:
        raise NotRunningError(
            f"No stack runs from {home}: `litmus up` starts one, or --gateway names another one."
        )
    return str(description["gateway"])


def body_of(changes: list[str]) -> dict[str, Any]:
    """Return what ``name=value`` arguments ask for.

    Raises:
        LitmusError: If one is no such argument.
    """
    body: dict[str, Any] = {}
    for change in changes:
        name, separator, value = change.partition("=")
        if not separator or name not in ("lateness", "stride", *_LISTS):
            known = ", ".join(("lateness", "stride", *_LISTS))
            raise LitmusError(f"{change!r}: must be NAME=VALUE, the name one of {known}")
        if name in _LISTS:
            body[name] = value.split(",")
        elif name == "stride":
            if value != "auto" and not (value.isascii() and value.isdecimal()):
                raise LitmusError(f"stride={value}: must be a whole number of ticks, or auto")
            body[name] = None if value == "auto" else int(value)
        else:
            body[name] = value
    return body


def _ask(gateway: str, body: dict[str, Any]) -> dict[str, Any]:
    url = f"{gateway.rstrip('/')}/v1/settings"
    try:
        with httpx.Client(timeout=REQUEST_TIMEOUT_S, trust_env=False) as client:
            answer = client.patch(url, json=body) if body else client.get(url)
    except httpx.TransportError as error:
        raise LitmusError(f"{gateway} does not answer: {error or type(error).__name__}") from error
    found: dict[str, Any] = answer.json()
    if answer.status_code >= 300:
        raise LitmusError(f"{answer.status_code} {found.get('code')}: {found.get('detail')}")
    return found
