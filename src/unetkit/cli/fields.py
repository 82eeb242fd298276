"""The fields of a plan that a user may set: names, defaults and what they mean, read off the models themselves."""

from __future__ import annotations

import ast
import inspect
import itertools
import re
import textwrap
import types
import typing
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from unetkit.core.errors import PlanError, nearest
from unetkit.nets.spec import PARTS, NetSpec
from unetkit.plan.plan import SETTABLE, Plan


@dataclass(frozen=True)
class Field:
    """A settable field: dotted name, default as a user writes it, choices where they are few, and one sentence."""

    name: str
    default: str
    choices: tuple[str, ...]
    doc: str


def settable_fields() -> tuple[Field, ...]:
    """Every field that `--set` and `--settings` take, in the order of the plan."""
    return tuple(field for part in SETTABLE for field in _fields(_model(Plan.model_fields[part].annotation), part))


def check_names(names: Iterable[str], source: str) -> None:
    """Refuse a field that does not exist before any work is done. Raises PlanError with the nearest name."""
    known = [field.name for field in settable_fields()]
    for name in names:
        if name in known or name in SETTABLE:
            continue
        part, dot, last = name.rpartition(".")
        same = [k for k in known if k.rpartition(".")[2] == last] if last else []
        hint = f"; did you mean '{same[0]}'?" if same and not (dot and part in SETTABLE) else nearest(name, known)
        raise PlanError(f"{source}: there is no field '{name}'; `unetkit plan --fields` lists the fields{hint}")


def _fields(model: type[BaseModel], prefix: str) -> Iterator[Field]:
    docs = _docs(model)
    for name, field in model.model_fields.items():
        default = field.default
        shown = "" if default is PydanticUndefined else _show(default)
        choices = PARTS[name] if model is NetSpec and name in PARTS else _choices(field.annotation)
        yield Field(f"{prefix}.{name}", shown, choices, docs.get(name, ""))


def _model(annotation: object) -> type[BaseModel]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    raise TypeError(f"{annotation} is no part of a plan")


def _docs(model: type[BaseModel]) -> dict[str, str]:
    """Field → sentence: the string below it, else its entry (`name: …`, `name   …`) in the docstring of the class."""
    docs: dict[str, str] = {}
    text = inspect.getdoc(model) or ""
    names = "|".join(model.model_fields)
    entry = rf"(?:^|(?<=[.;] ))({names})(?::|\s{{2,}})"  # in a column, or one after another in a paragraph
    starts = list(re.finditer(entry, text, re.M))
    for start, after in itertools.zip_longest(starts, starts[1:]):
        paragraph = text[start.end() : after.start() if after else None].split("\n\n")[0]
        docs[start[1]] = " ".join(paragraph.split())
    body = ast.parse(textwrap.dedent(inspect.getsource(model))).body[0]
    statements = body.body if isinstance(body, ast.ClassDef) else []
    for field, after in itertools.pairwise(statements):
        if (
            isinstance(field, ast.AnnAssign)
            and isinstance(field.target, ast.Name)
            and isinstance(after, ast.Expr)
            and isinstance(after.value, ast.Constant)
            and isinstance(after.value.value, str)
        ):
            docs[field.target.id] = " ".join(after.value.value.split())
    return docs


def _choices(annotation: object) -> tuple[str, ...]:
    origin = typing.get_origin(annotation)
    if origin is typing.Literal:
        return tuple(str(choice) for choice in typing.get_args(annotation))
    if origin in (typing.Union, types.UnionType):
        return tuple(choice for part in typing.get_args(annotation) for choice in _choices(part))
    return ()


def _show(value: object) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    return ",".join(map(_show, value)) if isinstance(value, tuple) else str(value)
