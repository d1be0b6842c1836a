"""The example for nginx: accepted by `nginx -t` as it is, and tried with requests through it to a door."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import ssl
import subprocess
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import trustme

from tests.callback_api.door import (
    BODY,
    DEADLINE_SECONDS,
    HEADERS,
    SECRET,
    URL,
    Process,
    make_settings,
    paths,
    records,
    running,
)
from tests.deploy.ingredients import REPOSITORY, SWITCH
from tests.installation import free_port

EXAMPLE = REPOSITORY / "deploy" / "nginx"

pytestmark = [
    pytest.mark.skipif(not os.environ.get(SWITCH), reason="starts nginx: make test-deploy"),
    pytest.mark.skipif(
        shutil.which("nginx") is None, reason="nginx is not installed, so its example was not tried"
    ),
]


@dataclass
class Front:
    """A running nginx; `url` is where providers call."""

    url: str
    home: Path
    root: Path
    trusts: ssl.SSLContext

    def client(self, **options: object) -> httpx.Client:
        return httpx.Client(base_url=self.url, verify=self.trusts, timeout=DEADLINE_SECONDS, **options)  # type: ignore[arg-type]  # passed through

    def log(self) -> str:
        return "".join(path.read_text() for path in sorted(self.home.glob("*.log")))


BEHIND_A_BALANCER = {
    "# set_real_ip_from 10.0.0.0/24;": "set_real_ip_from 127.0.0.0/8;",
    "# real_ip_header ": "real_ip_header ",
    "# real_ip_recursive": "real_ip_recursive",
}
A_LOW_RATE_FOR_ONE = {
    "zone=signspool_address:10m rate=50r/s": "zone=signspool_address:10m rate=1r/m",
    "zone=signspool_address burst=200": "zone=signspool_address burst=4",
}
A_LOW_RATE_FOR_BROWSERS = {
    "zone=signspool_address:10m rate=50r/s": "zone=signspool_address:10m rate=1r/m",
    "zone=signspool_address burst=50": "zone=signspool_address burst=4",
}
A_LOW_RATE = {
    "zone=signspool_provider:1m rate=200r/s": "zone=signspool_provider:1m rate=1r/m",
    "zone=signspool_provider burst=1000": "zone=signspool_provider burst=4",
}
PAGE = "https://app.test/signed"
BROWSERS = f"""
[providers.ssign]
secret = "{SECRET}"
[providers.restpki]
authentication = "basic"
secret = "lacuna:invented"
return_page = "{PAGE}"
"""
RETURN = "/api/return?provider=restpki&signatureSessionId=5f0c6f3e-0000-4000-8000-000000000000"


def configured(home: Path, port: int, door_port: int, changes: dict[str, str]) -> Path:
    """The example with the places of this test, and nothing else changed but what is asked for."""
    replaced = {
        "listen 443 ssl http2;": f"listen 127.0.0.1:{port} ssl http2;",
        "    listen [::]:443 ssl http2;\n": "",
        "server 127.0.0.1:8080": f"server 127.0.0.1:{door_port}",
        "/etc/ssl/certs/signatures.example.com.pem": str(home / "chain.pem"),
        "/etc/ssl/private/signatures.example.com.key": str(home / "key.pem"),
        "/var/log/nginx/": f"{home}/",
        "/etc/nginx/signspool-proxy.conf": str(EXAMPLE / "signspool-proxy.conf"),
        **changes,
    }
    text = (EXAMPLE / "signspool.conf").read_text()
    for old, new in replaced.items():
        assert old in text, f"the example has no {old!r} any more"
        text = text.replace(old, new)
    (home / "signspool.conf").write_text(text)
    folders = "".join(
        f"{kind}_temp_path {home}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    whole = home / "nginx.conf"
    whole.write_text(
        f"daemon off;\npid {home}/pid;\nerror_log stderr;\nuser root;\nworker_processes 1;\n"
        f"events {{ worker_connections 2048; }}\nhttp {{\n{folders}include {home}/signspool.conf;\n}}\n"
    )
    return whole


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Process, Path]]:
    folder = tmp_path_factory.mktemp("door")
    settings = make_settings(folder, api='trusted_proxies = ["127.0.0.1"]', providers=BROWSERS)
    with running(folder / "signspool.toml") as started:
        yield started, settings.spool.root


@pytest.fixture(scope="module", params=[{}, BEHIND_A_BALANCER], ids=["alone", "behind a load balancer"])
def front(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    authority: trustme.CA,
    door: tuple[Process, Path],
) -> Iterator[Front]:
    with started(tmp_path_factory.mktemp("nginx"), authority, door, request.param) as made:
        yield made


@contextlib.contextmanager
def started(
    home: Path, authority: trustme.CA, door: tuple[Process, Path], changes: dict[str, str]
) -> Iterator[Front]:
    """nginx with the example, before a door."""
    port = free_port()
    issued = authority.issue_cert("127.0.0.1")
    issued.private_key_pem.write_to_path(home / "key.pem")
    for blob in issued.cert_chain_pems:
        blob.write_to_path(home / "chain.pem", append=True)
    config = configured(home, port, door[0].port, changes)
    tried = subprocess.run(["nginx", "-t", "-c", str(config)], capture_output=True, text=True, check=False)
    assert tried.returncode == 0, tried.stderr
    with (home / "stderr").open("wb") as said:
        server = subprocess.Popen(["nginx", "-c", str(config)], stderr=said)
    trusts = ssl.create_default_context()
    authority.configure_trust(trusts)
    try:
        _wait_for(port)
        yield Front(f"https://127.0.0.1:{port}", home, door[1], trusts)
    finally:
        server.terminate()
        server.wait(DEADLINE_SECONDS)


def _wait_for(port: int) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            assert time.monotonic() < deadline, "nginx does not listen"
            time.sleep(0.02)
        else:
            return


def test_a_callback_comes_through_and_is_stored(front: Front) -> None:
    """By either path, with a slash at its end or without; the body byte for byte."""
    count = len(paths(front.root))
    with front.client(headers=HEADERS) as client:
        for path in ("/api/callback", "/callbackAPI/api/callback/"):
            answer = client.post(f"{path}?provider=ssign", content=BODY)
            assert answer.status_code == 200
            assert answer.json()["status"] == "accepted"
    stored = records(front.root)[count:]
    assert [record.payload for record in stored] == [BODY, BODY]


def test_a_wrong_secret_is_refused_in_the_words_of_the_door(front: Front) -> None:
    with front.client() as client:
        answer = client.post(URL, content=BODY, headers={"X-Callback-Secret": "wrong"})
    assert answer.status_code == 401
    assert answer.json()["status"] == 401


def test_the_address_of_a_sender_is_its_own_word_only_if_a_trusted_proxy_passes_it_on(
    front: Front, request: pytest.FixtureRequest
) -> None:
    """In the second run this test itself is the load balancer; what came before it is not believed."""
    forwarded = {**HEADERS, "X-Forwarded-For": "198.51.100.1, 203.0.113.9"}
    with front.client(headers=forwarded) as client:
        assert client.post(URL, content=BODY).status_code == 200
    receipt = records(front.root)[-1].receipt
    assert receipt is not None
    expected = "203.0.113.9" if "balancer" in request.node.name else "127.0.0.1"
    assert receipt.remote_address == expected


def test_a_body_above_the_limit_is_refused_and_one_at_it_by_the_door(front: Front) -> None:
    with front.client(headers=HEADERS) as client:
        huge = client.post(URL, content=b" " * (2 * 2**20 + 1))
        large = client.post(URL, content=b" " * (2**20 + 1))
    assert huge.status_code == large.status_code == 413
    assert "nginx" in huge.text
    assert large.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("path", ["/", "/healthz", "/readyz", "/metrics", "/openapi.json", "/api/callback/x"])
def test_nothing_else_of_the_door_is_reached(front: Front, path: str) -> None:
    with front.client() as client:
        assert client.get(path).status_code == 404


def test_a_browser_that_comes_back_is_sent_on_by_the_door(front: Front) -> None:
    """Also one that brings many cookies along."""
    with front.client() as client:
        for cookies in ("", "x" * 12_000):
            answer = client.get(RETURN, headers={"Cookie": f"session={cookies}"})
            assert answer.status_code == 303
            assert answer.headers["location"].startswith(PAGE)


def test_nothing_is_told_of_the_version(front: Front) -> None:
    with front.client() as client:
        answer = client.get("/")
    assert answer.headers["server"] == "nginx"
    assert "nginx/" not in answer.text


def speaks(front: Front, version: ssl.TLSVersion) -> ssl.SSLSession | None:
    """The session that is made with this version of TLS alone; None when it is refused."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    # This side would refuse old ones itself.
    context.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = context.maximum_version = version
    port = int(front.url.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), timeout=DEADLINE_SECONDS) as plain:
        try:
            with context.wrap_socket(plain) as connection:
                return connection.session
        except ssl.SSLError:
            return None


