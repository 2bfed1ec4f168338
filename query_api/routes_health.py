"""What operators ask: whether it lives, whether it is ready, what it counts."""

from pathlib import Path
from typing import Any

from fastapi import APIRouter, Response
from fastapi.responses import FileResponse, JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from query_api.routes import PartsOf

router = APIRouter()

PAGE = Path(__file__).with_name("page")


@router.get("/health")
async def get_health() -> dict[str, str]:
    """Return 200 as long as the process answers."""
    return {"status": "ok"}


@router.get("/ready")
async def get_ready(parts: PartsOf) -> JSONResponse:
    """Return 200 once all that was published before the start is served.

    How far the history is does not count: copying the log may take long, and results never come
    from ClickHouse. Until it has caught up the past is answered as far as it is stored.
    """
    answer: dict[str, Any] = {
        "ready": parts.snapshots.caught_up,
        "snapshots": {"caught_up": parts.snapshots.caught_up, "experiments": len(parts.snapshots)},
        "history": {"caught_up": parts.sink.caught_up, "failure": parts.sink.failure},
    }
    return JSONResponse(answer, 200 if answer["ready"] else 503)


@router.get("/metrics")
async def get_metrics() -> Response:
    """Return what this process counts, in Prometheus' text format."""
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)


@router.get("/", include_in_schema=False)
async def get_page() -> FileResponse:
    """Return the live page."""
    return FileResponse(PAGE / "index.html")
