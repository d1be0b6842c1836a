"""The state of a simulated object store that speaks S3: one bucket, its key, and what was put into it."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from simulator.peer import PeerError, StoredFile


class S3Error(PeerError):
    """The store refuses, with one of the codes of S3."""

    def __init__(self, status: int, code: str, message: str = "", *, region: str = "") -> None:
        super().__init__(status, message or code)
        self.code = code
        self.region = region


@dataclass(frozen=True)
class StoredObject:
    """One version of an object; its name is the key. Header names are lower case."""

    version: str
    file: StoredFile
    headers: Mapping[str, str] = field(repr=False)


@dataclass
class S3:
    """One bucket, below the address of the simulator as stores with addresses in path style have it.

    `versioning` keeps what is written over, and names versions. `conditional` says whether `If-None-Match` is
    obeyed or, as by older stores, not heard. `skew_seconds` is how far its clock is ahead. `damaged` counts
    down: so many uploads arrive with a bit that is not as it was sent.
    """

    bucket: str = "simulated-bucket"
    region: str = "us-east-1"
    access_key: str = "SIMULATEDACCESSKEY00"
    secret_key: str = "simulated/s3+secret"  # noqa: S105  (a simulated one)
    session_token: str | None = None
    versioning: bool = False
    conditional: bool = True
    skew_seconds: float = 0.0
    damaged: int = 0
    objects: list[StoredObject] = field(default_factory=list)
    puts: int = 0
    """How many uploads were taken."""
    _lock: threading.RLock = field(default_factory=threading.RLock, repr=False)

    def get(self, key: str) -> StoredObject:
        """The newest version of an object.

        Raises:
            S3Error: 404, there is none.
        """
        with self._lock:
            for found in reversed(self.objects):
                if found.file.name == key:
                    return found
        raise S3Error(404, "NoSuchKey")

    def put(self, file: StoredFile, headers: Mapping[str, str]) -> StoredObject:
        """Keep an object under its name.

        Raises:
            S3Error: 412, there is one already and the request wants none.
        """
        with self._lock:
            held = [found for found in self.objects if found.file.name == file.name]
            if held and self.conditional and headers.get("if-none-match") == "*":
                raise S3Error(412, "PreconditionFailed")
            self.puts += 1
            if not self.versioning:
                self.objects = [found for found in self.objects if found not in held]
            self.objects.append(StoredObject(f"v{self.puts}" if self.versioning else "", file, headers))
            return self.objects[-1]

    def arrived(self, body: bytes) -> bytes:
        """What arrives of a body that was sent."""
        with self._lock:
            if not self.damaged or not body:
                return body
            self.damaged -= 1
        return body[:-1] + bytes([body[-1] ^ 1])

    @property
    def summary(self) -> dict[str, Any]:
        """The state without file contents."""
        with self._lock:
            return {
                "bucket": self.bucket,
                "objects": [found.file.summary | {"version": found.version} for found in self.objects],
                "puts": self.puts,
            }
