"""What is said of a wrong setting: what is wrong, and what to write. Never the value, which may be secret."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from difflib import SequenceMatcher

from pydantic_core import ErrorDetails

from shared.settings import layers, shape
from shared.settings.example import default_of, example
from shared.settings.layers import Given, Text

_LEAST_LIKENESS = 0.6
"""Below this ratio a key is not a misspelling of another."""
_SPREAD = 0.15
"""Keys whose likeness is this close to the best are named beside it."""


def unknown_key(root: shape.Table, given: Given, unknown: shape.Unknown) -> str:
    """What is said of a key that leads nowhere."""
    path, depth, table = unknown.path, unknown.depth, unknown.table
    if table is None:
        return f"{layers.dotted(path[:depth])} takes a single value, not a table"
    known = [*table.children, *_file_keys(table)]
    near = [(*path[:depth], key) for key in nearest(path[depth], known)]
    if isinstance(given.value, Text):
        return _unknown("unknown variable", _near_variables(root, path, depth, near), "see docs/settings.md")
    what = {(): "unknown section", ("providers",): "unknown provider"}.get(path[:depth], "unknown key")
    # Else a key that is right, under the wrong section.
    words = [key[-1] for key in near] or [
        layers.dotted(other) for other in _paths(root, path) if other[-1] == path[-1]
    ]
    return _unknown(what, words, "known are " + ", ".join(sorted(table.children)))


def _near_variables(root: shape.Table, path: shape.Path, depth: int, near: list[shape.Path]) -> list[str]:
    if near:
        return [layers.variable((*key, *path[depth + 1 :])) for key in near]
    # Perhaps one underscore was written for two.
    names = [layers.variable(other).removeprefix(layers.PREFIX) for other in _paths(root, path)]
    names.append(layers.CONFIG_VARIABLE.removeprefix(layers.PREFIX))
    written = layers.variable(path).removeprefix(layers.PREFIX)
    return [layers.PREFIX + name for name in nearest(written, names)]


def _file_keys(table: shape.Table) -> list[str]:
    """The keys `x_file` of a table's secrets `x`."""
    return [
        key + shape.FILE_SUFFIX
        for key, node in table.children.items()
        if isinstance(node, shape.Leaf) and node.secret
    ]


def _unknown(what: str, near: list[str], otherwise: str) -> str:
    return f"{what}: did you mean {' or '.join(near)}?" if near else f"{what}: {otherwise}"


def nearest(word: str, known: Iterable[str]) -> list[str]:
    """The known words that are most like a word, best first; empty when none is."""
    matcher = SequenceMatcher(b=word)
    likeness = {}
    for candidate in known:
        matcher.set_seq1(candidate)
        likeness[candidate] = matcher.ratio()
    best = max(likeness.values(), default=0.0)
    if best < _LEAST_LIKENESS:
        return []
    near = [candidate for candidate, ratio in likeness.items() if ratio >= best - _SPREAD]
    return sorted(near, key=lambda candidate: -likeness[candidate])[:3]


def _paths(node: shape.Node, given: shape.Path, path: shape.Path = ()) -> Iterator[shape.Path]:
    """Every path that keys may have, with the given path's own word where the user chooses one."""
    if isinstance(node, shape.Leaf):
        yield path
        if node.secret:
            yield (*path[:-1], path[-1] + shape.FILE_SUFFIX)
    elif isinstance(node, shape.Table):
        for key, child in node.children.items():
            yield from _paths(child, given, (*path, key))
    elif isinstance(node, shape.Named):
        if given[: len(path)] == path and len(given) > len(path):
            yield from _paths(node.item, given, (*path, given[len(path)]))
    else:
        for table in node.tables.values():
            yield from _paths(table, given, path)


def invalid(root: shape.Table, path: shape.Path, kinds: shape.Kinds, detail: ErrorDetails) -> str:
    """What is said of a value that pydantic refuses, with an example of what to write."""
    kind = detail["type"]
    if kind == "value_error":
        return str(detail["ctx"]["error"])
    if kind.startswith("union_tag"):
        return _wrong_kind(root, path[:-1], kinds)
    if kind == "string_pattern_mismatch" and detail["loc"][-1] == "[key]":
        return "a name may hold small letters, digits, dash and underscore only"
    text = _refusal(detail)
    found = shape.find(root, path, kinds)
    if isinstance(found, shape.Found) and isinstance(found.node, shape.Leaf):
        text += f": write it like {path[-1]} = {example(found.node, default_of(found.node.info))}"
    return text


def _wrong_kind(root: shape.Table, path: shape.Path, kinds: shape.Kinds) -> str:
    found = shape.find(root, path, kinds)
    assert isinstance(found, shape.Found)
    assert isinstance(found.node, shape.Choice)
    known = list(found.node.tables)
    if path not in kinds:
        return f"is missing: write one of {', '.join(known)}"
    return _unknown("unknown kind", nearest(kinds[path], known), f"must be one of {', '.join(known)}")


def _refusal(detail: ErrorDetails) -> str:
    if detail["type"] == "missing":
        return "is missing"
    if detail["type"] in ("literal_error", "enum"):
        return f"must be {detail['ctx']['expected']}"
    return detail["msg"][:1].lower() + detail["msg"][1:]
