"""`signspool simulate PROVIDER`: one provider alone, as its own guide tells."""

from __future__ import annotations

import re
from pathlib import Path

import httpx

from tests.nursery import Nursery
from tests.waiting import PATIENCE_SECONDS, wait_until


def test_one_provider_runs_alone_and_its_guide_holds(nursery: Nursery, tmp_path: Path) -> None:
    """A session is begun, signed and read with the addresses and the key that were printed."""
    log = tmp_path / "guide.txt"
    process = nursery.start(["simulate", "restpki", "--port", "0"], log)
    wait_until(lambda: not process.is_running() or "Ctrl-C" in log.read_text(), "the guide")
    guide = log.read_text()
    [api, key] = re.findall(r"^Rest PKI +(\S+) +X-Api-Key: (\S+)$", guide, re.MULTILINE)[0]
    root = api.removesuffix("/restpki")
    body = re.findall(r"-d '(.*?)' \S+/signature-sessions$", guide, re.MULTILINE)[0]
    with httpx.Client(timeout=PATIENCE_SECONDS, verify=False) as client:
        headers = {"X-Api-Key": key}
        session = client.post(f"{api}/api/signature-sessions", content=body, headers=headers).json()
        assert client.get(session["redirectUrl"]).status_code == 200
        signed = client.post(f"{root}/_events/restpki/{session['sessionId']}/sign").json()
        assert signed["status"] == "Completed"
        assert signed["redirect"].endswith(f"&signatureSessionId={session['sessionId']}")
        for switches in re.findall(r"PATCH -d '(.*?)'", guide):
            assert client.patch(f"{root}/_switches/restpki", content=switches).status_code == 200
        storm = re.findall(r"-d '(.*?)' \S+/_weather$", guide, re.MULTILINE)[0]
        assert client.post(f"{root}/_weather", content=storm).status_code == 200
        read = f"{api}/api/signature-sessions/{session['sessionId']}"
        statuses = [client.get(read, headers=headers).status_code for _ in range(4)]
        assert statuses == [503, 503, 503, 200]
        assert client.get(f"{root}/ssign/rest").status_code == 404
    process.kill()
