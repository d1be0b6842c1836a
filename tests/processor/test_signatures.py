"""How the daemon has signatures checked: real processes, files of a stranger, and every bad end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import ValidationError

from processor.signatures import FileToCheck, SignatureCheck, why_unusable
from shared.errors import PermanentError, SpoolUnavailableError, TransientError, WaitingError
from shared.providers._base import ProviderSettings
from simulator.files import make_pdf
from tests.processor.fetching import answering, make_certisign, make_ssign, names_in, package, run
from tests.signing import Signing, sign_cms
from tests.waiting import wait_until

INTACT = ProviderSettings(signatures="intact")
TOO_ODD = "too large or too odd"


@pytest.fixture(scope="module")
def signing(tmp_path_factory: pytest.TempPathFactory) -> Signing:
    return Signing.begin(tmp_path_factory.mktemp("signing"))


def check(
    path: Path,
    ending: str = "pdf",
    settings: ProviderSettings = INTACT,
    *,
    others: tuple[Path, ...] = (),
    **options: Any,
) -> int:
    """How many signatures of one file are right."""

    async def act() -> int:
        found = await SignatureCheck(**options).check(
            [FileToCheck("signed:1", path, ending)], others, settings
        )
        return found[path]

    return asyncio.run(act())


def with_fault(fault: str) -> tuple[str, ...]:
    """The program that checks, with lines of Python in place of what it does with a file."""
    lines = "\n".join(f"    {line}" for line in fault.splitlines())
    start = "import os, pathlib, resource, signal, socket, subprocess, time"
    program = "from processor import signatures_process as program"
    end = (
        "program.load = lambda: None\nprogram.verdict = fault\nprogram.PROCESSOR_SECONDS = 0\nprogram.main()"
    )
    return ("-P", "-c", f"{start}\n{program}\ndef fault(*_arguments):\n{lines}\n{end}\n")


def staying(folder: Path) -> tuple[str, ...]:
    """One that says that it is there by a folder with its number, and passes once there is a folder `go`."""
    return with_fault(
        f"os.mkdir(f'{folder}/{{os.getpid()}}')\n"
        f"while not os.path.exists('{folder}/go'):\n"
        "    time.sleep(0.02)\n"
        "return {'signatures': 1}"
    )


def there(folder: Path) -> list[int]:
    return [int(path.name) for path in folder.iterdir() if path.name.isdigit()]


def children() -> set[int]:
    """The living processes that this one has started to check."""
    found = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, parent = stat.read_text().rpartition(")")[2].split()[:2]
            if int(parent) == os.getpid() and state != "Z":
                arguments = (stat.parent / "cmdline").read_bytes()
                found |= {int(stat.parent.name)} if b"signatures_process" in arguments else set()
    return found


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def until(condition: Any) -> None:
    """Look until something is so, while the loop goes on."""
    await asyncio.to_thread(wait_until, condition, "the process that checks")


# Settings


def test_nothing_is_checked_unless_it_is_asked_for(tmp_path: Path) -> None:
    stored = run(tmp_path, make_ssign(), answering(make_pdf("Contrato")))
    assert [file.signatures for file in stored] == [None]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"signatures": "trusted"}, "needs signature_authorities"),
        ({"signatures": "intact", "signature_authorities": "ca.pem"}, "alone"),
        ({"signature_authorities": "ca.pem"}, "alone"),
        ({"signatures": "yes"}, "unchecked"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(values: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        ProviderSettings(**values)


def test_authorities_that_cannot_be_read_are_named(tmp_path: Path, signing: Signing) -> None:
    def trusting(path: Path) -> ProviderSettings:
        return ProviderSettings(signatures="trusted", signature_authorities=str(path))

    assert why_unusable(INTACT) is None
    assert why_unusable(trusting(signing.authorities)) is None
    empty, missing = tmp_path / "empty.pem", tmp_path / "missing.pem"
    empty.write_text("no certificate")
    assert "no certificate" in str(why_unusable(trusting(empty)))
    assert "No such file" in str(why_unusable(trusting(missing)))
    with pytest.raises(WaitingError, match="correct signature_authorities"):
        check(tmp_path / "any", settings=trusting(missing))


# Good and bad files, as they are fetched


def test_a_signed_file_that_passes_is_stored_with_the_number_of_its_signatures(
    tmp_path: Path, signing: Signing
) -> None:
    provider = make_ssign(signatures="trusted", signature_authorities=str(signing.authorities))
    stored = run(tmp_path, provider, answering(signing.pdf()))
    assert [file.signatures for file in stored] == [1]
    assert names_in(tmp_path) == [stored[0].path.name]


def test_a_file_that_was_changed_is_never_stored(tmp_path: Path, signing: Signing) -> None:
    data = signing.pdf().replace(b"2026-0042", b"2026-0043")
    with pytest.raises(PermanentError, match="of 2026-03-01 in the PDF does not fit its content"):
        run(tmp_path, make_ssign(signatures="intact"), answering(data))
    assert names_in(tmp_path) == []


def test_an_unsigned_pdf_passes_with_a_detached_signature_that_came_with_it(
    tmp_path: Path, signing: Signing
) -> None:
    """Whichever comes first; one that is of something else does not help."""
    content = make_pdf("Contrato")

    def answer(signed: bytes) -> Any:
        signature = sign_cms(signed, signing.signer, detached=True)
        files = [
            package("contrato.pdf", content),
            package("contrato.pdf.p7s", signature, "application/pkcs7-signature"),
        ]
        return lambda _request: httpx.Response(200, json=files)

    provider = make_certisign(signatures="intact")
    assert [file.signatures for file in run(tmp_path, provider, answer(content))] == [1, 1]
    with pytest.raises(PermanentError, match="fits none of the files"):
        run(tmp_path, provider, answer(b"other"))


def test_a_kind_that_cannot_be_checked_says_what_can_be_set(tmp_path: Path) -> None:
    with pytest.raises(PermanentError, match=r'\(asice\) cannot be checked: set signatures = "unchecked"'):
        check(tmp_path / "any", "asice")


# The process


def test_what_it_may_do_is_limited(tmp_path: Path) -> None:
    """Memory, files, other programs, the network: each is asked for in the process itself."""
    fault = f"""
