"""A double of the query API that moves when told to, for the page alone.

``python -m tests.page.stub`` serves every state on port 8090 and moves twice a second.
"""

import asyncio
import math
import socket
import sys
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any, Literal

import msgspec
import uvicorn
from fastapi import FastAPI, HTTPException, WebSocket, WebSocketDisconnect
from fastapi.responses import FileResponse
from fastapi.staticfiles import StaticFiles

from query_api.history.imports import ImportAccount
from query_api.history.queries import Checked, Comparison
from query_api.history.writer import Position
from query_api.kafka_log import Source
from query_api.ledger import Cut, compose
from query_api.measuring import read
from query_api.planning import answer, read_question
from query_api.snapshots import by_segment
from schemas.definitions import Analysis, CapQuantile, Definition, Metric, Variant, public
from schemas.times import format_time_ms, parse_time_ms
from schemas.topics import DEAD_LETTERS, EVENTS, LATE, LOOKS
from stream_processors.merge.path import ExperimentPath
from stream_processors.merge.totals import Totals
from stream_processors.stats.sums import JointSums, MetricSums
from tests.page.crowd import COUNTRIES, Crowd
from tests.page.looks import look_at, totals_of

PAGE = Path(__file__).parents[2] / "query_api" / "page"

Json = dict[str, Any]


WINDOW_MS = 1_800_000

ALWAYS_VALID = Analysis()

PURCHASE = Metric("purchase", "conversion", "purchase", window_ms=WINDOW_MS)
REFUND = Metric(
    "refund",
    "conversion",
    "refund",
    role="guardrail",
    direction="decrease",
    window_ms=WINDOW_MS,
    margin={"absolute": 0.01},
)


class Experiment:
    """One experiment of the double, with all the looks it ever had: rates of conversion."""

    def __init__(
        self,
        experiment_id: str,
        *,
        name: str = "",
        units: tuple[int, int] = (0, 0),
        rates: tuple[float, float] = (0.1, 0.1),
        step: tuple[int, int] = (7, 7),
        status: Literal["draft", "running", "stopped"] = "running",
        guardrail: bool = False,
        analysis: Analysis = ALWAYS_VALID,
    ) -> None:
        self.experiment_id = experiment_id
        self.name = name or experiment_id
        self.units = list(units)
        self.rates = rates
        self.step = step
        self.status = status
        self.guardrail = guardrail
        self.analysis = analysis
        self.final = False
        self.version = 3
        self.tick = 8_976_420
        self.started_ms = int(time.time() * 1000) - 3_600_000
        self.looks: dict[int, Json] = {}
        self.path = ExperimentPath()
        self.by_attribute: Json = {}

    def metrics(self) -> list[Metric]:
        """Return the metrics of the definition."""
        return [PURCHASE, REFUND] if self.guardrail else [PURCHASE]

    @property
    def segments(self) -> dict[str, list[str]]:
        """Return the segments of the definition."""
        return {}

    def defined(self) -> Definition:
        """Return the definition as the processors have it."""
        hypothesis = {
            "null": "The colour of the button changes nothing",
            "alternative": "A green button gets more purchases",
            "minimum_effect": 0.02,
        }
        return Definition(
            id=self.experiment_id,
            ordinal=0,
            version=self.version,
            variants=[Variant("control", 0.5, is_control=True), Variant("treatment", 0.5)],
            metrics=self.metrics(),
            seed=self.experiment_id,
            name=self.name,
            hypothesis=hypothesis if self.guardrail else None,
            segments=self.segments,
            analysis=self.analysis,
            status=self.status,
            created_at_ms=self.started_ms - 60_000,
            started_at_ms=None if self.status == "draft" else self.started_ms,
            stopped_at_ms=self.started_ms + 3_000_000 if self.final else None,
        )

    def definition(self) -> Json:
        """Return the public definition."""
        return public(self.defined())

    def advance(self) -> Json:
        """Let some units enter and return the look after it."""
        self.units = [count + step for count, step in zip(self.units, self.step, strict=True)]
        self.tick += 1
        now_ms = int(time.time() * 1000)
        definition, totals = self.defined(), self.totals()
        look = look_at(definition, totals, tick=self.tick, now_ms=now_ms, before=self.path)
        self.path = look.path_after
        self.looks[self.tick] = look.results
        self.by_attribute = look.record["segments"]
        return look.results

    def totals(self) -> Totals:
        """Return the sums of the present look."""
        return totals_of(self.defined(), tuple(self.units), self.sums, is_final=self.final)

    def results(self) -> Json:
        """Return the current results, without a look when there is none."""
        if self.looks:
            return self.looks[self.tick]
        none: Json = {"look": None, "variants": [], "sample_ratio": None, "metrics": []}
        about = {"experiment_id": self.experiment_id, "version": self.version}
        return {**about, "status": self.status, "crossovers": 0, **none}

    def sums(self, metric: Metric, basis: str) -> tuple[MetricSums, ...]:
        """Return sums per variant: four of five units have matured, one of ten is still to buy."""
        shrink = 0.2 if metric.id == "refund" else 1.0
        share = 1.0 if self.final or basis == "open" else 0.8
        late = 0.9 if basis == "open" and not self.final else 1.0
        wave = 1.0 if self.final else 1 + 0.04 * math.sin(self.tick / 9)
        found = []
        for entered, rate, moved in zip(self.units, self.rates, (1.0, wave), strict=True):
            units = int(entered * share)
            converted = round(units * rate * shrink * moved * late)
            found.append(MetricSums(JointSums(units, (converted,), (converted,))))
        return tuple(found)


