"""What the demo plays: documents, what happens to them, and the callbacks that this causes."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import zip_longest

from shared.events import DocumentStatus, Outcome
from signspool.demo.act_arqsign import ArqSignAct
from signspool.demo.act_posten import PostenAct
from signspool.demo.act_restpki import RestPkiAct
from signspool.demo.acts import Act, Followed, dms_of
from signspool.demo.values import Call, Name
from simulator.callbacks import CERTISIGN_ACTIONS, SSIGN_ACTIONS, Body, certisign_body, ssign_body
from simulator.certisign import Certisign
from simulator.smartshare import SmartShare
from simulator.ssign import SIGNED, SSign
from simulator.world import World

SSIGN, CERTISIGN = "ssign", "certisign"

_SECRET_HEADER = "X-Callback-Secret"  # noqa: S105  (a header's name)

APPLIED, UNCHANGED, LATE = Outcome.APPLIED, Outcome.UNCHANGED, Outcome.LATE
REPEATED, UNKNOWN = Outcome.REPEATED, Outcome.UNKNOWN_ACTION


@dataclass(frozen=True, slots=True)
class Scene:
    """One document.

    `happens` is what happens at the provider, in that order; `sent` are the places in it whose callbacks
    arrive, in order of arrival; `outcomes` is what each of those has to lead to, `status` where all end.
    """

    provider: str
    title: str
    happens: tuple[str, ...]
    sent: tuple[int, ...]
    outcomes: tuple[Outcome, ...]
    status: DocumentStatus
    files: int = 1
    signers: int = 1
    registered_late: bool = False


DONE = DocumentStatus.COMPLETED
SCENES = (
    Scene(SSIGN, "Locação", ("COMPLETED",), (0,), (APPLIED,), DONE),
    Scene(SSIGN, "Seguro", ("COMPLETED",), (0, 0, 0), (APPLIED, REPEATED, REPEATED), DONE),
    Scene(SSIGN, "Compra", ("PENDING", "COMPLETED"), (1, 0), (APPLIED, LATE), DONE),
    Scene(SSIGN, "Estágio", ("EXPIRED",), (0,), (APPLIED,), DocumentStatus.EXPIRED),
    Scene(SSIGN, "Frete", ("EXPIRED", "COMPLETED"), (0, 1), (APPLIED, APPLIED), DONE),
    Scene(SSIGN, "Cessão", ("EXPIRED", "DELETED"), (1, 0), (APPLIED, LATE), DocumentStatus.DELETED),
    Scene(SSIGN, "Contrato e anexo", ("COMPLETED",), (0,), (APPLIED,), DONE, files=2),
    Scene(SSIGN, "Sem cadastro", ("COMPLETED",), (0,), (APPLIED,), DONE, registered_late=True),
    Scene(SSIGN, "Arquivo", ("PENDING", "ARCHIVED"), (0, 1), (UNCHANGED, UNKNOWN), DocumentStatus.PENDING),
    Scene(
        CERTISIGN,
        "Sociedade",
        ("SIGNATURE-DIGITAL", "SIGNATURE-ELETRONIC", "STEP", "FLOW"),
        (0, 1, 3, 2),
        (UNCHANGED, UNCHANGED, APPLIED, UNCHANGED),
        DONE,
        signers=2,
    ),
    Scene(
        CERTISIGN,
        "Fornecimento",
        ("AUTHORIZATION-OK", "APPROVAL-OK", "SIGNATURE-SERVER", "FLOW"),
        (0, 1, 2, 3, 3),
        (UNCHANGED, UNCHANGED, UNCHANGED, APPLIED, REPEATED),
        DONE,
    ),
    Scene(CERTISIGN, "Fiança", ("SIGNATURE-NOK",), (0,), (APPLIED,), DocumentStatus.DECLINED),
    Scene(CERTISIGN, "Aditivo", ("AUTHORIZATION-NOK",), (0,), (APPLIED,), DocumentStatus.DECLINED),
    Scene(CERTISIGN, "Distrato", ("APPROVAL-NOK",), (0,), (APPLIED,), DocumentStatus.DECLINED),
)

CLAIMED_BY_A_STRANGER = 3
"""The scene whose expired document somebody with a wrong secret says is completed."""


@dataclass(frozen=True, slots=True)
class Role:
    """A scene with the document that a provider made for it. `references` and `dms` are to be registered."""

    scene: Scene
    document_id: str
    references: Mapping[str, str]
    dms: Mapping[str, str]
    calls: tuple[Call, ...]

    @property
    def name(self) -> tuple[str, str]:
        """Provider and document id."""
        return self.scene.provider, self.document_id

    @property
    def is_delivered(self) -> bool:
        """Whether its signed files have to arrive, and its workflow has to be advanced."""
        return self.scene.status is DONE


@dataclass(frozen=True, slots=True)
class Cast:
    """Everything that is to be played. `secrets` are all the texts that may not appear anywhere.

    `roles` are played together, then each of the `acts`, which have secrets and callbacks of their own.
    """

    world: World
    roles: tuple[Role, ...]
    acts: tuple[Act, ...]
    refused: tuple[Call, ...]
    callback_secrets: Mapping[str, str]
    secrets: tuple[str, ...]

    @property
    def calls(self) -> list[Call]:
        """Every callback, in order of sending."""
        return [call for turn in self.turns() for call in turn]

    def turns(self) -> Iterator[list[Call]]:
        """The callbacks in turns, the n-th of every document in the n-th; the refused ones come last.

        What one look finds in the spool is recorded in any order, so only from turn to turn is it certain
        which of two callbacks of a document is the later one.
        """
        for turn in zip_longest(*(role.calls for role in self.roles)):
            yield [call for call in turn if call is not None]
        yield list(self.refused)

    @property
    def followed(self) -> list[tuple[Act, Followed]]:
        """What the acts have sent out, each with its act."""
        return [(act, item) for act in self.acts for item in act.followed]

    def by_workflow(self) -> dict[str, Name]:
        """The documents by the workflow that they belong to."""
        return {
            **{role.dms["cdFluxo"]: role.name for role in self.roles},
            **{item.workflow: item.name for _, item in self.followed},
        }

    def served(self) -> dict[Name, list[str]]:
        """The digests of the signed files that the providers give out, by document."""
        return {
            **{role.name: self._served(role) for role in self.roles if role.is_delivered},
            **{item.name: act.served(item.name[1]) for act, item in self.followed if item.is_delivered},
        }

    def _served(self, role: Role) -> list[str]:
        if role.scene.provider == SSIGN:
            file_ids = role.references["file_ids"].split(",")
            found = [self.world.ssign.download(int(file_id), SIGNED) for file_id in file_ids]
            return [file.sha256 for file in found if file is not None]
        document = self.world.certisign.by_chave(role.references["chave"])
        return [
            file.sha256 for file in self.world.certisign.package(document, original=False, manifest=False)
        ]


def make_cast() -> Cast:
    """A new world with the documents of all scenes, everything having happened there already."""
    world = World(
        ssign=SSign(token=_secret()),
        certisign=Certisign(token=_secret()),
        smartshare=SmartShare(client_key=_secret(), password=_secret()),
    )
    ours = {SSIGN: _secret(), CERTISIGN: _secret()}
    wrong = _secret()
    roles = tuple(_role(world, ours, scene, 7001 + place) for place, scene in enumerate(SCENES))
    claimed = roles[CLAIMED_BY_A_STRANGER].document_id
    refused = (
        _call(
            SSIGN,
            claimed,
            "COMPLETED",
            ssign_body(int(claimed), "COMPLETED"),
            secret=wrong,
            expected=401,
            note="wrong secret",
        ),
        _call(
            SSIGN,
            claimed,
            "",
            {"envelopeId": int(claimed)},
            secret=ours[SSIGN],
            expected=422,
            note="no action",
        ),
    )
    dms = world.smartshare
    known = (*ours.values(), wrong, world.ssign.token, world.certisign.token, dms.client_key, dms.password)
    acts = (RestPkiAct(world, 7100), ArqSignAct(world, 7200), PostenAct(world, 7300))
    return Cast(world, roles, acts, refused, ours, known)


def _secret() -> str:
    # Another one at each run, so that whoever finds it somewhere knows from where it leaked.
    return secrets.token_hex(16)


def _role(world: World, ours: Mapping[str, str], scene: Scene, workflow: int) -> Role:
    document_id, references = _sent_out(world, scene)
    bodies = [_happen(world, scene.provider, document_id, action) for action in scene.happens]
    notes = _notes(scene)
    calls = tuple(
        _call(
            scene.provider,
            document_id,
            scene.happens[place],
            bodies[place],
            secret=ours[scene.provider],
            note=note,
        )
        for place, note in zip(scene.sent, notes, strict=True)
    )
    return Role(scene, document_id, references, dms_of(workflow), calls)


def _sent_out(world: World, scene: Scene) -> tuple[str, dict[str, str]]:
    """Send a document out for signature, as the application does; returns its id and its references."""
    if scene.provider == SSIGN:
        envelope = world.ssign.send(scene.title, files=scene.files)
        return str(envelope.id), {"file_ids": ",".join(map(str, envelope.file_ids))}
    document = world.certisign.send(scene.title, signers=scene.signers)
    return str(document.id), {"chave": document.chave}


def _happen(world: World, provider: str, document_id: str, action: str) -> Body:
    if action in (SSIGN_ACTIONS if provider == SSIGN else CERTISIGN_ACTIONS):
        return world.happen(provider, int(document_id), action)
    # A word that the provider's documentation does not know yet.
    if provider == SSIGN:
        return ssign_body(int(document_id), action)
    return certisign_body(int(document_id), action, name="", identifier="", api_download="")


def _notes(scene: Scene) -> Iterator[str]:
    for turn, place in enumerate(scene.sent):
        if place in scene.sent[:turn]:
            yield "sent again"
        elif any(place < earlier for earlier in scene.sent[:turn]):
            yield "out of order"
        elif scene.outcomes[turn] is UNKNOWN:
            yield "unknown"
        elif scene.registered_late:
            yield "unregistered"
        else:
            yield ""


def _call(
    provider: str,
    document_id: str,
    action: str,
    body: Body,
    *,
    secret: str,
    expected: int = 200,
    note: str = "",
) -> Call:
    content = json.dumps(body, ensure_ascii=False).encode("utf-8")
    return Call(provider, document_id, action, content, {_SECRET_HEADER: secret}, expected, note)
