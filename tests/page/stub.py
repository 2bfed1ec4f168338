"""A double of the query API that moves when told to, for the page alone.

``python -m tests.page.stub`` serves every state on port 8090 and moves twice a second.
"""

import asyncio
import math
import socket
import sys
import threading
import time
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI, HTTPException, WebSocket, WebSocketDisconnect
from fastapi.responses import FileResponse
from fastapi.staticfiles import StaticFiles

from query_api.history.imports import ImportAccount
from query_api.history.queries import Checked, Comparison
from query_api.history.writer import Position
from query_api.kafka_log import Source
from query_api.ledger import Cut, compose
from schemas.times import format_time_ms, parse_time_ms
from schemas.topics import DEAD_LETTERS, EVENTS, LATE, LOOKS

PAGE = Path(__file__).parents[2] / "query_api" / "page"
TICK_MS = 200
BURN_IN = 100

Json = dict[str, Any]


def conversion_effect(control: Json, treatment: Json, *, n_star: int = 5_000) -> Json:
    """Return an effect as the contract has it, from {variant, units, total} of two variants."""
    pair = {"variant": treatment["variant"], "control": control["variant"]}
    n_c, n_t = control["units"], treatment["units"]
    if min(n_c, n_t) < 2:
        return {**pair, "status": "no_units", "absolute": None, "relative": None, "cuped": None}
    p_c, p_t = control["total"] / n_c, treatment["total"] / n_t
    estimate = p_t - p_c
    std_error = math.sqrt(p_c * (1 - p_c) / (n_c - 1) + p_t * (1 - p_t) / (n_t - 1)) or 1e-9
    z = estimate / std_error
    absolute: Json = {
        "estimate": estimate,
        "std_error": std_error,
        "fixed_horizon": {
            "test": "z",
            "statistic": z,
            "p_value": math.erfc(abs(z) / math.sqrt(2)),
            "low": estimate - 1.96 * std_error,
            "high": estimate + 1.96 * std_error,
        },
        "always_valid": None,
    }
    warm = min(n_c, n_t) >= BURN_IN
    if warm:
        rho2 = (-2 * math.log(0.05) + math.log(1 - 2 * math.log(0.05))) / n_star
        k = (n_c + n_t) * rho2
        critical = math.sqrt((1 + k) / k * 2 * math.log(math.sqrt(1 + k) / 0.05))
        low, high = estimate - critical * std_error, estimate + critical * std_error
        p_value = min(1.0, math.sqrt(1 + k) * math.exp(-k / (1 + k) * z * z / 2))
        running = {"running_p_value": p_value, "running_low": low, "running_high": high}
        absolute["always_valid"] = {"p_value": p_value, "low": low, "high": high, **running}
    ratio = p_t / p_c - 1 if p_c else None
    nothing = {"low": None, "high": None, "status": "undefined"}
    relative = {"estimate": ratio, "fixed_horizon": nothing, "always_valid": nothing}
    status = "ok" if warm else "warming_up"
    return {**pair, "status": status, "absolute": absolute, "relative": relative, "cuped": None}


