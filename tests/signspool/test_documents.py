"""Documents by command: registering one, importing many, and reading the whole story of one."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import URL

from processor import documents
from shared.body import Encoding
from shared.db.session import Database
from shared.record import Receipt, SpoolRecord, digest_of
from tests.signspool.conftest import Place


def register(place: Place, *arguments: str) -> str:
    """What `documents register` said."""
    said = place.here("documents", "register", *arguments)
    assert said.code == 0, said.err
    return said.out.strip()


def known(place: Place) -> dict[str, Any]:
    """The references of every document, by id."""
    rows = place.here("documents", "ls", "--json").json
    shown = (place.here("documents", "show", row["provider"], row["document_id"], "--json") for row in rows)
    return {item.json["document_id"]: {**item.json["references"], **item.json["dms"]} for item in shown}


def test_registering_is_repeatable_and_adds_references(place: Place) -> None:
    """New, then unchanged, then changed; what was known stays."""
    arguments = ("ssign", "155", "--ref", "file_ids=901,902")
    assert register(place, *arguments) == "ssign 155: new"
    assert register(place, *arguments) == "ssign 155: unchanged"
    assert register(place, "ssign", "155", "--dms", "folder=a=b") == "ssign 155: changed"
    assert known(place) == {"155": {"file_ids": "901,902", "folder": "a=b"}}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["ssign", "1", "--ref", "chave=x"], "file_ids"),
        (["nobody", "1"], "known are: arqsign, "),
        (["ssign", "1", "--ref", "file_ids"], "--ref NAME=VALUE"),
        (["ssign", "1", "--dms", "=x"], "--dms NAME=VALUE"),
        (["ssign", "1", "--dms", "a=1", "--dms", "a=2"], "given twice"),
        (["ssign", " "], "empty"),
    ],
)
def test_a_registration_that_cannot_be_used_exits_2_and_says_what_can(
    place: Place, arguments: list[str], message: str
) -> None:
    """Nothing is noted."""
    said = place.here("documents", "register", *arguments)
    assert said.code == 2
    assert message in said.err
    assert known(place) == {}


def test_show_tells_the_whole_story_and_json_is_what_the_daemon_says(place: Place) -> None:
    """Status, events, what is owed and why; the JSON is that of `processor.documents.show`, and where entries
    lie."""
    place.callback("155")
    place.once()
    said = place.here("documents", "show", "ssign", "155")
    assert said.out.startswith("ssign 155: completed\n")
    database = Database(URL.create("sqlite", database=str(place.spool.root / "signspool.db")))
    with database.transaction() as connection:
        expected = documents.show(connection, "ssign", "155")
    database.close()
    assert expected is not None
    for text in ("pending -> completed", "waiting", expected["owed"][0]["last_error"]):
        assert text in said.out
    shown = place.here("documents", "show", "ssign", "155", "--json").json
    assert list(shown.pop("entries").values()) == ["deferred/"]
    assert shown == expected


def test_what_callbacks_told_besides_is_shown_each_on_a_line_of_its_own(place: Place) -> None:
    """A stranger's words: cut, and without control characters."""
    guid = "01900000-0000-7000-8000-000000000000"
    document = {
        "id": "7",
        "key": "K",
        "metadata": {"envelope-id": ["4711"], "x": ["a\n\u001b[1mb", "y" * 500]},
    }
    payload = json.dumps({"type": "DocumentSignatureCompleted", "document": document}).encode()
    receipt = Receipt(guid, "restpki", Encoding.JSON, digest_of(payload), len(payload))
    record = SpoolRecord(datetime.now(UTC), "7", "DocumentSignatureCompleted", 2, payload, receipt=receipt)
    place.config.write_text(f'{place.config.read_text()}[providers.restpki]\nsecret = "x"\n')
    place.file(f"7_{guid}.json", record.to_bytes())
    assert place.once().code == 0
    lines = place.here("documents", "show", "restpki", "7").out.splitlines()
    start = lines.index("  learned     document_key=K")
    assert lines[start + 1] == "              metadata.envelope-id=4711"
    assert lines[start + 2].startswith("              metadata.x=a")
    assert "\x1b" not in lines[start + 2]
    assert len(lines[start + 3]) < 120
    shown = place.here("documents", "show", "restpki", "7", "--json").json
    assert shown["learned"]["metadata.x.2"] == "y" * 500


