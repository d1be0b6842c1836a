"""The process that checks the signatures of fetched files: `python -m`, for one document.

What a stranger sent is parsed here, apart from the daemon and its secrets, with limits of memory and of
processor time that nothing in a file can lift. The order comes as one line of JSON on standard input. One
line of JSON goes out when all is ready, and one for each file in turn, as `verdict` says; the first file that
does not pass is the last.
The process ends when standard input is closed, which happens at the daemon's death, too. Signals to stop are
the daemon's business.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import logging
import os
import resource
import sys
import threading
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

MEMORY_BYTES = 768 * 1024 * 1024
"""Of address space. Two such processes and the daemon stay below what the unit grants them together."""
PROCESSOR_SECONDS = 60
"""For each file."""
_OUR_OWN = {errno.EIO, errno.ENOENT, errno.EACCES, errno.ESTALE, errno.EMFILE, errno.ENFILE}
"""Errors that our own disk and machine make; those of another kind come from what a file says."""
_REFUSED_EVENTS = (
    "socket.connect",
    "socket.getaddrinfo",
    "socket.gethostby",
    "socket.sendto",
    "socket.bind",
    "subprocess.",
    "os.exec",
    "os.fork",
    "os.posix_spawn",
    "os.system",
)


def load() -> None:
    """Load what parses; it comes behind the limits."""
    from processor import signatures_cms, signatures_pdf  # noqa: F401, PLC0415


def serve(order: dict[str, Any], out: BinaryIO) -> None:
    """Check the files of an order in turn, until one does not pass."""
    covered: dict[Path, int] = {}
    files = [Path(path) for path in order["files"]]
    for path, ending in zip(files, order["endings"], strict=True):
        _limit_processor_time()
        beside = [other for other in map(Path, order["beside"]) if other != path]
        said = verdict(path, ending, order["authorities"], beside, covered)
        _say(said, out)
        if "signatures" not in said:
            return


def _say(said: dict[str, Any], out: BinaryIO) -> None:
    out.write(json.dumps(said).encode() + b"\n")
    out.flush()


def verdict(
    path: Path, ending: str, authorities: str | None, beside: Sequence[Path], covered: dict[Path, int]
) -> dict[str, Any]:
    """What is said of one file: how many `signatures` it carries, all of which are right, or a `reason`;
    or `trouble`, when it is our own disk that does not give it.

    `authorities` are PEM texts in a row, None where nobody asks what certificates lead to. `beside` are the
    other files of the document. `covered` is how many signatures files have that stand outside of them; those
    that are found here are added.
    """
    from processor.signatures_verdict import NotRightError  # noqa: PLC0415

    try:
        return {"signatures": asyncio.run(_check(path, ending, authorities, beside, covered))}
    except NotRightError as error:
        return {"reason": str(error)}
    except OSError as error:
        if error.errno in _OUR_OWN:
            return {"trouble": error.strerror}
        return {"reason": _unreadable(error)}
    except Exception as error:  # noqa: BLE001  (whatever a stranger's file leads a parser to is a verdict)
        return {"reason": _unreadable(error)}


async def _check(
    path: Path, ending: str, authorities: str | None, beside: Sequence[Path], covered: dict[Path, int]
) -> int:
    """How many signatures a file carries; `covered` are files of which detached signatures are right."""
    from processor.signatures_cms import check_cms  # noqa: PLC0415
    from processor.signatures_pdf import check_pdf  # noqa: PLC0415
    from processor.signatures_verdict import LOOK, Judge, NotRightError  # noqa: PLC0415

    roots = None if authorities is None else _authorities(authorities)
    judge = Judge(roots, datetime.now(UTC))
    if ending != "pdf":
        found, source = await check_cms(path, judge, beside)
        if source is not None:
            covered[source] = found
        return found
    found = await check_pdf(path, judge) or covered.get(path, 0)
    if not found:
        raise NotRightError(f"the PDF carries no signature: {LOOK}")
    return found


def _authorities(pem_text: str) -> tuple[Any, ...]:
    from asn1crypto import pem, x509  # noqa: PLC0415

    return tuple(x509.Certificate.load(der) for _, _, der in pem.unarmor(pem_text.encode(), multiple=True))


def _unreadable(error: Exception) -> str:
    """What is wrong with a file, by the error that a parser ended with; its text may name a person."""
    from pyhanko.pdf_utils.misc import PdfDecodeLimitError, PdfError  # noqa: PLC0415

    from processor.signatures_verdict import LOOK  # noqa: PLC0415

    if isinstance(error, MemoryError | PdfDecodeLimitError):
        kind = "it is too large or too odd, and unpacks to too much"
    elif isinstance(error, RecursionError):
        kind = "it is nested too deeply"
    elif isinstance(error, PdfError):
        kind = "it is not built as a PDF has to be"
    else:
        kind = "it is damaged, or not built as it has to be"
    return f"its signatures cannot be checked, since {kind}: {LOOK}"


# The limits


def _limit() -> None:
    """Give away what checking a file does not take. Nothing of it can be taken back."""
    # Should the service run out of memory, it is not the daemon that goes. Some containers do not allow it.
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")
    for kind, most in (
        (resource.RLIMIT_AS, MEMORY_BYTES),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NPROC, 0),
    ):
        granted = _granted(kind, most)
        resource.setrlimit(kind, (granted, granted))


def _limit_processor_time() -> None:
    used = resource.getrusage(resource.RUSAGE_SELF)
    seconds = int(used.ru_utime + used.ru_stime) + 1 + PROCESSOR_SECONDS
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (_granted(resource.RLIMIT_CPU, seconds), hard))


def _granted(kind: int, wanted: int) -> int:
    """What may be set: the service itself may have been granted less."""
    _, hard = resource.getrlimit(kind)
    return wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)


def _refuse(event: str, _arguments: Sequence[object]) -> None:
    if event.startswith(_REFUSED_EVENTS):
        raise PermissionError(f"checking signatures takes no {event}")


def _end_with_the_daemon(order: BinaryIO) -> None:
    order.read()
    os._exit(1)


def main() -> None:
    """Carry out the order on standard input."""
    # What libraries log may name the people who signed.
    logging.disable()
    order = json.loads(sys.stdin.buffer.readline())
    threading.Thread(target=_end_with_the_daemon, args=(sys.stdin.buffer,), daemon=True).start()
    _limit()
    sys.addaudithook(_refuse)
    load()
    # From here on it is a file's fault when this ends.
    _say({"ready": True}, sys.stdout.buffer)
    serve(order, sys.stdout.buffer)
    # At once, as the thread is still reading.
    os._exit(0)


if __name__ == "__main__":
    main()
