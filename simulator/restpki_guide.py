"""What to try with Rest PKI Core alone, for a person who integrates."""

from __future__ import annotations

import json

from simulator.restpki import RestPki


def guide(restpki: RestPki, url: str) -> str:
    """Address, key and commands to try."""
    api = restpki.base_url
    key = f"-H 'X-Api-Key: {restpki.token}'"
    session = json.dumps({"returnUrl": "http://127.0.0.1:8080/api/return?provider=restpki"})
    callbacks = json.dumps({"webhook_url": "http://127.0.0.1:8080/api/callback?provider=restpki"})
    slow = json.dumps({"processing_seconds": 20, "ticket_seconds": 60})
    return f"""\
Rest PKI    {api}  X-Api-Key: {restpki.token}
            its callbacks prove themselves with X-Api-Key: {restpki.webhook_secret}
Control     {url}/_state  {url}/_switches/restpki  {url}/_weather

Settings of signspool for it:
  [providers.restpki]
  base_url = "{api}"
  token = "{restpki.token}"
  secret = "{restpki.webhook_secret}"
Start a session whose user brings the document; then open redirectUrl in a browser:
  curl -s {key} -d '{session}' {api}/api/signature-sessions
Or decide yourself what its user does: sign, cancel, expire, fail, finish:
  curl -s -X POST {url}/_events/restpki/SESSION/sign
Have it call the door about each signed document:
  curl -s -X PATCH -d '{callbacks}' {url}/_switches/restpki
Let the processing take a while, and links die:
  curl -s -X PATCH -d '{slow}' {url}/_switches/restpki
Make its next three answers fail:
  curl -s -d '{{"peer": "restpki", "kind": "status", "status": 503, "times": 3}}' {url}/_weather

Ctrl-C ends it."""
