"""What a large signed file costs in memory, for each way in which one comes and each to which one goes.

The processor is the real one, in a process of its own. It first takes a document of 1 kB through the whole
way and then one of 200 MB; the figure is by how much its peak (VmHWM) grew.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.figures import Figure, Reach
from benchmarks.large_peers import LargeFilePeers
from processor import documents
from shared.body import Encoding
from shared.clock import Clock
from shared.db.session import Database
from shared.names import entry_name
from shared.providers import provider_classes
from shared.record import Receipt, SpoolRecord, digest_of
from shared.spool import Folder, Spool

_SMALL_BYTES = 1000
_LARGE_BYTES = 200_000_000
_QUICK_BYTES = 40_000_000
_GOAL_MIB = 32.0
_DEADLINE_SECONDS = 300.0
_DMS = {"cdFluxo": "1", "cdTarefa": "5", "cdTipoAnexo": "3", "cdTipoDocumento": "2", "cdPasta": "7"}

_FOLDER = 'kind = "folder"\npath = "{home}/archive"'
_HTTP = 'kind = "http"\nurl = "{peers}/dms/files"\nbody = "{body}"'
_S3 = """kind = "s3"
endpoint = "{peers}"
bucket = "contracts"
region = "us-east-1"
access_key = "k"
secret_key = "s"
"""
_SMARTSHARE = """kind = "smartshare"
base_url = "{peers}/smartshare"
client = "c"
client_key = "k"
user = "u"
password = "p"
advance_on = {{}}
upload = "{upload}"
"""


@dataclass(frozen=True, slots=True)
class _Way:
    """One way through: how the file comes, and where it goes."""

    name: str
    provider: str
    reference: str
    """Name of the provider's reference; its value is the length of the file that the peer then serves."""
    destination: str
    form: str = ""
    """Put before the length, to have the file served in another form."""


_WAYS = (
    _Way("fetch raw, to a folder", "ssign", "file_ids", _FOLDER),
    _Way("fetch base64 in JSON, to a folder", "certisign", "chave", _FOLDER, "base64-"),
    _Way("fetch an array of numbers, to a folder", "certisign", "chave", _FOLDER, "numbers-"),
    _Way("fetch raw, to HTTP as it is", "ssign", "file_ids", _HTTP.replace("{body}", "raw")),
    _Way("fetch raw, to HTTP as a form", "ssign", "file_ids", _HTTP.replace("{body}", "multipart")),
    _Way("fetch raw, to S3", "ssign", "file_ids", _S3),
    _Way(
        "fetch raw, to SmartShare as an attachment",
        "ssign",
        "file_ids",
        _SMARTSHARE.replace("{upload}", "attachment"),
    ),
    _Way(
        "fetch raw, to SmartShare in JSON", "ssign", "file_ids", _SMARTSHARE.replace("{upload}", "document")
    ),
)


def measure(*, quick: bool) -> list[Figure]:
    """One figure for each way."""
    large_bytes = _QUICK_BYTES if quick else _LARGE_BYTES
    with LargeFilePeers() as peers:
        return [_measure(way, peers, large_bytes) for way in _WAYS]


def _measure(way: _Way, peers: LargeFilePeers, large_bytes: int) -> Figure:
    with (
        tempfile.TemporaryDirectory(prefix="signspool-large-") as home,
        _processor(Path(home), way, peers.url) as yard,
    ):
        yard.deliver(way, _SMALL_BYTES)
        before_mib = yard.peak_mib()
        began_at = time.monotonic()
        yard.deliver(way, large_bytes)
        seconds = time.monotonic() - began_at
        after_mib = yard.peak_mib()
    return Figure(
        name=f"a file of {large_bytes // 1_000_000} MB: {way.name}",
        value=after_mib - before_mib,
        unit="MiB",
        measured=f"{after_mib:.1f} MiB, in {seconds:.1f} s",
        compared=f"{before_mib:.1f} MiB with 1 kB",
        reach=Reach.AT_MOST,
        goal=_GOAL_MIB,
    )