PAST_AND_FUTURE = [
    PURCHASE,
    Metric("spend", "sum", "order", window_ms=WINDOW_MS, precision=2, covariate_days=14),
    Metric(
        "load_time",
        "quantile",
        "load",
        role="guardrail",
        direction="decrease",
        window_ms=WINDOW_MS,
        precision=2,
        margin={"relative": 0.05},
        quantile=0.9,
        of="events",
    ),
    Metric(
        "order_value",
        "ratio",
        "order",
        role="secondary",
        window_ms=WINDOW_MS,
        precision=2,
        denominator="orders",
    ),
    Metric("basket", "mean", "order", role="secondary", window_ms=WINDOW_MS, precision=2),
    Metric(
        "usual_spend",
        "sum",
        "order",
        role="secondary",
        window_ms=WINDOW_MS,
        precision=2,
        cap=CapQuantile(0.99),
    ),
    Metric("orders", "count", "order", role="secondary"),
]


class RichExperiment(Experiment):
    """One of every kind of metric, with a covariate, a cap and segments, of units drawn once.

    ``lost_country``: the treatment lacks units of it, and has as many of another one instead.
    """

    def __init__(
        self,
        experiment_id: str,
        *,
        lift: float = 0.1,
        size: int = 6_000,
        analysis: Analysis = ALWAYS_VALID,
        lost_country: str | None = None,
    ) -> None:
        super().__init__(experiment_id, guardrail=True, analysis=analysis, units=(size - 700,) * 2)
        treated = Crowd.drawn(size, seed=2, lift=lift)
        if lost_country is not None:
            treated = treated.without_a_third_of(COUNTRIES.index(lost_country))
        self.crowds = (Crowd.drawn(size, seed=1), treated)

    def metrics(self) -> list[Metric]:
        """Return one metric of every kind."""
        return PAST_AND_FUTURE

    @property
    def segments(self) -> dict[str, list[str]]:
        """Return one attribute."""
        return {"country": list(COUNTRIES[:-1])}

    def sums(self, metric: Metric, basis: str) -> tuple[MetricSums, ...]:
        """Return the sums over the units that have entered, or matured."""
        return self._sums(metric, basis)

    def totals(self) -> Totals:
        """Return the sums of the present look, those of every country beside them."""
        return super().totals()._replace(segments={"country": self._countries()})

    def _countries(self) -> dict[str, Totals]:
        """Return the sums over the units of every country."""
        found = {}
        for index, value in enumerate(COUNTRIES):
            units = tuple(
                len(crowd.first(entered, index).orders)
                for crowd, entered in zip(self.crowds, self.units, strict=True)
            )
            of_country = partial(self._sums, country=index)
            found[value] = totals_of(self.defined(), units, of_country, is_final=self.final)
        return found

    def _sums(
        self, metric: Metric, basis: str, country: int | None = None
    ) -> tuple[MetricSums, ...]:
        share = 1.0 if self.final or basis == "open" else 0.8
        return tuple(
            crowd.first(int(entered * share), country).sums(metric)
            for crowd, entered in zip(self.crowds, self.units, strict=True)
        )


