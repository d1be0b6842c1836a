"""The endpoint that most people would write: the body as a dictionary, `json.dump` into a dated folder."""

from __future__ import annotations

import json
import os
import uuid
from datetime import datetime
from pathlib import Path
from typing import Any

from fastapi import FastAPI

ROOT = Path(os.environ["BENCHMARK_FOLDER"])

app = FastAPI()


@app.post("/api/callback")
async def callback(provider: str, payload: dict[str, Any]) -> dict[str, str]:
    """Write a file that no power cut is asked about, and answer."""
    return keep(provider, payload)


def keep(provider: str, payload: dict[str, Any]) -> dict[str, str]:
    """Write the file as a first draft would; the answer's body."""
    now = datetime.now().astimezone()
    receipt_id = str(uuid.uuid4())
    folder = ROOT / now.date().isoformat()
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{payload['envelopeId']}_{receipt_id}.json"
    with path.open("w") as file:
        json.dump({"timestamp": now.isoformat(), "originalPayload": payload, "provider": provider}, file)
    return {"status": "accepted", "id": receipt_id}
