"""The same endpoint in the thread pool, where the framework puts what may block when it is a plain `def`."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI

from benchmarks.peers.json_dump import keep

app = FastAPI()


@app.post("/api/callback")
def callback(provider: str, payload: dict[str, Any]) -> dict[str, str]:
    """Write a file that no power cut is asked about, and answer."""
    return keep(provider, payload)