def a_ledger(
    *,
    lost: int = 0,
    behind: int = 0,
    in_flight: int = 0,
    import_lost: int = 0,
    started_ms: int = 1_795_284_000_000,
) -> Json:
    """Return the ledger of two partitions with 900 rows each below the engine's offset.

    The real composition over made-up accounts; ``lost``: rows of partition 1 that the engine lacks;
    ``behind``: rows of partition 1 that the history lacks; ``in_flight``: rows above its offset;
    ``import_lost``: rows of an import that the log lacks.
    """

    def account(partition: int, received: int) -> Json:
        fates = {"duplicate": 20, "conflict": 1, "stale": 3, "refused": 0}
        fresh = received - sum(fates.values())
        head = {"partition": partition, "offset": 100, "received": received}
        return {**head, "fresh": fresh, **fates}

    partitions = [account(0, 900), account(1, 900 - lost)]
    fates = ("received", "fresh", "duplicate", "conflict", "stale", "refused")
    as_of = format_time_ms(started_ms)
    engine = {
        "tick": 8_976_420,
        "as_of": as_of,
        "settled": format_time_ms(started_ms - 400),
        "rows": {fate: sum(one[fate] for one in partitions) for fate in fates},
        "partitions": partitions,
        "experiments": {
            "checkout-color": {"counted": 1_204, "outside_window": 31}
            | {"excluded": 12, "no_assignment": 207},
            "search-ranking": {"counted": 88, "outside_window": 0}
            | {"excluded": 0, "no_assignment": 1_366},
        },
        # Of the batch that is under way one partition has its part.
        "imports": {
            "history-2025": {"parts": 7, "rows": 14_900},
            "spend": {"parts": 2, "rows": 800},
        },
    }
    stored = {
        Source(EVENTS.name, 0): Position(100, 900),
        Source(EVENTS.name, 1): Position(99 if behind else 110, 900 - behind + in_flight),
        Source(LATE.name, 0): Position(2, 14),
        Source(DEAD_LETTERS.name, 0): Position(5, 5),
        Source(LOOKS.name, 0): Position(312, 312),
    }
    rows = {
        source.partition: p.row_count for source, p in stored.items() if source.topic == EVENTS.name
    }
    total = sum(rows.values())
    nothing = Comparison(0, 0, 0)
    checked = Checked(
        events=Comparison(total, 0, 0),
        late=nothing._replace(rows=14),
        dead_letters=nothing._replace(rows=5),
        log_rows=total,
        offsets_rows=rows,
        looks_conflicting=0,
    )
    received = {0: 900, 1: 900 - behind}
    imports = [
        ImportAccount("history-2025", 3, 12_400, 5_000, 6, 12_400 - import_lost, 7, 14_900),
        ImportAccount("spend", 1, 800, 0, 2, 800, 2, 800),
    ]
    return compose(engine, Cut(stored, {}, received, checked, imports, started_ms + 180))


class World:
    """All experiments of the double and who watches them. Methods may be called from a test."""

    def __init__(self) -> None:
        self.experiments: dict[str, Experiment] = {}
        self.broken = False
        self.muted = False
        self.ledger = a_ledger()
        self.loop: asyncio.AbstractEventLoop | None = None
        self._watchers: dict[str, set[asyncio.Queue[Json | None]]] = {}

    def add(self, experiment: Experiment) -> Experiment:
        """Make an experiment known."""
        self.experiments[experiment.experiment_id] = experiment
        return experiment

    def advance(self, experiment_id: str) -> Json:
        """Publish the next look of an experiment; nobody hears of it while muted."""
        results = self.experiments[experiment_id].advance()
        if not self.muted:
            self._send(experiment_id, results)
        return results

    def disconnect(self) -> None:
        """Close every socket."""
        for experiment_id in list(self._watchers):
            self._send(experiment_id, None)

    def _send(self, experiment_id: str, results: Json | None) -> None:
        for queue in list(self._watchers.get(experiment_id, ())):
            assert self.loop is not None
            self.loop.call_soon_threadsafe(queue.put_nowait, results)

    async def watch(self, experiment_id: str, websocket: WebSocket) -> None:
        """Send the current results, then every look, until somebody closes."""
        queue: asyncio.Queue[Json | None] = asyncio.Queue()
        self._watchers.setdefault(experiment_id, set()).add(queue)
        try:
            await websocket.send_json(self.experiments[experiment_id].results())
            while (results := await queue.get()) is not None:
                await websocket.send_json(results)
            await websocket.close()
        except WebSocketDisconnect:
            pass
        finally:
            self._watchers[experiment_id].discard(queue)