def test_an_unknown_document_exits_1_with_a_hint(place: Place) -> None:
    """Nothing on standard output, even with --json."""
    said = place.here("documents", "show", "ssign", "155", "--json")
    assert (said.code, said.out) == (1, "")
    assert "signspool spool show 155" in said.err


def test_documents_are_listed_by_provider_and_status(place: Place) -> None:
    """Each option narrows; an unknown status is wrong use."""
    place.callback("1")
    place.once()
    register(place, "certisign", "2")
    listed = place.here("documents", "ls", "--status", "completed", "--json").json
    assert [(row["document_id"], row["unfinished"]) for row in listed] == [("1", 1)]
    listed = place.here("documents", "ls", "--provider", "certisign", "--json").json
    assert [row["document_id"] for row in listed] == ["2"]
    assert len(place.here("documents", "ls").out.splitlines()) == 3
    assert place.here("documents", "ls", "--status", "signed").code == 2


def write(place: Place, text: str | bytes) -> Path:
    """A file to be imported."""
    path = place.home / "sent"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def test_a_spreadsheets_csv_is_imported_and_again_without_effect(place: Place) -> None:
    """Semicolons, BOM, CRLF, quotes, empty cells and empty lines."""
    path = write(
        place,
        "\ufeffprovider;document_id;ref.file_ids;ref.chave;dms.folder\r\n"
        'ssign;0155;"901;902";;A "1"\r\n;;;;\r\n'
        "certisign;7;;k;\r\n",
    )
    assert place.here("documents", "import", str(path), "--dry-run", "--json").json["lines"] == 2
    assert known(place) == {}
    assert place.here("documents", "import", str(path)).out == "new 2, changed 0, unchanged 0\n"
    assert known(place) == {"0155": {"file_ids": "901;902", "folder": 'A "1"'}, "7": {"chave": "k"}}
    assert place.here("documents", "import", str(path)).out == "new 0, changed 0, unchanged 2\n"


def test_json_lines_are_imported_with_exact_ids_from_standard_input(place: Place) -> None:
    """An id written as a number keeps every digit."""
    number = 2**70 + 1
    lines = [
        f'{{"provider": "ssign", "document_id": {number}, "references": {{"file_ids": 901}}}}',
        "",
        '{"provider": "ssign", "document_id": "a/b", "dms": {"folder": "x", "nothing": null}}',
    ]
    said = place.real("documents", "import", "-", "--json", stdin="\n".join(lines).encode())
    assert said.json == {"lines": 2, "new": 2, "changed": 0, "unchanged": 0, "dry_run": False}
    assert known(place) == {str(number): {"file_ids": "901"}, "a/b": {"folder": "x"}}


def test_one_fault_imports_nothing_and_every_fault_is_told_with_its_line(place: Place) -> None:
    """All lines are checked first."""
    path = write(
        place,
        "provider,document_id,ref.file_ids\n"
        "ssign,1,901\n"
        "nobody,2,\n"
        "ssign,,\n"
        "ssign,3\n"
        "certisign,4,901\n"
        'ssign,"two\nlines",9\n'
        "ssign,1,902\n",
    )
    said = place.here("documents", "import", str(path))
    assert said.code == 2
    lines = said.err.splitlines()
    assert [line.split(":")[1].strip() for line in lines[:-1]] == [
        "line 3",
        "line 4",
        "line 5",
        "line 6",
        "line 9",
    ]
    assert "is another one in line 2" in lines[4]
    assert lines[-1] == "signspool: 5 faults: nothing was imported"
    assert known(place) == {}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"provider,document_id,file_ids\nssign,1,2\n", "line 1: unknown column 'file_ids'"),
        (b"provider,ref.file_ids\nssign,1\n", "none called document_id"),
        (b"provider,document_id,dms.a,dms.a\n", "several columns dms.a"),
        (b'provider,document_id\nssign,"1\n', "line 2: "),
        (b"provider,document_id\nssign,\xff\n", "line 2 is not UTF-8"),
        (b"\n", "the file is empty"),
        (b'{"provider": "ssign"}', "document_id"),
        (
            b'{"provider": "ssign", "document_id": 1.5}',
            "line 1: document_id must be a text or a whole number",
        ),
        (b'{"provider": "ssign", "document_id": 1, "refs": {}}', "unknown key 'refs'"),
        (b'{"provider": "ssign", "document_id": 1, "dms": [1]}', "dms must be an object"),
        (b'{"provider": "ssign", "document_id": 1}\n{oops', "line 2: "),
        (b'{"provider": 1, "document_id": 1}', "provider must be a text"),
    ],
)
def test_a_file_that_cannot_be_understood_says_why(place: Place, content: bytes, message: str) -> None:
    """Exit 2, one message that names the line."""
    said = place.here("documents", "import", str(write(place, content)))
    assert said.code == 2
    assert message in said.err


