"""The ``litmus`` command."""

import json
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.logging import RichHandler
from rich.table import Table

from tools import setting_up
from tools.bench.command import app as bench
from tools.demo.command import demo
from tools.doctor import examine
from tools.errors import LitmusError, NotRunningError
from tools.home import Home
from tools.importing.command import import_files
from tools.logged_settings import settings as logged_settings
from tools.narration import Narrator
from tools.planning.command import plan
from tools.reading_logs import follow_logs, show_logs
from tools.recounting import recount as let_recount
from tools.settings import Settings
from tools.soak.command import soak
from tools.stack import (
    look_at_stack,
    require_loopback,
    run_stack,
    start_detached,
    stop_stack,
)
from tools.supervisor import DEATHS_MAX
from tools.topics import create_topics, describe_topics, partition_counts
from tools.torture.command import torture
from tools.trust.command import trust
from tools.workers import add_worker, drain_worker

app = typer.Typer(
    name="litmus",
    help="Live, exact, replayable experimentation.",
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
    add_completion=False,
)
topics = typer.Typer(help="The topics and what is promised of them.", no_args_is_help=True)
app.add_typer(topics, name="topics")
worker = typer.Typer(
    help="More accumulate workers, or fewer, without a pause.", no_args_is_help=True
)
app.add_typer(worker, name="worker")
app.command()(demo)
app.add_typer(bench, name="bench")
app.command("import")(import_files)
app.command("settings")(logged_settings)
app.command()(plan)
app.command()(soak)
app.command()(torture)
app.command()(trust)

AsJson = Annotated[bool, typer.Option("--json", help="For a machine to read.")]


@app.command()
def up(
    *,
    detach: Annotated[bool, typer.Option(help="Return when all is ready; it goes on.")] = False,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Accumulate processes.")] = 1,
    bind: Annotated[
        str | None, typer.Option(help="Address of gateway and query API (LITMUS_BIND).")
    ] = None,
    allow_remote: Annotated[
        bool, typer.Option(help="Let --bind name an address that other machines reach.")
    ] = False,
    deaths_max: Annotated[
        int,
        typer.Option(min=1, help="Deaths of a process in a minute after which the stack gives up."),
    ] = DEATHS_MAX,
    quiet: Annotated[bool, typer.Option(hidden=True)] = False,
) -> None:
    """Start everything, wait until it is ready, follow the log; Ctrl-C stops it."""
    console = Console(highlight=False)
    with _explained(console):
        settings = _settings() if bind is None else _settings(bind=bind)
        require_loopback(settings.bind, allow_remote=allow_remote)
        if not detach:
            narrator = Narrator(console, echoes=not quiet)
            sys.exit(run_stack(settings, narrator, worker_count=workers, deaths_max=deaths_max))
        arguments = ["--workers", str(workers), "--deaths-max", str(deaths_max)]
        arguments += ["--bind", settings.bind, *(["--allow-remote"] if allow_remote else [])]
        _show_addresses(console, start_detached(settings, arguments, console))


@app.command()
def down() -> None:
    """Stop the stack; its data stay."""
    console = Console(highlight=False)
    with _explained(console):
        settings = _settings()
        try:
            stop_stack(settings)
        except NotRunningError as error:
            console.print(str(error))
            return
        console.print(f"stopped; data stay in {settings.home}")


@app.command()
def status(*, as_json: AsJson = False) -> None:
    """Show every process; exit 0 only when all is ready."""
    console = Console(highlight=False)
    with _explained(console, as_json=as_json):
        description = look_at_stack(_settings())
        if as_json:
            print(json.dumps(description, indent=2))
        else:
            _show_processes(console, description)
            _show_addresses(console, description)
        sys.exit(0 if description["ready"] else 1)