def create_app(world: World) -> FastAPI:
    """Return the double of the API over a world."""
    app = FastAPI()

    def known(experiment_id: str) -> Experiment:
        if world.broken:
            raise HTTPException(503, "Kafka does not answer")
        if experiment_id not in world.experiments:
            raise HTTPException(404, f"no experiment {experiment_id!r}")
        return world.experiments[experiment_id]

    @app.get("/v1/experiments")
    async def list_experiments() -> Json:
        if world.broken:
            raise HTTPException(503, "Kafka does not answer")
        return {"experiments": [one.definition() for one in world.experiments.values()]}

    @app.get("/v1/experiments/{experiment_id}")
    async def get_experiment(experiment_id: str) -> Json:
        return known(experiment_id).definition()

    @app.get("/v1/experiments/{experiment_id}/results")
    async def get_results(experiment_id: str, segment: str | None = None) -> Json:
        if segment is not None:
            experiment = known(experiment_id)
            return by_segment(experiment.results(), experiment.by_attribute, segment)
        return known(experiment_id).results()

    @app.get("/v1/experiments/{experiment_id}/plan")
    async def get_plan(
        experiment_id: str, metric: str, power: float, relative_effect: float | None = None
    ) -> Json:
        experiment = known(experiment_id)
        measured = read(experiment.definition(), experiment.results(), metric)
        question = measured.question | {"power": power, "curve": True}
        if relative_effect is not None:
            question["effect"] = {"relative": relative_effect}
        if "effect" not in question and "margin" not in question:
            question["units"] = measured.all_units
        found = msgspec.to_builtins(answer(read_question(question)))
        return {"units": measured.all_units, "question": question, "answer": found}

    @app.get("/v1/experiments/{experiment_id}/timeseries")
    async def get_timeseries(experiment_id: str, metric: str) -> Json:
        rows = []
        for tick, results in known(experiment_id).looks.items():
            effect = next(m for m in results["metrics"] if m["metric_id"] == metric)["effects"][0]
            absolute = effect["absolute"]
            interval = absolute["always_valid"] or {"low": None, "high": None}
            at = {"ts": parse_time_ms(results["look"]["as_of"]), "tick": tick}
            bounds = {"low": interval["low"], "high": interval["high"], "interval": "always_valid"}
            rows.append({**at, "effect": absolute["estimate"], **bounds})
        return {"method": "always_valid", "rows": rows, "truncated": False}

    @app.get("/v1/ledger")
    async def get_ledger() -> Json:
        if world.broken:
            raise HTTPException(503, "Kafka does not answer")
        return world.ledger

    @app.websocket("/v1/experiments/{experiment_id}/live")
    async def live(websocket: WebSocket, experiment_id: str) -> None:
        if world.broken:
            await websocket.close()
            return
        await websocket.accept()
        world.loop = asyncio.get_running_loop()
        await world.watch(experiment_id, websocket)

    @app.get("/")
    async def page() -> FileResponse:
        return FileResponse(PAGE / "index.html")

    app.mount("/static", StaticFiles(directory=PAGE))
    return app


class StubServer:
    """The double on a free loopback port, in a thread of its own."""

    def __init__(self, world: World, port: int = 0) -> None:
        self.world = world
        self._socket = socket.create_server(("127.0.0.1", port))
        self.address = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        config = uvicorn.Config(create_app(world), log_level="warning", timeout_graceful_shutdown=1)
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, args=([self._socket],))

    def start(self) -> None:
        """Serve."""
        self._thread.start()

    def stop(self) -> None:
        """Serve no more; returns when the thread has ended."""
        self.world.disconnect()
        self._server.should_exit = True
        self._thread.join()
        self._socket.close()


def every_state() -> World:
    """Return a world with an experiment in each state."""
    world = World()
    rates = (0.113, 0.131)
    world.add(
        Experiment(
            "checkout-color",
            name="Checkout colour",
            units=(2_400, 2_410),
            rates=(0.113, 0.116),
            guardrail=True,
        )
    )
    world.add(Experiment("search-ranking", units=(30_000, 30_020), rates=rates))
    world.add(Experiment("new-signup", name="New sign-up <form>", units=(20, 21), step=(1, 1)))
    world.add(Experiment("broken-split", units=(9_000, 8_100), rates=rates))
    world.add(RichExperiment("new-basket"))
    finished = world.add(
        Experiment("free-shipping", units=(10_000, 10_000), rates=(0.1, 0.09), status="stopped")
    )
    finished.final = True
    world.add(Experiment("dark-mode", status="draft"))
    for experiment_id, experiment in world.experiments.items():
        if experiment.status != "draft":
            world.advance(experiment_id)
    return world


def main() -> None:
    """Serve every state and let the running ones move."""
    world = every_state()
    server = StubServer(world, port=8090)
    server.start()
    sys.stdout.write(f"{server.address}\n")
    sys.stdout.flush()
    try:
        while True:
            time.sleep(0.5)
            for experiment_id, experiment in world.experiments.items():
                if experiment.status == "running":
                    world.advance(experiment_id)
    except KeyboardInterrupt:
        server.stop()


if __name__ == "__main__":
    main()