def test_only_todays_versions_of_tls_are_spoken(front: Front) -> None:
    """And no session is kept in a ticket, whose key would open all that was recorded."""
    assert speaks(front, ssl.TLSVersion.TLSv1) is None
    assert speaks(front, ssl.TLSVersion.TLSv1_1) is None
    assert speaks(front, ssl.TLSVersion.TLSv1_3) is not None
    session = speaks(front, ssl.TLSVersion.TLSv1_2)
    assert session is not None
    assert not session.has_ticket


def test_no_plain_http_is_spoken(front: Front) -> None:
    answer = httpx.post(front.url.replace("https", "http") + URL, content=BODY, headers=HEADERS)
    assert answer.status_code == 400
    assert "HTTPS" in answer.text


def test_a_sender_that_sends_too_much_is_asked_to_come_again(
    tmp_path: Path, authority: trustme.CA, door: tuple[Process, Path]
) -> None:
    """With Retry-After; what is within the rate is stored. It is lowered, so that no machine is too slow."""
    count = len(paths(door[1]))
    with started(tmp_path, authority, door, A_LOW_RATE_FOR_ONE) as front, front.client() as client:
        answers = [client.post(URL, content=BODY, headers=HEADERS) for _ in range(8)]
    assert [answer.status_code for answer in answers] == [200] * 5 + [503] * 3
    assert {answer.headers["retry-after"] for answer in answers[5:]} == {"30"}
    assert {answer.headers["content-type"] for answer in answers[5:]} == {"application/problem+json"}
    assert len(paths(door[1])) == count + 5


