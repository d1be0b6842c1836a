"""Has the signatures of fetched files checked, by a process of its own for each document.

`processor.signatures_process` is what runs there: it parses what a stranger sent, and the daemon only hears
how that ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from shared.errors import PermanentError, SpoolUnavailableError, TransientError, WaitingError
from shared.providers._base import ProviderSettings

AT_ONCE = 2
"""How many processes check at the same time; each may take 768 MiB."""
FILE_SECONDS = 300.0
"""How long one file may take by the clock. It is the limit of processor time that a file runs into."""

_CMS = frozenset({"p7s", "p7m"})
_LINE_BYTES = 4096
_TO_STOP = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
_TOO_ODD = (
    "its signatures cannot be checked, since it is too large or too odd for it: look at the document at the "
    'provider, and set signatures = "unchecked" for this provider if that is accepted'
)
_PROGRAM = ("-P", "-m", "processor.signatures_process")


@dataclass(frozen=True, slots=True)
class FileToCheck:
    """A whole file. `source` names it within its document; `ending` tells what it is."""

    source: str
    path: Path
    ending: str


class SignatureCheck:
    """Checks the signed files of documents, so many documents at once.

    `program` are the arguments of Python that start what checks.
    """

    def __init__(
        self,
        *,
        at_once: int = AT_ONCE,
        file_seconds: float = FILE_SECONDS,
        program: Sequence[str] = _PROGRAM,
    ) -> None:
        self._places = asyncio.Semaphore(at_once)
        self._file_seconds = file_seconds
        self._program = program

    async def check(
        self, signed: Sequence[FileToCheck], others: Sequence[Path], settings: ProviderSettings
    ) -> dict[Path, int]:
        """How many signatures each signed file carries, all of which are right.

        A detached signature may be of any signed file, or of one of the `others`; a PDF without signatures
        passes if one is of it.

        Raises:
            PermanentError: a file does not pass, or is of a kind that cannot be checked.
            TransientError: the check took too long by the clock, the file cannot be read, or what checks
                does not start.
            WaitingError: the authorities cannot be read.
            SpoolUnavailableError: no process can be started.
        """
        for file in signed:
            if file.ending != "pdf" and file.ending not in _CMS:
                raise PermanentError(
                    f"{file.source}: signatures in a file of this kind ({file.ending}) cannot be checked: "
                    'set signatures = "unchecked" for this provider if that is accepted'
                )
        authorities = await asyncio.to_thread(_authorities, settings.signature_authorities)
        # Detached signatures first, so that it is known which PDF they are of.
        ordered = sorted(signed, key=lambda file: file.ending == "pdf")
        order = {
            "files": [os.fspath(file.path) for file in ordered],
            "endings": [file.ending for file in ordered],
            "beside": [os.fspath(path) for path in (*(file.path for file in signed), *others)],
            "authorities": authorities,
        }
        async with self._places:
            counts = await self._carried_out(order, ordered)
        return {file.path: found for file, found in zip(ordered, counts, strict=True)}

    async def _carried_out(self, order: Mapping[str, object], files: Sequence[FileToCheck]) -> list[int]:
        starting = asyncio.ensure_future(asyncio.to_thread(_started, self._program))
        process: subprocess.Popen[bytes] | None = None
        try:
            process = await asyncio.shield(starting)
            async with _lines(process) as lines:
                await asyncio.to_thread(_send, process, json.dumps(order).encode() + b"\n")
                if not await self._line(lines, files[0]):
                    raise TransientError(
                        f"{files[0].source}: what checks its signatures does not start: it is tried again; "
                        "if that goes on, install this version of signspool anew"
                    )
                return [await self._verdict(lines, file) for file in files]
        except OSError as error:
            reason = error.strerror or "no more processes or memory"
            raise SpoolUnavailableError(
                f"the process that checks signatures cannot be started: {reason}"
            ) from error
        finally:
            if process is None:
                # Cancelled meanwhile: what is being started must not be left behind.
                with contextlib.suppress(OSError):
                    process = await starting
            if process is not None:
                process.kill()
                await asyncio.shield(asyncio.to_thread(_buried, process))

    async def _line(self, lines: asyncio.StreamReader, file: FileToCheck) -> bytes:
        """What it says next; nothing when it has ended.

        Raises:
            TransientError: it says nothing for too long.
            ValueError: it says too much.
        """
        try:
            async with asyncio.timeout(self._file_seconds):
                return await lines.readline()
        except TimeoutError:
            raise TransientError(
                f"{file.source}: checking its signatures took too long: it is tried again"
            ) from None

    async def _verdict(self, lines: asyncio.StreamReader, file: FileToCheck) -> int:
        try:
            said = json.loads(await self._line(lines, file))
        except ValueError:
            # It was ended by one of its limits, or fell over what it read.
            raise PermanentError(f"{file.source}: {_TOO_ODD}") from None
        if "trouble" in said:
            raise TransientError(f"{file.source}: it cannot be read from our own disk ({said['trouble']})")
        if "reason" in said:
            raise PermanentError(f"{file.source}: {said['reason']}")
        return int(said["signatures"])


def why_unusable(settings: ProviderSettings) -> str | None:
    """Why signatures cannot be checked with these settings, or None."""
    try:
        _authorities(settings.signature_authorities)
    except WaitingError as error:
        return str(error)
    return None


def _authorities(path: str) -> str | None:
    """The certificates in a file, as PEM texts in a row; None when no file is named.

    Raises:
        WaitingError: there is none in it, or it cannot be read.
    """
    if not path:
        return None
    try:
        found = x509.load_pem_x509_certificates(Path(path).read_bytes())
    except OSError as error:
        raise WaitingError(
            f"the authorities in {path} cannot be read ({error.strerror}): correct signature_authorities"
        ) from error
    except ValueError as error:
        raise WaitingError(
            f"there is no certificate (PEM) in {path}, or a damaged one: correct signature_authorities"
        ) from error
    return "".join(certificate.public_bytes(Encoding.PEM).decode("ascii") for certificate in found)


@contextlib.asynccontextmanager
async def _lines(process: subprocess.Popen[bytes]) -> AsyncIterator[asyncio.StreamReader]:
    """What a process says, read by the loop: threads are for work that ends soon."""
    reader = asyncio.StreamReader(limit=_LINE_BYTES)
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), process.stdout
    )
    with contextlib.closing(transport):
        yield reader


def _started(program: Sequence[str]) -> subprocess.Popen[bytes]:
    """Start the process. Signals to stop are for the daemon alone from its birth on: what is blocked is
    inherited."""
    previous = signal.pthread_sigmask(signal.SIG_BLOCK, _TO_STOP)
    try:
        return subprocess.Popen(  # noqa: S603  (our own program)
            [sys.executable, *program],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            # The same program as this one, and none of the secrets that stand in our environment.
            env={"PYTHONPATH": os.pathsep.join(sys.path)},
        )
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, previous)


def _send(process: subprocess.Popen[bytes], order: bytes) -> None:
    assert process.stdin is not None
    # One that died at its birth says so by giving no verdict.
    with contextlib.suppress(BrokenPipeError):
        process.stdin.write(order)
        process.stdin.flush()


def _buried(process: subprocess.Popen[bytes]) -> None:
    """Wait for a process that was killed, and close what led to it."""
    process.wait()
    for pipe in (process.stdin, process.stdout):
        assert pipe is not None
        with contextlib.suppress(BrokenPipeError):
            pipe.close()