def refused(act):
    try:
        act()
    except (MemoryError, OSError) as error:
        return type(error).__name__
    return "allowed"
def write():
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    with open({str(tmp_path / "written")!r}, "wb", buffering=0) as file:
        file.write(b"x")
asked = [
    lambda: bytearray(program.MEMORY_BYTES),
    lambda: socket.socket().connect(("127.0.0.1", 9)),
    lambda: socket.getaddrinfo("localhost", 80),
    lambda: subprocess.run(["/bin/true"]),
    lambda: os.system("true"),
    lambda: os.fork(),
    write,
]
return {{"reason": " ".join([*map(refused, asked), *os.environ])}}
"""
    with pytest.raises(PermanentError) as caught:
        check(tmp_path / "any", program=with_fault(fault.strip()))
    _, *said = str(caught.value).split()
    assert said[:7] == ["MemoryError", *["PermissionError"] * 5, "OSError"]
    # Python itself may add the second. What the daemon has there may be a secret.
    assert set(said[7:]) <= {"PYTHONPATH", "LC_CTYPE"}


@pytest.mark.parametrize(
    "fault",
    [
        "while True: pass",
        "os.kill(os.getpid(), signal.SIGSEGV)",
        "os.kill(os.getpid(), signal.SIGKILL)",
        "os.write(1, b'x' * 100_000)",
    ],
    ids=["turns in circles", "falls over", "is killed", "says too much"],
)
def test_a_file_that_ends_the_process_does_not_pass(tmp_path: Path, fault: str) -> None:
    with pytest.raises(PermanentError, match=TOO_ODD):
        check(tmp_path / "any", program=with_fault(fault))
    assert children() == set()


def test_a_file_that_takes_all_memory_does_not_pass(tmp_path: Path) -> None:
    """A signature file has to be read whole; this one is larger than the process may become."""
    huge = tmp_path / "huge"
    with huge.open("wb") as file:
        file.truncate(1024 * 1024 * 1024)
    with pytest.raises(PermanentError, match=TOO_ODD):
        check(huge, "p7s")


def test_a_check_that_stands_still_is_given_up_and_tried_again(tmp_path: Path) -> None:
    """No file does that, since there is nothing that it could wait for; a disk may."""
    with pytest.raises(TransientError, match="took too long"):
        check(tmp_path / "any", program=staying(tmp_path), file_seconds=0.5)
    assert children() == set()


def test_a_file_that_our_own_disk_does_not_give_is_no_bad_one(tmp_path: Path) -> None:
    with pytest.raises(TransientError, match="No such file"):
        check(tmp_path / "gone")


def test_a_program_that_does_not_start_is_no_files_fault(tmp_path: Path) -> None:
    with pytest.raises(TransientError, match="does not start"):
        check(tmp_path / "any", program=("-c", "import nothing_of_this_name"))


def test_a_process_that_cannot_be_started_is_our_own_trouble(tmp_path: Path) -> None:
    """Here there are no more file descriptors for the pipes to it."""

    async def act() -> None:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        first_free = os.dup(0)
        os.close(first_free)
        resource.setrlimit(resource.RLIMIT_NOFILE, (first_free, hard))
        try:
            await SignatureCheck().check([FileToCheck("signed:1", tmp_path / "any", "pdf")], [], INTACT)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    with pytest.raises(SpoolUnavailableError, match="cannot be started"):
        asyncio.run(act())


def test_only_two_check_at_once(tmp_path: Path) -> None:
    async def act() -> tuple[int, list[int]]:
        checks = SignatureCheck(program=staying(tmp_path))
        files = [FileToCheck(f"signed:{n}", tmp_path / f"any-{n}", "pdf") for n in range(4)]
        running = [asyncio.ensure_future(checks.check([file], [], INTACT)) for file in files]
        await until(lambda: len(there(tmp_path)) >= 2 and len(there(tmp_path)) == len(children()))
        at_once = len(there(tmp_path))
        (tmp_path / "go").mkdir()
        return at_once, [sum(found.values()) for found in await asyncio.gather(*running)]

    assert asyncio.run(act()) == (2, [1, 1, 1, 1])
    assert len(there(tmp_path)) == 4


@pytest.mark.parametrize("turns", [0, 1, 2, 5, None])
def test_cancelling_leaves_no_process_behind(tmp_path: Path, turns: int | None) -> None:
    """At any moment: as it is being started, too. None waits until it is at work."""

    async def act() -> None:
        checks = SignatureCheck(program=staying(tmp_path))
        file = FileToCheck("signed:1", tmp_path / "any", "pdf")
        running = asyncio.ensure_future(checks.check([file], [], INTACT))
        for _ in range(turns or 0):
            await asyncio.sleep(0)
        if turns is None:
            await until(lambda: there(tmp_path))
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert children() == set()

    asyncio.run(act())


def test_signals_to_stop_are_the_daemons_business(tmp_path: Path) -> None:
    """A service manager sends them to every process of a service; what is in hand comes to its end."""

    async def act() -> int:
        checks = SignatureCheck(program=staying(tmp_path))
        file = FileToCheck("signed:1", tmp_path / "any", "pdf")
        running = asyncio.ensure_future(checks.check([file], [], INTACT))
        await until(lambda: there(tmp_path))
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            os.kill(there(tmp_path)[0], number)
        (tmp_path / "go").mkdir()
        return (await running)[file.path]

    assert asyncio.run(act()) == 1


def test_it_ends_when_the_daemon_is_killed(tmp_path: Path) -> None:
    script = (
        "import asyncio, pathlib\n"
        "from processor.signatures import FileToCheck, SignatureCheck\n"
        "from shared.providers._base import ProviderSettings\n"
        f"checks = SignatureCheck(program={staying(tmp_path)!r})\n"
        "file = FileToCheck('signed:1', pathlib.Path('any'), 'pdf')\n"
        "asyncio.run(checks.check([file], [], ProviderSettings(signatures='intact')))\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    daemon = subprocess.Popen([sys.executable, "-c", script], env=environment)
    try:
        wait_until(lambda: there(tmp_path), "the process that checks")
        (pid,) = there(tmp_path)
        assert is_alive(pid)
    finally:
        daemon.kill()
        daemon.wait()
    wait_until(lambda: not is_alive(pid), "the process that checks to end")


def test_the_daemon_does_not_grow_with_the_file(tmp_path: Path, signing: Signing) -> None:
    """200 MB and their signature; the peak of this process is looked at, in which the daemon's part runs."""

    def peak_kib() -> int:
        status = Path("/proc/self/status").read_text().splitlines()
        return int(next(line for line in status if line.startswith("VmHWM:")).split()[1])

    content, signature = tmp_path / "contrato", tmp_path / "contrato.p7s"
    with content.open("w+b") as file:
        file.truncate(200_000_000)
        signature.write_bytes(sign_cms(file, signing.signer, detached=True))
    Path("/proc/self/clear_refs").write_text("5")
    before_kib = peak_kib()
    assert check(signature, "p7s", others=(content,)) == 1
    assert peak_kib() - before_kib < 32 * 1024