@app.command()
def logs(
    name: Annotated[str | None, typer.Argument(help="A process; all without one.")] = None,
    *,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as lines come.")] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, help="Lines of each.")] = 20,
) -> None:
    """Show what the processes wrote."""
    console = Console(highlight=False)
    with _explained(console):
        home, narrator = Home(_settings().home), Narrator(console)
        show_logs(home, name, narrator, line_count=lines)
        if follow:
            follow_logs(home, name, narrator)


@app.command()
def audit(*, as_json: AsJson = False) -> None:
    """Rebuild every sum and compare it with what was kept and published; exit 1 on a difference."""
    # The engine: half a second of CPU that no other command needs.
    from tools.auditing.command import Worker  # noqa: PLC0415
    from tools.auditing.command import audit as audit_log  # noqa: PLC0415

    console = Console(highlight=False)
    with _explained(console, as_json=as_json):
        settings = _settings()
        workers = [
            Worker(one["name"], f"http://127.0.0.1:{one['port']}")
            for one in (Home(settings.home).description() or {}).get("processes", [])
            if one["name"].startswith("accumulate")
        ]
        sys.exit(0 if audit_log(_bootstrap(settings), workers, as_machine=as_json) else 1)


@app.command()
def trace(
    unit: Annotated[str, typer.Argument(help="Id of the unit.")],
    event: Annotated[str, typer.Argument(help="Id of the event.")],
    *,
    unit_type: Annotated[str, typer.Option(help="Type of the unit.")] = "user",
    as_json: AsJson = False,
) -> None:
    """Say what became of one event, where, and why; exit 1 if there is no trace of it."""
    from tools.tracing.command import trace as trace_event  # noqa: PLC0415  # likewise
    from tools.tracing.rows import Unit  # noqa: PLC0415

    console = Console(highlight=False)
    with _explained(console, as_json=as_json):
        settings = _settings()
        known = trace_event(
            _bootstrap(settings),
            (Home(settings.home).description() or {}).get("query"),
            Unit.of(unit_type, unit),
            event,
            as_machine=as_json,
        )
        sys.exit(0 if known else 1)


@app.command()
def doctor(*, as_json: AsJson = False) -> None:
    """Look at what the stack needs of this machine, and say what to do."""
    console = Console(highlight=False)
    with _explained(console):
        findings = examine(_settings())
        if as_json:
            print(json.dumps([finding._asdict() for finding in findings], indent=2))
        else:
            for finding in findings:
                mark = "[green]ok[/]  " if finding.ok else "[red]bad[/] "
                console.print(f"{mark} {finding.subject:<12}", end="")
                console.print(finding.detail, markup=False, soft_wrap=True)
        sys.exit(0 if all(finding.ok for finding in findings) else 1)


@app.command()
def recount() -> None:
    """Empty what the engine remembers; its next start counts the log anew. The stack is down."""
    console = Console(highlight=False)
    with _explained(console):
        names = let_recount(_settings())
        console.print(f"emptied {', '.join(names)}; events, looks and history are as they were")
        console.print("`litmus up` counts litmus.events anew")


@app.command(hidden=True)
def setup() -> None:
    """Fetch Kafka's jars and compile kernels; what `make setup` calls."""
    console = Console(highlight=False)
    logging.basicConfig(
        level=logging.INFO, format="%(message)s", handlers=[RichHandler(console=console)]
    )
    logging.getLogger("jgo").setLevel(logging.WARNING)
    with _explained(console):
        setting_up.set_up(console.print)


@app.command(hidden=True)
def warm() -> None:
    """Compile kernels into numba's cache; part of `setup`, and of the image."""
    setting_up.warm(Console(highlight=False).print)


@worker.command("add")
def add() -> None:
    """Start another accumulate worker; return when it is live with its share."""
    console = Console(highlight=False)
    with _explained(console):
        name = add_worker(Home(_settings().home))
        console.print(f"{name} is live; `litmus worker drain {name}` lets it go again")


