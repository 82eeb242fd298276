"""The table of formats: names, addresses into files, formats of other packages, and the page that lists them."""

from __future__ import annotations

import sys
import types
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from unetkit.core.errors import DataError
from unetkit.data.formats import Format, open_image, split_address, stem, suffix, table
from unetkit.data.formats.base import Reading
from unetkit.data.source import ArrayImage

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def add(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Let other packages add formats: `add(name=value)`, as entry points do."""

    def by_entry_points(**values: Any) -> None:
        holder = types.ModuleType("of_others")
        vars(holder).update(values)
        monkeypatch.setitem(sys.modules, "of_others", holder)
        points = [EntryPoint(name, f"of_others:{name}", "unetkit.formats") for name in values]
        monkeypatch.setattr(table, "entry_points", lambda group: points)
        table.formats.cache_clear()

    yield by_entry_points
    table.formats.cache_clear()


def test_another_package_adds_a_format(add: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    reader = types.ModuleType("reader_of_others")

    def opened(path: Path, reading: Reading) -> ArrayImage:
        return ArrayImage(path, np.full((1, 3, 4), len(path.read_bytes()), np.uint8))

    vars(reader)["open_image"] = opened
    monkeypatch.setitem(sys.modules, "reader_of_others", reader)
    add(czi=Format("CZI", (".czi",), "reader_of_others"))
    (tmp_path / "a.czi").write_bytes(b"seven b")
    with open_image(tmp_path / "a.czi") as image:
        assert image.info.shape == (3, 4)
        assert image.read().max() == 7
    assert ".czi" in table.readable()
    assert stem(tmp_path / "a.czi") == "a"


def test_what_is_no_format_and_what_is_read_already_is_refused(add: Any) -> None:
    add(mine="no format")
    with pytest.raises(
        DataError, match=r"adds a format 'mine' that is no unetkit\.data\.formats\.table\.Format; update"
    ):
        table.formats()
    add(mine=Format("My TIFF", (".tif",), "x"))
    with pytest.raises(
        DataError, match=r"\.tif is read as TIFF and, by of_others:mine, as My TIFF; remove that package"
    ):
        table.formats()


@pytest.mark.parametrize(
    ("name", "own", "base"),
    [
        ("a.png", ".png", "a"),
        ("a.b.NII.GZ", ".NII.GZ", "a.b"),
        ("x.ome.tif", ".ome.tif", "x"),
        ("x.ome.zarr", ".ome.zarr", "x"),
        ("nothing", "", "nothing"),
        ("a.unknown", ".unknown", "a"),
    ],
)
def test_suffixes_that_belong_together_are_one(name: str, own: str, base: str) -> None:
    assert suffix(Path(name)) == own
    assert stem(Path(name)) == base


def test_an_address_leads_into_a_file(tmp_path: Path) -> None:
    (tmp_path / "a.h5").touch()
    (tmp_path / "b.zarr").mkdir()
    (tmp_path / "c.h5").mkdir()  # a folder that is only called so
    assert split_address(tmp_path / "a.h5" / "volumes" / "raw") == (tmp_path / "a.h5", "volumes/raw")
    assert split_address(tmp_path / "b.zarr" / "labels") == (tmp_path / "b.zarr", "labels")
    assert split_address(tmp_path / "b.zarr") == (tmp_path / "b.zarr", "")
    assert split_address(tmp_path / "c.h5" / "x.png") == (tmp_path / "c.h5" / "x.png", "")


def test_the_page_lists_every_suffix_and_every_extra() -> None:
    page = (ROOT / "docs" / "data.md").read_text(encoding="utf-8")
    for ending in (s for f in table.BUILT_IN for s in f.suffixes):
        assert f"`{ending}`" in page, ending
    for extra in ("geo", "medical", "microscopy", "signals"):
        assert f"| `{extra}` |" in page
