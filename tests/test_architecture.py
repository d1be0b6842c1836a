"""Who may import whom, held by reading the sources."""

from __future__ import annotations

import ast
import re
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from shared.providers import provider_classes

ROOT = Path(__file__).parent.parent
PACKAGES = ("signspool", "callback_api", "processor", "shared", "simulator")
WEB = {"fastapi", "starlette", "uvicorn"}


def sources(*folders: str) -> list[Path]:
    return [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]


def imports_of(path: Path) -> set[str]:
    """Every module that a file imports, wherever in it, as dotted names."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found |= {node.module or "", *(f"{node.module}.{name.name}" for name in node.names)}
    return found


def offenders(folder: str, forbidden: set[str]) -> list[str]:
    return [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in sources(folder)
        for name in sorted(imports_of(path))
        if any(name == word or name.startswith(f"{word}.") for word in forbidden)
    ]


@pytest.mark.parametrize(
    ("folder", "forbidden"),
    [
        ("shared", {"callback_api", "processor", "signspool", "simulator", "httpx", *WEB}),
        (
            "shared/providers",
            {"shared.db", "shared.spool", "shared.settings", "sqlalchemy", "os", "socket", "pathlib"},
        ),
        (
            "callback_api",
            {"processor", "signspool", "simulator", "shared.db", "sqlalchemy", "alembic", "httpx"},
        ),
        ("processor", {"callback_api", "signspool", "simulator", *WEB}),
        ("simulator", {"callback_api", "processor", "signspool", "shared.db", "sqlalchemy"}),
    ],
)
def test_nobody_imports_what_lies_beside_or_above(folder: str, forbidden: set[str]) -> None:
    assert offenders(folder, forbidden) == []


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def test_what_parses_signatures_is_loaded_by_the_process_that_checks_them_alone() -> None:
    """The daemon has secrets, and a second of loading is long at a start."""
    parsing = {f"processor.signatures_{name}" for name in ("cms", "pdf", "process", "verdict")}
    found = {
        module_of(path)
        for path in sources(*PACKAGES)
        if any(
            name.split(".")[0] in {"asn1crypto", "pyhanko", "pyhanko_certvalidator"}
            for name in imports_of(path)
        )
        or imports_of(path) & parsing
    }
    assert found == parsing


def test_no_modules_import_each_other_in_a_circle() -> None:
    """Imports for the type checker count too: what two files say of each other belongs in a third."""
    modules = {module_of(path): path for path in sources(*PACKAGES, "benchmarks")}
    graph = {}
    for module, path in modules.items():
        named = imports_of(path) & modules.keys()
        # `from package import module` means the module, and not the package's face.
        graph[module] = {name for name in named if not any(word.startswith(f"{name}.") for word in named)}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" imports ".join(reversed(error.args[1])))


@pytest.mark.parametrize("name", list(provider_classes()))
def test_a_provider_imports_only_our_words_errors_its_base_and_checks(name: str) -> None:
    # The last is loaded by the one that speaks XML alone.
    allowed = ("shared.events", "shared.errors", "shared.providers._", "shared.xmltext")
    folder = ROOT / "shared" / "providers"
    # Private modules of its own, named `_<name>_...`, are held to the same.
    for path in (folder / f"{name}.py", *folder.glob(f"_{name}_*.py")):
        ours = {word for word in imports_of(path) if word.startswith("shared")}
        assert [word for word in ours if not word.startswith(allowed)] == []


def test_only_a_providers_own_file_says_its_name() -> None:
    """`signspool up` and the demo may name providers: what they open and show is their business."""
    names = re.compile(rf"\b({'|'.join(provider_classes())})\b")
    found = []
    for path in sources("shared", "callback_api", "processor"):
        if path.stem in provider_classes() and path.parent.name == "providers":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Name | ast.Attribute):
                word = node.id if isinstance(node, ast.Name) else node.attr
                if names.fullmatch(word):
                    found.append(f"{path.relative_to(ROOT)}: {word}")
            if isinstance(node, ast.Compare | ast.Match | ast.Dict):
                found += [
                    f"{path.relative_to(ROOT)}: {value.value!r}"
                    for value in ast.walk(node)
                    if isinstance(value, ast.Constant)
                    and isinstance(value.value, str)
                    and names.fullmatch(value.value)
                ]
    assert found == []


def test_no_module_is_a_drawer_for_everything() -> None:
    drawers = {"utils", "util", "helpers", "helper", "manager", "managers", "common", "misc", "data"}
    assert [str(path) for path in sources(*PACKAGES) if path.stem in drawers] == []


def test_files_fit_a_reader() -> None:
    long = {
        str(path.relative_to(ROOT)): lines
        for path in sources(*PACKAGES, "tests")
        if (lines := len(path.read_text(encoding="utf-8").splitlines())) > 460
    }
    assert long == {}


def test_every_module_says_what_it_is() -> None:
    silent = [
        str(path.relative_to(ROOT))
        for path in sources(*PACKAGES)
        if path.read_text(encoding="utf-8").strip()
        and not ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert silent == []


def test_importing_the_door_starts_nothing() -> None:
    """No statement at module level of the door may open, connect or read settings: only names are bound."""
    for path in sources("callback_api"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            assert not isinstance(node, ast.With | ast.For | ast.While | ast.Try), (
                f"{path}: {ast.dump(node)[:80]}"
            )
