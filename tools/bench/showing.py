"""What the terminal shows of measurements of memory and checkpoints."""

from typing import Any

from rich.console import Console
from rich.table import Table

MB = 1_000_000


def show_memory(console: Console, figures: dict[str, Any]) -> None:
    """Show what units and events cost, size by size, and how long batches took."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in (
        "units",
        "state",
        "B per unit",
        "events within",
        "B per event",
        "records",
        "RSS",
    ):
        table.add_column(column, justify="right")
    for point in figures["points"]:
        table.add_row(
            f"{point['units']:,}",
            f"{point['unit_bytes'] / MB:,.0f} MB",
            f"{point['unit_bytes'] / point['units']:,.1f}",
            f"{point['events_within']:,}",
            f"{point['event_bytes'] / point['events_within']:,.1f}",
            f"{point['record_bytes'] / MB:,.0f} MB",
            f"{point['rss_bytes'] / MB:,.0f} MB",
        )
    console.print("Sums equal numpy's; every row is in the ledger.\n")
    console.print(table)
    times = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("", "p50 ms", "p99 ms", "max ms", "CPU p99 ms", "CPU max ms", "of"):
        times.add_column(column, justify="right")
    for name in ("batch", "tick"):
        spans = figures[name]
        columns = ("p50_ms", "p99_ms", "max_ms", "cpu_p99_ms", "cpu_max_ms")
        times.add_row(name, *(f"{spans[one]:,.3f}" for one in columns), f"{spans['count']:,}")
    console.print()
    console.print(times)
    console.print()
    if figures["rss_bytes_per_unit"] is not None:
        console.print(f"RSS grows by {figures['rss_bytes_per_unit']} bytes a unit, all in")
    console.print(f"RSS at its peak {figures['rss_peak_bytes'] / MB:,.0f} MB")
    for bound in figures["exceeded"]:
        console.print(f"[red]{bound}[/]")


def show_checkpoints(console: Console, figures: dict[str, Any]) -> None:
    """Show the traffic, size by size, over all partitions."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("units", "chunks", "segments", "rest", "together", "lz4", "cycle"):
        table.add_column(column, justify="right")
    for size in figures["sizes"]:
        written = size["bytes_per_second"]
        chunks, segments = written.get("chunks", 0), written.get("segments", 0)
        total = sum(written.values())
        cycle_s = size["cycle_s"]
        table.add_row(
            f"{size['units']:,}",
            f"{chunks / MB:.2f} MB/s",
            f"{segments / MB:.2f} MB/s",
            f"{(total - chunks - segments) / MB:.3f} MB/s",
            f"{total / MB:.2f} MB/s",
            f"{sum(size['lz4_bytes_per_second'].values()) / MB:.2f} MB/s",
            "-" if cycle_s is None else f"{cycle_s:.0f} s",
        )
    console.print(
        f"At {figures['events_per_second']:,} events a second; every id was written once.\n"
    )
    console.print(table)