def test_a_browser_that_comes_back_too_often_is_asked_to_come_again(
    tmp_path: Path, authority: trustme.CA, door: tuple[Process, Path]
) -> None:
    """At once; the others are sent on without a wait."""
    with started(tmp_path, authority, door, A_LOW_RATE_FOR_BROWSERS) as front, front.client() as client:
        assert [client.get(RETURN).status_code for _ in range(8)] == [303] * 5 + [503] * 3


def test_one_provider_that_sends_too_much_takes_nothing_from_another(
    tmp_path: Path, authority: trustme.CA, door: tuple[Process, Path]
) -> None:
    """From however many addresses it does; a name that is none is no way around it."""
    with (
        started(tmp_path, authority, door, BEHIND_A_BALANCER | A_LOW_RATE) as front,
        front.client() as client,
    ):

        def statuses(provider: str) -> list[int]:
            return [
                client.post(
                    f"/api/callback?provider={provider}",
                    content=BODY,
                    headers={**HEADERS, "X-Forwarded-For": f"203.0.113.{number}"},
                ).status_code
                for number in range(8)
            ]

        assert statuses("ssign") == [200] * 5 + [503] * 3
        # The door knows no such provider here; what counts is that it was asked.
        assert statuses("certisign") == [400] * 5 + [503] * 3
        assert [client.post(f"/api/callback?provider=-{n}").status_code for n in range(8)].count(503) == 3


def test_the_logs_hold_no_query_and_so_no_secret(front: Front) -> None:
    """Neither of what went well, nor of what was refused for its rate, nor of what nginx complains about."""
    with front.client() as client:
        client.post(f"{URL}&secret={SECRET}", content=BODY)
        client.post(f"{URL}&secret={SECRET}", content=b" " * (2 * 2**20 + 1))
    assert "provider=ssign" in front.log()
    assert SECRET not in front.log() + (front.home / "stderr").read_text()