class Experiment:
    """One experiment of the double, with all the looks it ever had."""

    def __init__(
        self,
        experiment_id: str,
        *,
        name: str = "",
        units: tuple[int, int] = (0, 0),
        rates: tuple[float, float] = (0.1, 0.1),
        step: tuple[int, int] = (7, 7),
        mismatch: bool = False,
        status: str = "running",
        guardrail: bool = False,
    ) -> None:
        self.experiment_id = experiment_id
        self.name = name or experiment_id
        self.units = list(units)
        self.rates = rates
        self.step = step
        self.mismatch = mismatch
        self.status = status
        self.guardrail = guardrail
        self.final = False
        self.version = 3
        self.tick = 8_976_420
        self.started_ms = int(time.time() * 1000) - 3_600_000
        self.looks: dict[int, Json] = {}
        self.kept: dict[str, tuple[float, float]] = {}

    def metrics(self) -> list[Json]:
        """Return the metrics of the definition."""
        first = {"id": "purchase", "kind": "conversion", "event": "purchase", "role": "decision"}
        purchase = {**first, "direction": "increase", "window": "30m", "margin": None}
        if not self.guardrail:
            return [purchase]
        margin = {"absolute": 0.01}
        refund = {**purchase, "id": "refund", "event": "refund", "role": "guardrail"}
        return [purchase, {**refund, "direction": "decrease", "margin": margin}]

    def definition(self) -> Json:
        """Return the public definition."""
        started = None if self.status == "draft" else format_time_ms(self.started_ms)
        hypothesis = {
            "null": "The colour of the button changes nothing",
            "alternative": "A green button gets more purchases",
            "minimum_effect": 0.01,
        }
        return {
            "id": self.experiment_id,
            "name": self.name,
            "unit_type": "user",
            "hypothesis": hypothesis if self.guardrail else None,
            "variants": [
                {"id": "control", "weight": 0.5, "is_control": True},
                {"id": "treatment", "weight": 0.5, "is_control": False},
            ],
            "metrics": self.metrics(),
            "analysis": {"method": "always_valid", "alpha": 0.05, "n_star": 5000},
            "status": self.status,
            "version": self.version,
            "created_at": format_time_ms(self.started_ms - 60_000),
            "started_at": started,
            "stopped_at": format_time_ms(self.started_ms + 3_000_000) if self.final else None,
        }

    def advance(self) -> Json:
        """Let some units enter and return the look after it."""
        self.units = [count + step for count, step in zip(self.units, self.step, strict=True)]
        self.tick += 1
        results = self._results()
        self.looks[self.tick] = results
        return results

    def results(self) -> Json:
        """Return the current results, without a look when there is none."""
        if self.looks:
            return self.looks[self.tick]
        none: Json = {"look": None, "variants": [], "sample_ratio": None, "metrics": []}
        about = {"experiment_id": self.experiment_id, "version": self.version}
        return {**about, "status": self.status, "crossovers": 0, **none}

    def _results(self) -> Json:
        now_ms = int(time.time() * 1000)
        variants = [
            {"variant": variant, "units": units}
            for variant, units in zip(("control", "treatment"), self.units, strict=True)
        ]
        expected = sum(self.units) / 2 or 1
        chi_square = sum((units - expected) ** 2 / expected for units in self.units)
        look = {"tick": self.tick, "as_of": format_time_ms(now_ms), "age_ms": 84}
        return {
            "experiment_id": self.experiment_id,
            "version": self.version,
            "status": self.status,
            "final": self.final,
            "look": {**look, "behind": [], "offsets": {"0": self.tick}},
            "variants": variants,
            "crossovers": self.units[0] // 400,
            "sample_ratio": {
                "chi_square": chi_square,
                "degrees_of_freedom": 1,
                "p_value": math.erfc(math.sqrt(chi_square / 2)),
                "sequential_p_value": 0.00002 if self.mismatch else 1.0,
                "mismatch": self.mismatch,
            },
            "metrics": [
                self._metric(metric, basis)
                for metric in self.metrics()
                for basis in ("matured", "open")
            ],
        }

    def _metric(self, metric: Json, basis: str) -> Json:
        shrink = 0.2 if metric["id"] == "refund" else 1.0
        share = 1.0 if self.final or basis == "open" else 0.8
        variants = []
        wave = 1 + 0.04 * math.sin(self.tick / 9)
        rates = zip(("control", "treatment"), self.units, self.rates, strict=True)
        for variant, entered, rate in rates:
            units = int(entered * share)
            moved = rate * shrink * (wave if variant == "treatment" and not self.final else 1.0)
            total = round(units * moved * (0.9 if basis == "open" and not self.final else 1.0))
            sums: dict[str, float | None] = {"mean": None, "variance": None, "std_error": None}
            if units > 1:
                mean = total / units
                variance = units / (units - 1) * mean * (1 - mean)
                std_error = math.sqrt(variance / units)
                sums = {"mean": mean, "variance": variance, "std_error": std_error}
            variants.append({"variant": variant, "units": units, "total": total, **sums})
        effect = conversion_effect(*variants)
        if effect["absolute"]:
            self._keep(metric["id"], basis, effect)
        of = {"metric_id": metric["id"], "kind": metric["kind"], "role": metric["role"]}
        about = {**of, "basis": basis, "window": metric["window"]}
        return {**about, "variants": variants, "effects": [effect]}

    def _keep(self, metric_id: str, basis: str, effect: Json) -> None:
        """Intersect the intervals of all looks; open totals have none."""
        interval = effect["absolute"]["always_valid"]
        if basis == "open":
            del effect["absolute"]["always_valid"]
            effect["status"] = "ok"
        elif interval:
            low, high = self.kept.get(metric_id, (-math.inf, math.inf))
            low, high = max(low, interval["low"]), min(high, interval["high"])
            self.kept[metric_id] = low, high
            interval["running_low"], interval["running_high"] = low, high
            if low > high:
                effect["status"] = "empty_intersection"
                interval["running_low"] = interval["running_high"] = None


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
        ImportAccount("history-2025", 3, 12_400, 5_000, 6, 12_400 - import_lost),
        ImportAccount("spend", 1, 800, 0, 2, 800),
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
    async def get_results(experiment_id: str) -> Json:
        return known(experiment_id).results()

    @app.get("/v1/experiments/{experiment_id}/timeseries")
    async def get_timeseries(experiment_id: str, metric: str) -> Json:
        rows = []
        for tick, results in known(experiment_id).looks.items():
            effect = next(m for m in results["metrics"] if m["metric_id"] == metric)["effects"][0]
            absolute = effect["absolute"] or {}
            interval = absolute.get("always_valid") or {"low": None, "high": None}
            at = {"ts": parse_time_ms(results["look"]["as_of"]), "tick": tick}
            bounds = {"low": interval["low"], "high": interval["high"]}
            rows.append({**at, "effect": absolute.get("estimate"), **bounds})
        return {"rows": rows, "truncated": False}

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
    world.add(Experiment("broken-split", units=(9_000, 8_100), rates=rates, mismatch=True))
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
