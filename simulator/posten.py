"""Posten signering as its fact sheet describes it: jobs, queues that hide what they show, confirmations."""

from __future__ import annotations

import hashlib
import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, NamedTuple

from simulator.files import make_pdf
from simulator.peer import PeerError
from simulator.posten_jobs import (
    FINAL,
    Flow,
    Job,
    Signer,
    created,
    direct_status,
    instant_text,
    portal_status,
    redirected_signer,
)
from simulator.posten_wire import CodedError, NewJob, NewSigner, Person

Queue = tuple[str, Flow, str]
"""Sender, flow and the name of the queue; an empty name is the default queue."""

POSTEN = "984661185"
SENDER = "123456789"
_MAX_CALLS_PER_SECOND = 10
_FLOOD_SECONDS = 30.0


@dataclass
class Item:
    """One update that waits, or that was handed out and is hidden until then."""

    job: Job
    hidden_until: datetime | None = None
    shown: bytes = b""
    shown_status: str = ""


class Polled(NamedTuple):
    """What a poll is answered: HTTP status, headers, body."""

    status: int
    headers: dict[str, str]
    body: bytes = b""


@dataclass
class Posten:
    """All that Posten signering knows, and its switches; times are in seconds, the clock is the server's.

    Of polling: `hide_seconds` is how long an update is hidden, 0 for early redelivery; `stale` hands out
    again what was shown before, in place of the present state; `wait_seconds` is the pause after an empty
    queue and after a poll that came too early; `poll_time` is how that pause is told; `flood_filter`
    switches it on. Of messages: `wire` writes prefixes as the service does, `signer_word` puts another word
    in place of every signer's status. Of answers: `error_form`; `confirm_status`; `half_pades` serves half
    of a signed PDF as if it were all; `long_term_storage` keeps confirmed jobs. `authorised` are the
    organisations that have access, `brokers` who may act for which senders; `skew_seconds` is how far the
    server's clock is ahead.
    """

    base_url: str = "https://posten.invalid"
    hide_seconds: float = 600.0
    stale: bool = False
    wait_seconds: float = 10.0
    poll_time: Literal["present", "missing", "unreadable"] = "present"
    flood_filter: bool = True
    wire: bool = True
    signer_word: str = ""
    error_form: Literal["xml", "text", "empty"] = "xml"
    confirm_status: Literal[200, 204] = 204
    half_pades: bool = False
    long_term_storage: bool = False
    authorised: frozenset[str] = frozenset({SENDER})
    brokers: Mapping[str, frozenset[str]] = field(default_factory=dict)
    skew_seconds: float = 0.0
    next_id: int = 12087
    jobs: dict[int, Job] = field(default_factory=dict)
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    _queues: dict[Queue, list[Item]] = field(default_factory=dict, repr=False)
    _permitted: dict[Queue, datetime] = field(default_factory=dict, repr=False)
    _calls: dict[str, deque[datetime]] = field(default_factory=dict, repr=False)
    _blocked: dict[str, datetime] = field(default_factory=dict, repr=False)
    _lock: threading.RLock = field(default_factory=threading.RLock, repr=False)

    def now(self) -> datetime:
        """The server's time."""
        return self.clock() + timedelta(seconds=self.skew_seconds)

    # Who calls

    def admit(self, caller: str, sender: str) -> None:
        """Return when an organisation may act for a sender.

        Raises:
            CodedError: it may not.
        """
        if caller not in self.authorised:
            raise CodedError(403, "NOT_AUTHORIZED", "The organisation has no access")
        if caller != sender and sender not in self.brokers.get(caller, ()):
            raise CodedError(403, "BROKER_NOT_AUTHORIZED", "Broker is not authorized")

    def is_flood(self, caller: str) -> bool:
        """Count a call; whether the filter stops it."""
        with self._lock:
            now = self.clock()
            if not self.flood_filter:
                return False
            if now < self._blocked.get(caller, now):
                return True
            calls = self._calls.setdefault(caller, deque())
            calls.append(now)
            while now - calls[0] >= timedelta(seconds=1):
                calls.popleft()
            if len(calls) > _MAX_CALLS_PER_SECOND:
                self._blocked[caller] = now + timedelta(seconds=_FLOOD_SECONDS)
                return True
            return False

    # Jobs

    def create(self, sender: str, flow: Flow, new: NewJob) -> Job:
        """A new job; nothing is queued for it."""
        if not new.signers or not new.documents:
            raise CodedError(400, "ASICE_VALIDATION_FAILED", "there are no signers, or no documents")
        with self._lock:
            now = self.now()
            signers = [Signer(signer.person, signer.order, "WAITING", now) for signer in new.signers]
            job = Job(self.next_id, sender, flow, new, signers)
            self.next_id += 1
            self.jobs[job.id] = job
            if flow == "direct":
                for place in range(len(signers)):
                    self.redirect(job, place)
            return job

    def send(
        self,
        *persons: Person,
        sender: str = SENDER,
        queue: str = "",
        reference: str = "",
        flow: Flow = "portal",
    ) -> Job:
        """A job that somebody sent, without a package; of one signer unless told otherwise."""
        signers = persons or (Person(personal_number="01013300001"),)
        new = NewJob(
            reference=reference,
            queue=queue,
            title="Avtale",
            signers=tuple(NewSigner(person, 0) for person in signers),
            documents={"0000_avtale.pdf": make_pdf("Avtale")},
            exit_urls={},
            is_polled=True,
        )
        return self.create(sender, flow, new)

    def job(self, job_id: int, sender: str | None = None) -> Job:
        """A job of a sender.

        Raises:
            CodedError: 404, there is none, or it is gone.
        """
        job = self.jobs.get(job_id)
        if job is None or job.is_gone or sender not in (None, job.sender):
            raise CodedError(404, "JOB_NOT_FOUND", "There is no such job")
        return job

    def act(self, job_id: int, word: str, place: int = 0) -> str:
        """A signer (counted from 0) does something, or something befalls it: its status is `word` then.

        Returns where the signer's browser is sent, in the direct flow.

        Raises:
            PeerError: 409, the job has ended; 404, there is no such signer.
        """
        with self._lock:
            job = self.job(job_id)
            if job.status in FINAL:
                raise PeerError(409, "the job has ended")
            if not 0 <= place < len(job.signers):
                raise PeerError(404, f"the job has {len(job.signers)} signers")
            self._set(job.signers[place], word)
            if word != "SIGNED":
                for other in job.signers:
                    if other.status == "WAITING":
                        self._set(other, "NOT_APPLICABLE")
            self._enqueue(job)
            return self._browser_goes_to(job, word)

    def end(self, job_id: int, word: str) -> None:
        """The deadline has passed (`EXPIRED`) or the sender has cancelled (`CANCELLED`).

        Raises:
            CodedError: 409, the job has ended already.
        """
        with self._lock:
            job = self.job(job_id)
            if job.status in FINAL:
                raise CodedError(409, "JOB_FINISHED", "The job is already finished")
            for signer in job.signers:
                if signer.status == "WAITING":
                    self._set(signer, word)
            self._enqueue(job)

    def _set(self, signer: Signer, word: str) -> None:
        signer.status, signer.since = word, self.now()

    def _enqueue(self, job: Job) -> None:
        if job.new.is_polled:
            queue = (job.sender, job.flow, job.new.queue)
            self._queues.setdefault(queue, []).append(Item(job))

    # Queues

    def poll(self, sender: str, flow: Flow, queue: str) -> Polled:
        """What is next on a queue, if it may be asked already."""
        with self._lock:
            name, now = (sender, flow, queue), self.now()
            permitted = self._permitted.get(name, now)
            later = now + timedelta(seconds=self.wait_seconds)
            if now < permitted:
                self._permitted[name] = max(permitted, later)
                return Polled(429, self._poll_header(self._permitted[name]))
            item = self._next_item(name, now)
            if item is None:
                self._permitted[name] = later
                return Polled(204, self._poll_header(later))
            if not (self.stale and item.shown):
                item.shown, item.shown_status = self.status_message(item.job), item.job.status
            item.hidden_until = now + timedelta(seconds=self.hide_seconds)
            headers = {"content-type": "application/xml", **self._poll_header(now)}
            return Polled(200, headers, item.shown)

    def _next_item(self, name: Queue, now: datetime) -> Item | None:
        for item in self._queues.get(name, []):
            if item.hidden_until is None or item.hidden_until <= now:
                return item
        return None

    def _poll_header(self, permitted: datetime) -> dict[str, str]:
        if self.poll_time == "missing":
            return {}
        written = instant_text(permitted)
        return {"X-Next-permitted-poll-time": "soon" if self.poll_time == "unreadable" else written}

    def waiting(self, sender: str = SENDER, flow: Flow = "portal", queue: str = "") -> int:
        """How many updates are unconfirmed, hidden ones among them."""
        with self._lock:
            return len(self._queues.get((sender, flow, queue), []))

    def confirm(self, job: Job) -> None:
        """Take off what was handed out of a job; when that was its end, the job is gone."""
        with self._lock:
            queue = self._queues.get((job.sender, job.flow, job.new.queue), [])
            shown = [item for item in queue if item.job is job and item.shown]
            # In the direct flow without polling the status itself was shown.
            status = shown[0].shown_status if shown else job.status
            job.confirmations.append(status)
            if shown:
                queue.remove(shown[0])
            if status in FINAL and not self.long_term_storage:
                job.is_gone = True
                queue[:] = [item for item in queue if item.job is not job]

    # What is said of a job

    def status_message(self, job: Job) -> bytes:
        """The state of a job now."""
        if job.flow == "direct":
            return direct_status(job, self.base_url, wire=self.wire, word=self.signer_word)
        return portal_status(job, self.base_url, wire=self.wire, word=self.signer_word)

    def created_message(self, job: Job) -> bytes:
        """What is answered to a new job."""
        return created(job, self.base_url, wire=self.wire)

    def signer_message(self, job: Job, place: int) -> bytes:
        """What is answered to the wish for a new redirect address."""
        return redirected_signer(job, place, self.base_url, wire=self.wire)

    # Files

    def pades(self, job: Job) -> bytes:
        """The signed PDF so far.

        Raises:
            CodedError: 404, nobody has signed, or its documents were deleted.
        """
        signed = [signer for signer in job.signers if signer.status == "SIGNED"]
        if not signed or job.documents_deleted:
            raise CodedError(404, "DOCUMENT_NOT_FOUND", "There is no signed document")
        content = make_pdf(f"Signert: {job.new.title}\n{job.id}\n" + "\n".join(map(str, range(len(signed)))))
        return content[: len(content) // 2] if self.half_pades else content

    def xades(self, job: Job, place: int) -> bytes:
        """The signature of one signer.

        Raises:
            CodedError: 404, there is none.
        """
        if not 0 < place <= len(job.signers) or job.signers[place - 1].status != "SIGNED":
            raise CodedError(404, "DOCUMENT_NOT_FOUND", "There is no such signature")
        return f'<SEID-SDO xmlns="urn:sdo" job="{job.id}" signature="{place}"/>'.encode()

    # The direct flow

    def redirect(self, job: Job, place: int) -> str:
        """A new address at which a signer signs, once."""
        signer = job.signers[place]
        token = _token(job, place, len(signer.redirects))
        signer.redirects.append(f"{self.base_url}/web#/redirect/{token}")
        return signer.redirects[-1]

    def _browser_goes_to(self, job: Job, word: str) -> str:
        exits = job.new.exit_urls
        if not exits:
            return ""
        job.token = _token(job, -1, len(job.token) + 1)
        name = {"SIGNED": "completion-url", "REJECTED": "rejection-url"}.get(word, "error-url")
        joint = "&" if "?" in exits[name] else "?"
        return f"{exits[name]}{joint}status_query_token={job.token}"

    def status_by_token(self, job: Job, token: str) -> bytes:
        """The state of a job of the direct flow, for whoever brings the token of its browser.

        Raises:
            CodedError: the token is wrong, or no browser has come back yet.
        """
        if not job.token:
            raise CodedError(404, "SIGNING_CEREMONY_NOT_COMPLETED", "The signer is still signing")
        if token != job.token:
            raise CodedError(403, "INVALID_STATUS_QUERY_TOKEN", "The token is invalid")
        return self.status_message(job)

    @property
    def summary(self) -> dict[str, Any]:
        """The state, without file contents and without personal numbers."""
        with self._lock:
            return {
                "jobs": [
                    {
                        "id": job.id,
                        "reference": job.new.reference,
                        "flow": job.flow,
                        "status": job.status,
                        "signers": [signer.status for signer in job.signers],
                        "confirmations": job.confirmations,
                        "gone": job.is_gone,
                    }
                    for job in self.jobs.values()
                ]
            }


def _token(job: Job, place: int, number: int) -> str:
    return hashlib.sha256(f"{job.id} {place} {number}".encode()).hexdigest()