@dataclass(frozen=True, slots=True)
class _Yard:
    """A running processor, and what it works on."""

    spool: Spool
    database: Database
    process: subprocess.Popen[bytes]

    def deliver(self, way: _Way, size_bytes: int) -> None:
        """Have a document of this length fetched and delivered, and wait for it.

        Raises:
            RuntimeError: it was not delivered in time, or it ended in another way.
        """
        made = provider_classes()[way.provider]
        refs = {way.reference: f"{way.form}{size_bytes}"}
        document_id = str(size_bytes)
        with self.database.transaction() as connection:
            registration = documents.Registration(way.provider, document_id, refs, _DMS)
            documents.register(connection, registration, self.spool.clock.now())
        action = "COMPLETED" if way.provider == "ssign" else "FLOW"
        payload = f'{{"{made.id_field}": {document_id}, "action": "{action}"}}'.encode("ascii")
        receipt = Receipt(str(uuid.uuid4()), way.provider, Encoding.JSON, digest_of(payload), len(payload))
        record = SpoolRecord(
            received_at=self.spool.clock.local(),
            document_id=document_id,
            action=action,
            provider_number=made.number,
            payload=payload,
            id_field=made.id_field,
            receipt=receipt,
        )
        day = self.spool.folder(Folder.SPOOL) / self.spool.clock.today().isoformat()
        temporary = self.spool.temporary / receipt.id
        temporary.write_bytes(record.to_bytes())
        day.mkdir(exist_ok=True)
        temporary.rename(day / entry_name(document_id, receipt.id))
        self._wait(way.provider, document_id)

    def _wait(self, provider: str, document_id: str) -> None:
        end = time.monotonic() + _DEADLINE_SECONDS
        while True:
            with self.database.reading() as connection:
                shown = documents.show(connection, provider, document_id) or {}
            deliveries = shown.get("deliveries", [])
            if deliveries and all(item["state"] == "done" for item in deliveries):
                return
            stuck = [item for item in deliveries if item["state"] in ("held", "failed", "waiting")]
            if stuck or time.monotonic() > end or self.process.poll() is not None:
                raise RuntimeError(f"the document of {document_id} bytes was not delivered: {shown}")
            time.sleep(0.02)

    def peak_mib(self) -> float:
        """The greatest memory that the processor ever had."""
        status = Path(f"/proc/{self.process.pid}/status").read_text(encoding="ascii")
        line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) / 1024


@contextmanager
def _processor(home: Path, way: _Way, peers: str) -> Iterator[_Yard]:
    """The real processor on settings for one way; stopped at the end, in order."""
    (home / "archive").mkdir()
    config = home / "signspool.toml"
    destination = way.destination.format(home=home, peers=peers)
    config.write_text(
        f'[spool]\nroot = "{home}/root"\n[processor]\nlook_outbox = "50ms"\n'
        f'[providers.ssign]\nauthentication = "none"\nbase_url = "{peers}/ssign"\ntoken = "t"\n'
        f'[providers.certisign]\nauthentication = "none"\nbase_url = "{peers}/certisign"\ntoken = "t"\n'
        f"[destinations.target]\n{destination}\n"
    )
    spool = Spool(home / "root", Clock())
    spool.initialise()
    database = Database(f"sqlite:///{home}/root/signspool.db")
    database.upgrade()
    log = home / "processor.log"
    environ = {name: value for name, value in os.environ.items() if not name.startswith("SIGNSPOOL_")}
    with log.open("wb") as output:
        process = subprocess.Popen(  # noqa: S603  (our own program)
            [sys.executable, "-m", "signspool", "processor", "--config", str(config)],
            stdout=output,
            stderr=output,
            env=environ,
        )
    try:
        yield _Yard(spool, database, process)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)
        database.close()
