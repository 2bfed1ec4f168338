"""``litmus import``: checks files whole, then sends them batch by batch."""

import hashlib
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, NamedTuple, Self

import msgspec
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from schemas.definitions import DEFAULT_PRECISION, KEEP_DAYS_MAX, PRECISION_MAX
from schemas.identifiers import NAME_RULE, is_name
from schemas.imports import IMPORT_ROWS_MAX
from schemas.times import parse_day
from tools.errors import LitmusError
from tools.importing.reading import Columns, read_files
from tools.importing.sending import Gateways, Sent, prepare, send_batches, shown_span
from tools.importing.survey import BadRow, Line, Span, Survey, batches, good_lines, survey
from tools.logged_settings import gateway_of_stack

BAD_ROWS_SHOWN_MAX = 20

Tell = Callable[[int], None]


class Job(NamedTuple):
    """What is to be imported, and how.

    Attributes:
        files: Files, in this order.
        columns: Where the fields of a row come from.
        span: Days that were asked for; None: those of the rows.
        rows_per_batch: Rows of every batch but the last.
        skip_bad: Where bad rows are written and left out; None: they stop the import.
    """

    files: list[Path]
    columns: Columns
    span: Span | None
    rows_per_batch: int
    skip_bad: Path | None

    def lines(self, on_bad: Callable[[BadRow], None], tell: Tell) -> Iterator[Line]:
        """Yield the good rows; ``tell`` how many were read."""
        for line in good_lines(read_files(self.files, self.columns), self.span or Span(), on_bad):
            tell(1)
            yield line

    def id_of(self, found: Survey) -> str:
        """Return the id of this import: the same files and options have the same one."""
        text = f"{found.sha256} {self.rows_per_batch} {shown_span(found)}"
        return f"files-{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def import_files(
    files: Annotated[list[Path], typer.Argument(help=".ndjson, .jsonl, .csv or .parquet")],
    *,
    import_id: Annotated[
        str | None, typer.Option("--id", help="Of the import; without it, made from the rows.")
    ] = None,
    metric: Annotated[str | None, typer.Option(help="Metric of every row.")] = None,
    unit_type: Annotated[str | None, typer.Option(help="Type of every unit.")] = None,
    unit_column: Annotated[str, typer.Option()] = "unit_id",
    timestamp_column: Annotated[
        str, typer.Option(help="RFC 3339, epoch milliseconds, or a UTC day.")
    ] = "timestamp",
    value_column: Annotated[str, typer.Option(help="Without it every value is 1.")] = "value",
    metric_column: Annotated[str, typer.Option()] = "metric",
    unit_type_column: Annotated[str, typer.Option()] = "unit_type",
    first: Annotated[
        str | None, typer.Option("--from", help="First UTC day; without it, that of the rows.")
    ] = None,
    last: Annotated[str | None, typer.Option("--to", help="Last UTC day, included.")] = None,
    keep_days: Annotated[
        int | None,
        typer.Option(min=1, max=KEEP_DAYS_MAX, help="Makes missing entries of the catalogue."),
    ] = None,
    precision: Annotated[
        int, typer.Option(min=0, max=PRECISION_MAX, help="Of entries that --keep-days makes.")
    ] = DEFAULT_PRECISION,
    gateway: Annotated[
        list[str] | None, typer.Option(help="Address; several are tried in turn.")
    ] = None,
    rows_per_batch: Annotated[int, typer.Option(min=1, max=IMPORT_ROWS_MAX)] = IMPORT_ROWS_MAX,
    skip_bad: Annotated[
        Path | None, typer.Option(help="Leave bad rows out, and write them to this file.")
    ] = None,
    dry_run: Annotated[bool, typer.Option(help="Check the files and send nothing.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="For a machine to read.")] = False,
) -> None:
    """Import history of units, for covariates: every row once, however often it is interrupted.

    The same command again goes on where it was. A bad row stops it before anything is sent.
    """
    console = Console(highlight=False, quiet=as_json, stderr=True)
    try:
        columns = Columns(
            unit_column, timestamp_column, value_column, metric_column, unit_type_column,
            metric, unit_type,
        )  # fmt: skip
        job = Job(files, columns, _span(first, last), rows_per_batch, skip_bad)
        found, bad_count = _check(console, job)
        name = _named(import_id) or job.id_of(found)
        report = _report(job, found, name, bad_count) | {"dry_run": dry_run}
        if not dry_run:
            urls = gateway or [gateway_of_stack()]
            sent = _send(console, job, found, name, urls, keep_days, precision)
            report |= sent._asdict()
        _show(report, as_json=as_json)
    except LitmusError as error:
        if as_json:
            print(json.dumps({"error": str(error)}))
        else:
            console.print(str(error), style="red", markup=False, soft_wrap=True)
        sys.exit(1)


def _check(console: Console, job: Job) -> tuple[Survey, int]:
    """Read and judge every row.

    Raises:
        LitmusError: If a row is bad and bad ones are not to be skipped.
    """
    bad = BadRows(job.skip_bad)
    with bad, _progress(console) as progress:
        task = progress.add_task("checked", total=None)
        found = survey(job.lines(bad.take, lambda count: progress.advance(task, count)), job.span)
    if bad.count and job.skip_bad is None:
        shown = [str(row) for row in bad.first]
        more = bad.count - len(shown)
        shown += [f"… and {more} more"] if more else []
        advice = "Nothing was sent. Mend them, or leave them out with --skip-bad FILE."
        raise LitmusError("\n".join([f"{bad.count} bad rows:", *shown, advice]))
    return found, bad.count


class BadRows:
    """Counts bad rows, keeps the first ones, and writes all to a file if there is one."""

    def __init__(self, path: Path | None) -> None:
        self.count = 0
        self.first: list[BadRow] = []
        self._path = path
        self._file: Any = None

    def __enter__(self) -> Self:
        self._file = self._path.open("wb") if self._path else None
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()

    def take(self, row: BadRow) -> None:
        """Take a bad row."""
        self.count += 1
        if len(self.first) < BAD_ROWS_SHOWN_MAX:
            self.first.append(row)
        if self._file is not None:
            place = {"file": str(row.found.path), "line": row.found.number}
            content = place | {"problem": row.problem, "row": row.found.row}
            self._file.write(msgspec.json.encode(content) + b"\n")


def _send(
    console: Console,
    job: Job,
    found: Survey,
    import_id: str,
    urls: list[str],
    keep_days: int | None,
    precision: int,
) -> Sent:
    gateways = Gateways(urls)
    try:
        following = prepare(gateways, import_id, found, keep_days=keep_days, precision=precision)
        if following > 1:
            console.print(f"import {import_id} goes on at batch {following}")
        with _progress(console) as progress:
            task = progress.add_task("imported", total=found.row_count)
            lines = job.lines(lambda _row: None, lambda _count: None)
            return send_batches(
                gateways,
                import_id,
                batches(lines, job.rows_per_batch),
                following=following,
                on_done=lambda count: progress.advance(task, count),
            )
    finally:
        gateways.close()


def _report(job: Job, found: Survey, import_id: str, bad_count: int) -> dict[str, Any]:
    return {
        "import_id": import_id,
        "rows": found.row_count,
        "metrics": found.metrics,
        **shown_span(found),
        "batches": -(-found.row_count // job.rows_per_batch),
        "bad_rows": bad_count,
    }


def _show(report: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(report))
        return
    days = f"{report['from']} to {report['to']}"
    what = f"{report['rows']} rows of {', '.join(report['metrics'])}, {days}"
    if report["dry_run"]:
        print(f"would import {what}, in {report['batches']} batches, as {report['import_id']}")
    else:
        print(f"imported {what}, as {report['import_id']}: {report['sent_count']} batches sent now")
    if report["bad_rows"]:
        print(f"{report['bad_rows']} bad rows were left out")


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("rows"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    )


def _named(import_id: str | None) -> str | None:
    if import_id is not None and not is_name(import_id):
        raise LitmusError(f"--id {import_id!r}, {NAME_RULE}")
    return import_id


def _span(first: str | None, last: str | None) -> Span | None:
    if first is None and last is None:
        return None
    if first is None or last is None:
        raise LitmusError("--from and --to go together: give both, or none.")
    try:
        return Span(parse_day(first), parse_day(last))
    except ValueError as error:
        raise LitmusError(f"--from and --to: {error}") from error