@worker.command("drain")
def drain(name: Annotated[str, typer.Argument(help="As in `litmus status`.")]) -> None:
    """Let a worker hand its partitions over at once and end; return when others are live."""
    console = Console(highlight=False)
    with _explained(console):
        drain_worker(Home(_settings().home), name)
        console.print(f"{name} is gone; the others are live with what it owned")


@topics.command("create")
def create(*, as_json: AsJson = False) -> None:
    """Create the topics that are missing."""
    console = Console(highlight=False)
    with _explained(console, as_json=as_json):
        settings = _settings()
        created = create_topics(_bootstrap(settings), settings.partitions)
        if as_json:
            print(json.dumps({"created": created}))
        else:
            console.print("\n".join(created) or "all topics are there")


@topics.command("list")
def list_topics(*, as_json: AsJson = False) -> None:
    """List the topics that exist on the broker."""
    console = Console(highlight=False)
    with _explained(console, as_json=as_json):
        counts = partition_counts(_bootstrap(_settings()))
        if as_json:
            print(json.dumps(counts, indent=2, sort_keys=True))
            return
        _show_table(
            console, [{"name": name, "partitions": counts[name]} for name in sorted(counts)]
        )


@topics.command("describe")
def describe(*, as_json: AsJson = False) -> None:
    """Say what every topic holds and how long."""
    console = Console(highlight=False)
    with _explained(console, as_json=as_json):
        described = describe_topics(_settings().partitions)
        if as_json:
            print(json.dumps(described, indent=2))
            return
        for topic in described:
            console.print(topic["name"], style="bold", markup=False)
            for field in [field for field in topic if field not in ("name", "value_schema")]:
                console.print(f"  {field.replace('_', ' '):<15} {topic[field]}", markup=False)


def _settings(**changed: Any) -> Settings:
    try:
        return Settings(**changed)
    except ValidationError as error:
        problems = [
            f"LITMUS_{str(problem['loc'][0]).upper()} == {problem['input']!r}: {problem['msg']}"
            for problem in error.errors()
        ]
        raise LitmusError("\n".join(problems)) from error


def _bootstrap(settings: Settings) -> str:
    """Return the broker of the settings, or of the stack that runs."""
    description = Home(settings.home).description()
    bootstrap = settings.kafka or (description or {}).get("kafka")
    if bootstrap is None:
        raise NotRunningError(
            f"No stack runs from {settings.home}: `litmus up` starts one, or LITMUS_KAFKA names "
            "a broker."
        )
    return str(bootstrap)


@contextmanager
def _explained(console: Console, *, as_json: bool = False) -> Iterator[None]:
    """Turn what a person can mend into a message and exit code 1."""
    try:
        yield
    except LitmusError as error:
        if as_json:
            print(json.dumps({"ready": False, "error": str(error)}))
        else:
            console.print(str(error), style="red", markup=False, soft_wrap=True)
        sys.exit(1)


def _show_processes(console: Console, description: dict[str, Any]) -> None:
    rows = [
        {
            "name": entry["name"],
            "pid": entry["pid"] or "-",
            "ready": "yes" if entry["ready"] else "no",
            "port": entry["port"],
            "restarts": entry["restarts"],
        }
        for entry in description["processes"]
    ]
    _show_table(console, rows)


def _show_addresses(console: Console, description: dict[str, Any]) -> None:
    for label, key in (
        ("page and results", "query"),
        ("gateway", "gateway"),
        ("Kafka", "kafka"),
        ("data and logs", "home"),
    ):
        console.print(f"{label:<17} {description[key]}", markup=False, soft_wrap=True)
    lag_ms = description.get("settled_lag_ms")
    if lag_ms is not None:
        console.print(f"{'settled time':<17} {lag_ms / 1_000:.1f} s behind log time", markup=False)


def _show_table(console: Console, rows: list[dict[str, Any]]) -> None:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in rows[0] if rows else ():
        table.add_column(column.replace("_", " "))
    for row in rows:
        table.add_row(*(str(value) for value in row.values()))
    console.print(table)
