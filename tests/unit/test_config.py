"""Settings: unknown names are refused with the nearest one, values are checked, text is read as JSON where it is."""

from __future__ import annotations

import pytest
from pydantic import Field

from unetkit.core.config import Config
from unetkit.core.errors import PlanError


class Inner(Config):
    rate: float = Field(default=0.1, gt=0)
    sizes: tuple[int, ...] = (1, 2)
    name: str = "a"


class Outer(Config):
    inner: Inner = Inner()
    maybe: Inner | None = None
    count: int = 1


def message(values: dict[str, object]) -> str:
    with pytest.raises(PlanError) as caught:
        Outer.parse(values, "plan.yaml")
    return str(caught.value)


def test_unknown_field_is_named_with_its_path_and_the_nearest() -> None:
    text = message({"inner": {"raet": 1}})
    assert text == "plan.yaml: there is no field 'inner.raet'; did you mean 'rate'?"


def test_unknown_field_without_a_near_one_lists_all() -> None:
    assert message({"zzz": 1}) == "plan.yaml: there is no field 'zzz'; the fields are inner, maybe, count"


def test_wrong_value_names_the_value_and_what_is_allowed() -> None:
    assert message({"inner": {"rate": -1}}) == "plan.yaml: 'inner.rate': input should be greater than 0 (given: -1)"


def test_override_reads_numbers_lists_and_words() -> None:
    changed = Outer().override(
        {"inner.rate": "0.5", "inner.sizes": "[3, 4]", "inner.name": "word", "count": 7}, "--set"
    )
    assert changed == Outer(inner=Inner(rate=0.5, sizes=(3, 4), name="word"), count=7)


@pytest.mark.parametrize(
    ("field", "text"),
    [
        ("inner.raet", "--set: there is no field 'inner.raet'; did you mean 'inner.rate'?"),
        ("iner.rate", "--set: there is no field 'iner'; did you mean 'inner'?"),
        ("count.x", "--set: 'count' has no fields of its own"),
    ],
)
def test_override_refuses_unknown_fields(field: str, text: str) -> None:
    with pytest.raises(PlanError) as caught:
        Outer().override({field: 1}, "--set")
    assert str(caught.value) == text


def test_settings_are_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Outer().count = 2  # type: ignore[misc]
