"""The base of every settings model: frozen, refuses unknown keys, and says what is wrong as a PlanError."""

from __future__ import annotations

import json
import types
import typing
from collections.abc import Mapping
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from unetkit.core.errors import PlanError, nearest


class Config(BaseModel):
    """Frozen pydantic model. Unknown keys are refused with their dotted path and the nearest known name."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @classmethod
    def parse(cls, values: Mapping[str, Any], source: str) -> Self:
        """Build from plain values (from JSON or YAML). `source` names the file or flag in the error.

        Raises PlanError: unknown field (with its dotted path and the nearest name), wrong type or value.
        """
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise PlanError(_explain(cls, error, source)) from None

    def override(self, changes: Mapping[str, Any], source: str) -> Self:
        """A copy with dotted fields replaced: `plan.override({"optim.lr": 1e-3}, "--set")`.

        A text value is read as JSON where it is JSON (`0.01`, `[16, 32]`, `true`), else taken as it is.
        Raises PlanError: unknown field, wrong type or value.
        """
        values = self.model_dump()
        for dotted, value in changes.items():
            parts = dotted.split(".")
            node: Any = values
            model: type[BaseModel] | None = type(self)
            for depth, part in enumerate(parts):
                if model is not None and part not in model.model_fields:
                    here = ".".join(parts[:depth])
                    names = [f"{here}.{n}" if here else n for n in model.model_fields]
                    hint = nearest(".".join(parts[: depth + 1]), names) or f"; the fields are {', '.join(names)}"
                    raise PlanError(f"{source}: there is no field '{'.'.join(parts[: depth + 1])}'{hint}")
                if depth == len(parts) - 1:
                    node[part] = _from_text(value)
                    break
                model = None if model is None else _submodel(model.model_fields[part].annotation)
                if not isinstance(node.get(part), dict):
                    raise PlanError(f"{source}: '{'.'.join(parts[: depth + 1])}' has no fields of its own")
                node = node[part]
        return type(self).parse(values, source)


def _from_text(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except json.JSONDecodeError:
        return value


def _submodel(annotation: Any) -> type[BaseModel] | None:
    """The settings model inside an annotation (`X`, `X | None`), or None where there is none."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        for part in typing.get_args(annotation):
            if (found := _submodel(part)) is not None:
                return found
    return None


def _explain(cls: type[BaseModel], error: ValidationError, source: str) -> str:
    lines = []
    for item in error.errors():
        path = ".".join(str(part) for part in item["loc"])
        if item["type"] == "extra_forbidden":
            owner: type[BaseModel] | None = cls
            for part in item["loc"][:-1]:
                field = None if owner is None else owner.model_fields.get(str(part))
                owner = None if field is None else _submodel(field.annotation)
            names = [] if owner is None else list(owner.model_fields)
            hint = nearest(str(item["loc"][-1]), names) or (f"; the fields are {', '.join(names)}" if names else "")
            lines.append(f"{source}: there is no field '{path}'{hint}")
        else:
            message = item["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, ")
            message = message[:1].lower() + message[1:]
            given = "" if item["type"] == "missing" or path == "" else f" (given: {item['input']!r})"
            lines.append(f"{source}: '{path}': {message}{given}" if path else f"{source}: {message}")
    return "\n".join(lines)
