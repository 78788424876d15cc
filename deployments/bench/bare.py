"""The floor of the benchmark of requests: the framework, one route, the same bytes.

uvicorn --factory deployments.bench.bare:app_from_environment
"""

from __future__ import annotations

import os
from pathlib import Path

from fastapi import FastAPI, Response


def app_from_environment() -> FastAPI:
    """Makes an app whose ``/`` answers with the file named by ``FEDMED_BENCH_BODY``."""
    body = Path(os.environ["FEDMED_BENCH_BODY"]).read_bytes()
    app = FastAPI()

    @app.get("/")
    async def answer() -> Response:
        return Response(body, media_type="application/json")

    return app