@pytest.mark.parametrize("bad", ["a\0b", "a\rb", "a\nb", "a\x1bb", "a\x85b", "a\ud800b"], ids=ascii)
@pytest.mark.parametrize("kind", ["references", "dms"])
def test_values_with_control_characters_are_refused_by_name(place: Place, kind: str, bad: str) -> None:
    """By both commands, before anything is noted; what a letter has on it is no matter."""
    line = {"provider": "ssign", "document_id": 1, kind: {"file_ids": bad}}
    said = place.here("documents", "import", str(write(place, json.dumps(line))))
    assert said.code == 2
    assert "line 1: " in said.err
    assert "'file_ids'" in said.err
    option = "--ref" if kind == "references" else "--dms"
    assert place.here("documents", "register", "ssign", "1", option, f"file_ids={bad}").code == 2
    assert known(place) == {}
    assert register(place, "ssign", "1", option, "file_ids=ação 🖋") == "ssign 1: new"


@pytest.mark.parametrize("shortened", ["1.55E+05", "1,55E+05", "2E+15", "1.5e-7"])
def test_an_id_that_a_spreadsheet_has_shortened_is_a_fault(place: Place, shortened: str) -> None:
    """Its digits are lost; an id that merely has an E in it is taken."""
    head = "provider;document_id;ref.file_ids\n"
    for cells in (f"{shortened};901", f"155;{shortened}"):
        said = place.here("documents", "import", str(write(place, f"{head}ssign;{cells}\n")))
        assert said.code == 2
        assert "line 2: a spreadsheet has shortened this id" in said.err
        assert shortened in said.err
    assert known(place) == {}
    assert place.here("documents", "import", str(write(place, f"{head}ssign;12E5;901\n"))).code == 0


def test_one_endless_id_does_not_ruin_the_tables(place: Place) -> None:
    """A callback with a megabyte of an id is a short row of its own, and whole in the JSON alone."""
    long = "9" * 900_000
    guid = "01900000-0000-7000-8000-000000000000"
    payload = json.dumps({"envelopeId": long, "action": "COMPLETED"}).encode()
    receipt = Receipt(guid, "ssign", Encoding.JSON, digest_of(payload), len(payload))
    record = SpoolRecord(datetime.now(UTC), long, "COMPLETED", 1, payload, receipt=receipt)
    place.file(f"long_{guid}.json", record.to_bytes())
    place.callback("155")
    place.once()
    for arguments in (("documents", "ls"), ("deliveries", "ls"), ("spool", "ls")):
        lines = place.here(*arguments).out.splitlines()
        assert len(lines) == 3
        assert max(map(len, lines)) < 600, arguments
        assert sum("9…(900000)" in line for line in lines) == 1
    rows = place.here("documents", "ls", "--json").json
    assert {row["document_id"] for row in rows} == {long, "155"}
    for words in (
        ("documents", "show", "ssign", long),
        ("documents", "show", "certisign", long),
        ("documents", "register", "ssign", long),
        ("deliveries", "retry", "1", "2"),
    ):
        said = place.here(*words)
        assert max(map(len, (said.out + said.err).splitlines())) < 600, words[:2]


def test_the_form_of_a_file_can_be_said(place: Place) -> None:
    """`--format` overrides what the file looks like; an unknown one is wrong use."""
    path = write(place, json.dumps({"provider": "ssign", "document_id": 1}))
    assert place.here("documents", "import", str(path), "--format", "csv").code == 2
    assert place.here("documents", "import", str(path), "--format", "jsonl").code == 0
    assert place.here("documents", "import", str(path), "--format", "xls").code == 2
    assert place.here("documents", "import", "/nowhere.csv").code == 2


def test_an_import_of_thousands_is_whole(place: Place) -> None:
    """More than one transaction holds."""
    rows = "".join(f"ssign,{number}\n" for number in range(1100))
    said = place.here("documents", "import", str(write(place, f"provider,document_id\n{rows}")), "--json")
    assert said.json["new"] == 1100
    assert len(place.here("documents", "ls", "--limit", "9999", "--json").json) == 1100
