"""Destinations made from settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from processor.destinations import build_destinations
from processor.destinations.folder import FolderDestination
from processor.destinations.http import HttpDestination
from processor.destinations.s3 import S3Destination
from processor.destinations.smartshare import SmartshareDestination
from processor.outside import Outside
from shared.clock import Clock
from shared.providers._base import FileKind
from shared.settings.destinations import DestinationSettings


def test_each_kind_has_its_destination_and_the_web_ones_a_sender_for_their_origin_only(
    tmp_path: Path, make_outside: Any
) -> None:
    account = {"client": "c", "client_key": "k", "user": "u", "password": "p"}
    settings = TypeAdapter(dict[str, DestinationSettings]).validate_python(
        {
            "ecm": {
                "kind": "smartshare",
                "base_url": "https://ecm.example/api",
                "ca_file": "/ca.pem",
                **account,
            },
            "api": {"kind": "http", "url": "http://api.example:81/in", "kinds": ["signed"]},
            "disk": {"kind": "folder", "path": tmp_path},
            "bucket": {
                "kind": "s3",
                "bucket": "contracts",
                "region": "sa-east-1",
                "access_key": "k",
                "secret_key": "s",
            },
        }
    )
    made: list[tuple[str, frozenset[str], Path | None]] = []

    def factory(peer: str, *, origins: frozenset[str], ca_file: Path | None) -> Outside:
        made.append((peer, origins, ca_file))
        outside: Outside = make_outside(peer, origins=origins, ca_file=ca_file)
        return outside

    built = build_destinations(settings, outside_factory=factory, clock=Clock())
    assert {name: (type(one), one.name, one.repeatable) for name, one in built.items()} == {
        "ecm": (SmartshareDestination, "ecm", False),
        "api": (HttpDestination, "api", True),
        "disk": (FolderDestination, "disk", True),
        "bucket": (S3Destination, "bucket", True),
    }
    assert built["api"].kinds == {FileKind.SIGNED}
    assert built["disk"].kinds == {FileKind.SIGNED, FileKind.REPORT}
    assert made == [
        ("ecm", frozenset({"https://ecm.example:443"}), Path("/ca.pem")),
        ("api", frozenset({"http://api.example:81"}), None),
        ("bucket", frozenset({"https://contracts.s3.sa-east-1.amazonaws.com:443"}), None),
    ]
    assert "/ca.pem" in (built["ecm"].why_unusable() or "")
    assert built["api"].why_unusable() is None
    assert built["disk"].why_unusable() is None
