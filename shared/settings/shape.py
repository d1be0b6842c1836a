"""The keys that settings may have, as a tree read off the models: for unknown keys, variables, reference."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeAlias, Union, get_args, get_origin, get_type_hints

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo
from typing_extensions import is_typeddict

from shared.settings.units import DURATION_UNIT, SIZE_UNIT

KIND = "kind"
"""The key that tells tables of several kinds apart."""
FILE_SUFFIX = "_file"
"""What a secret's key ends with when its value is the path of a file that holds the secret."""

Path: TypeAlias = tuple[str, ...]
Kinds: TypeAlias = Mapping[Path, str]
"""The kind that each table of several kinds says it is of, by the path of the table."""


@dataclass(frozen=True, slots=True)
class Leaf:
    """A key that takes one value, or a list. `type` is the value's, or that of the list's items."""

    type: Any
    info: FieldInfo
    many: bool = False
    unit: Literal["size", "duration"] | None = None

    @property
    def secret(self) -> bool:
        """Whether the value may come from a file or a credential, and is never shown."""
        return self.type is SecretStr and not self.many


@dataclass(frozen=True, slots=True)
class Table:
    """A table with known keys."""

    children: Mapping[str, Node]
    model: type
    info: FieldInfo


@dataclass(frozen=True, slots=True)
class Named:
    """A table whose keys the user chooses."""

    item: Node
    info: FieldInfo


@dataclass(frozen=True, slots=True)
class Choice:
    """A table whose further keys depend on its `kind`."""

    tables: Mapping[str, Table]
    info: FieldInfo


Node: TypeAlias = Leaf | Table | Named | Choice


@dataclass(frozen=True, slots=True)
class Found:
    """The node that a path leads to. `path` is without `_file` when `from_file` says that it was there."""

    path: Path
    node: Node
    from_file: bool = False


@dataclass(frozen=True, slots=True)
class Unknown:
    """A path that leads nowhere: there is no key `path[depth]` in `table`, or `path[:depth]` is no table."""

    path: Path
    depth: int
    table: Table | None = None


@dataclass(frozen=True, slots=True)
class Undecided:
    """A path into a table whose kind is missing or wrong, which is the error to be told first."""


@cache
def shape_of(model: type[BaseModel]) -> Table:
    """The keys of a model, at every depth."""
    return _table(model, FieldInfo())


def _table(model: type[BaseModel], info: FieldInfo) -> Table:
    children = {name: _node(of.annotation, of, of.metadata) for name, of in model.model_fields.items()}
    return Table(children, model, info)


def _node(annotation: Any, info: FieldInfo, metadata: list[Any]) -> Node:
    while get_origin(annotation) is Annotated:
        annotation, *more = get_args(annotation)
        metadata = [*metadata, *more]
    options = [annotation]
    if get_origin(annotation) in (Union, UnionType):
        options = [option for option in get_args(annotation) if option is not NoneType]
    if len(options) == 1 and options[0] is not annotation:
        return _node(options[0], info, metadata)
    if all(isinstance(option, type) and issubclass(option, BaseModel) for option in options):
        if len(options) == 1:
            return _table(annotation, info)
        return Choice({_kind_of(option): _table(option, info) for option in options}, info)
    return _plain_node(annotation, info, metadata)


def _plain_node(annotation: Any, info: FieldInfo, metadata: list[Any]) -> Node:
    if is_typeddict(annotation):
        hints = get_type_hints(annotation, include_extras=True)
        return Table({name: _node(hint, info, []) for name, hint in hints.items()}, annotation, info)
    if get_origin(annotation) is dict:
        return Named(_node(get_args(annotation)[1], info, []), info)
    if get_origin(annotation) in (list, tuple, set, frozenset):
        item = _node(get_args(annotation)[0], info, [])
        return Leaf(item.type if isinstance(item, Leaf) else annotation, info, many=True)
    unit: Literal["size", "duration"] | None = None
    if SIZE_UNIT in metadata:
        unit = "size"
    elif DURATION_UNIT in metadata:
        unit = "duration"
    return Leaf(annotation, info, unit=unit)


def _kind_of(model: type[BaseModel]) -> str:
    kind: str = get_args(model.model_fields[KIND].annotation)[0]
    return kind


def find(root: Table, path: Path, kinds: Kinds) -> Found | Unknown | Undecided:
    """Where a path leads; `x_file` leads to the secret `x`."""
    node: Node = root
    for depth, key in enumerate(path):
        if isinstance(node, Choice):
            table = node.tables.get(kinds.get(path[:depth], ""))
            if table is None:
                return Undecided()
            node = table
        if isinstance(node, Leaf):
            # A key of any type may hold tables of its own.
            return Found(path, node) if node.type is Any else Unknown(path, depth)
        last = depth == len(path) - 1
        base = key.removesuffix(FILE_SUFFIX)
        if isinstance(node, Table):
            child = node.children.get(key)
            if child is None and last and base != key:
                child = node.children.get(base)
                if isinstance(child, Leaf) and child.secret:
                    return Found((*path[:-1], base), child, from_file=True)
                child = None
            if child is None:
                return Unknown(path, depth, node)
            node = child
        else:
            node = node.item
            if last and base not in (key, "") and isinstance(node, Leaf) and node.secret:
                return Found((*path[:-1], base), node, from_file=True)
    return Found(path, node)


def path_of(root: Table, location: tuple[int | str, ...]) -> Path:
    """The path that the location of a validation error stands for: without kinds, list items, marks."""
    node: Node | None = root
    path: list[str] = []
    for part in location:
        if isinstance(node, Choice) and part in node.tables:
            node = node.tables[str(part)]
            continue
        if node is None or isinstance(node, Leaf) or isinstance(part, int) or part == "[key]":
            break
        path.append(part)
        if isinstance(node, Table):
            node = node.children.get(part)
        elif isinstance(node, Named):
            node = node.item
    return tuple(path)
