"""A database as the intake: one INSERT through asyncpg, committed before the answer."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg  # type: ignore[import-untyped]  # it has no types
from fastapi import FastAPI, Request

TABLE = """CREATE TABLE IF NOT EXISTS callbacks (
    id uuid PRIMARY KEY, provider text NOT NULL,
    received_at timestamptz NOT NULL DEFAULT now(), body jsonb NOT NULL)"""
INSERT = "INSERT INTO callbacks (id, provider, body) VALUES ($1, $2, $3)"


@asynccontextmanager
async def _lifespan(application: FastAPI) -> AsyncIterator[None]:
    async with asyncpg.create_pool(os.environ["BENCHMARK_DATABASE"], min_size=10, max_size=10) as pool:
        await pool.execute(TABLE)
        application.state.pool = pool
        yield


app = FastAPI(lifespan=_lifespan)


@app.post("/api/callback")
async def callback(request: Request, provider: str, payload: dict[str, Any]) -> dict[str, str]:
    """Insert, and answer once PostgreSQL has it on disk."""
    receipt_id = uuid.uuid4()
    await request.app.state.pool.execute(INSERT, receipt_id, provider, json.dumps(payload))
    return {"status": "accepted", "id": str(receipt_id)}
