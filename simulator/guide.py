"""What `signspool simulate` prints: addresses, keys and commands to try, for a person who integrates."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping

from simulator import restpki_guide
from simulator.arqsign_api import example_process
from simulator.ssign import example_envelope, example_upload
from simulator.weather import Peer
from simulator.world import World


def guide(world: World, url: str, only: Peer | None = None) -> str:
    """Everything that is simulated at an address, or one peer alone with what to try there."""
    if only == "restpki":
        return restpki_guide.guide(world.restpki, url)
    shown = [only] if only is not None else list(_HEADS)
    heads = [_HEADS[peer](world, url) for peer in shown if peer in _HEADS]
    tries = [_TRIES[peer](world, url) for peer in shown if peer in _TRIES]
    control = " ".join(f"{url}/{word}" for word in ("_state", "_weather"))
    if only is not None:
        control += f" {url}/_switches/{only}"
    weather = json.dumps({"peer": only or "ssign", "kind": "status", "status": 503, "times": 3})
    return "\n".join(
        [
            *heads,
            f"Control     {control}",
            "",
            *tries,
            f"Make the next three calls of {only or 'ssign'} fail:",
            f"  curl -s -d '{weather}' {url}/_weather",
            "",
            "Ctrl-C ends it.",
        ]
    )


def _ssign(world: World, url: str) -> str:
    auth = f"-H 'Authorization: Custom {world.ssign.token}'"
    upload = json.dumps(example_upload())
    envelope = json.dumps(example_envelope("Contrato 2026-0042", 9001), ensure_ascii=False)
    return f"""\
Upload a file to S-SIGN and put it into an envelope:
  curl -s {auth} -d '{upload}' {url}/ssign/rest/signer/IntegrationEnvelopeDocument
  curl -s {auth} -d '{envelope}' {url}/ssign/rest/signer/IntegrationEnvelope
Let everybody sign, and send the callback to the door:
  curl -s -X POST {url}/_events/ssign/155/COMPLETED \\
  | curl -s -H 'Content-Type: application/json' -H 'X-Callback-Secret: YOUR-SECRET' --data-binary @- \\
    'http://127.0.0.1:8080/api/callback?provider=ssign'"""


def _arqsign(world: World, url: str) -> str:
    arqsign = world.arqsign
    process = json.dumps(example_process(), ensure_ascii=False)
    keys = f"-H 'AppKey: {arqsign.app_key}' -H 'SubscriptionKey: {arqsign.subscription_key}'"
    return f"""\
Send a process with ArqSign, let everybody sign (trigger 8); the HMAC goes with the body to the door:
  curl -s {keys} -d '{process}' {url}/arqsign/api/v2/processo/enviar-documento-para-assinar
  curl -si -X POST {url}/_events/arqsign/{arqsign.next_id}/8"""


_Piece = Callable[[World, str], str]

_HEADS: Mapping[Peer, _Piece] = {
    "ssign": lambda world, url: (
        f"S-SIGN      {url}/ssign/rest                    Authorization: Custom {world.ssign.token}"
    ),
    "certisign": lambda world, url: (
        f"Certisign   {url}/certisign                     Token: {world.certisign.token}"
    ),
    "restpki": lambda world, url: (
        f"Rest PKI    {url}/restpki                       X-Api-Key: {world.restpki.token}"
    ),
    "arqsign": lambda world, url: (
        f"ArqSign     {url}/arqsign                       AppKey: {world.arqsign.app_key}\n"
        f"            SubscriptionKey: {world.arqsign.subscription_key}"
        f"  secret of its callbacks: {world.arqsign.secret}"
    ),
    "smartshare": lambda world, url: (
        f"SmartShare  {url}/smartshare/SmartShareAPI/api  dsCliente: {world.smartshare.client}\n"
        f"            dsChaveAutenticacao: {world.smartshare.client_key}\n"
        f"            dsUsuario: {world.smartshare.user}  dsSenha: {world.smartshare.password}"
    ),
    "dms": lambda world, url: (
        f"DMS         {url}/dms/files                     Authorization: Bearer {world.dms.token}"
    ),
    "s3": lambda world, url: (
        f"S3          {url}  bucket: {world.s3.bucket}  region: {world.s3.region}\n"
        f"            access_key: {world.s3.access_key}  secret_key: {world.s3.secret_key}"
    ),
}
_TRIES: Mapping[Peer, _Piece] = {"ssign": _ssign, "arqsign": _arqsign}
