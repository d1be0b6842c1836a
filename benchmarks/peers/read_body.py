"""The least that an endpoint of FastAPI can do: read the body, keep nothing, answer."""

from __future__ import annotations

from fastapi import FastAPI, Request

app = FastAPI()


@app.post("/api/callback")
async def callback(request: Request, provider: str) -> dict[str, str]:
    """Accept and forget."""
    body = await request.body()
    return {"status": "accepted", "bytes": str(len(body)), "provider": provider}
