"""The text headers of NRRD and MetaImage: where the voxels stand, and how; and the writing of such headers.

What the fields say of geometry is SimpleITK's to understand (`itk.py`). NRRD: https://teem.sourceforge.net/nrrd/format.html
MetaImage: https://itk.org/Wiki/ITK/MetaIO/Documentation
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from unetkit.core.errors import DataError
from unetkit.data.formats.base import Array, unreadable

NRRD = (".nrrd", ".nhdr")
_LONGEST = 2**20  # bytes of a header
_MET = {
    "MET_CHAR": "i1", "MET_UCHAR": "u1", "MET_SHORT": "i2", "MET_USHORT": "u2", "MET_INT": "i4", "MET_UINT": "u4",
    "MET_LONG_LONG": "i8", "MET_ULONG_LONG": "u8", "MET_FLOAT": "f4", "MET_DOUBLE": "f8",
}  # fmt: skip
_NRRD_TYPES = {
    "i1": "signed char, int8, int8_t", "u1": "uchar, unsigned char, uint8, uint8_t",
    "i2": "short, short int, signed short, signed short int, int16, int16_t",
    "u2": "ushort, unsigned short, unsigned short int, uint16, uint16_t",
    "i4": "int, signed int, int32, int32_t", "u4": "uint, unsigned int, uint32, uint32_t",
    "i8": "longlong, long long, long long int, signed long long, signed long long int, int64, int64_t",
    "u8": "ulonglong, unsigned long long, unsigned long long int, uint64, uint64_t", "f4": "float", "f8": "double",
}  # fmt: skip
_NRRD_TYPE_OF = {name: kind for kind, names in _NRRD_TYPES.items() for name in names.split(", ")}
_WRITTEN = {kind: names.split(", ")[0] for kind, names in _NRRD_TYPES.items()} | {
    "u1": "unsigned char", "u2": "unsigned short", "u4": "unsigned int", "i8": "long long", "u8": "unsigned long long",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Header:
    """What a header says of its voxels.

    sizes: of the axes of space. channels: side by side for each voxel. dtype: with byte order. files: where the voxels
    are, if not behind the header. begin: the byte where they (packed or not) begin. encoding: "other" is what only
    SimpleITK reads: text, bzip2, voxels in many files. stated: whether it says where the volume lies; sized: how far
    apart voxels are.
    """

    sizes: tuple[int, ...]
    channels: int
    dtype: np.dtype[Any]
    files: tuple[Path, ...]
    begin: int
    encoding: Literal["raw", "packed", "other"]
    stated: bool
    sized: bool


def read_header(path: Path) -> Header:
    """Read the header of a NRRD or MetaImage file. Raises DataError: it is none, or damaged; OSError."""
    return _read_nrrd(path) if path.suffix.lower() in NRRD else _read_meta(path)


def _read_nrrd(path: Path) -> Header:
    with path.open("rb") as file:
        if not file.readline(_LONGEST).startswith(b"NRRD000"):
            raise DataError(f"{path}: this is not a NRRD file, whatever its suffix says; export it again")
        fields, rest = _fields(path, file, ":", stop="")
        begin = file.tell()
    fields = {name.replace(" ", "").lower(): value for name, value in fields.items()}
    sizes = _numbers(path, fields, "sizes")
    named = _files(path, fields.get("datafile"), rest)
    kind = _NRRD_TYPE_OF.get(fields.get("type", "").lower(), "")
    kinds = fields.get("kinds", "").lower().split() or ["domain"] * len(sizes)
    spaces = [k in ("domain", "space", "time", "???") for k in kinds]
    encoding = fields.get("encoding", "").lower()
    simple = bool(kind) and all(spaces[1:]) and "lineskip" not in fields
    if int(fields.get("byteskip", "0")) > 0 and encoding == "raw":
        begin = int(fields["byteskip"]) if named else begin + int(fields["byteskip"])
    elif named:
        begin = 0
    simple = simple and (int(fields.get("byteskip", "0")) == 0 or encoding == "raw")
    if int(fields.get("byteskip", "0")) == -1:  # the voxels are the end of the file
        simple = False
    channels, space = (1, sizes) if all(spaces) else (sizes[0], sizes[1:])
    known = {"raw": "raw", "gzip": "packed", "gz": "packed"}.get(encoding, "other")
    return Header(
        sizes=space,
        channels=channels,
        dtype=_dtype(kind, fields.get("endian", "little").lower() == "big"),
        files=named,
        begin=begin,
        encoding=known if simple and len(named) <= 1 else "other",  # type: ignore[arg-type]
        stated="space" in fields or "spacedimension" in fields,
        sized="spacedirections" in fields or "spacings" in fields,
    )


def _read_meta(path: Path) -> Header:
    with path.open("rb") as file:
        if not re.match(rb"\s*[A-Za-z]+\s*=", file.read(200)):
            raise DataError(f"{path}: this is not a MetaImage file, whatever its suffix says; export it again")
        file.seek(0)
        fields, rest = _fields(path, file, "=", stop="ElementDataFile")
        begin = file.tell()
    sizes = _numbers(path, fields, "DimSize")
    kind = _MET.get(fields.get("ElementType", "").upper().removesuffix("_ARRAY"), "")
    where = fields["ElementDataFile"]
    named = () if where.upper() == "LOCAL" else _files(path, where, rest)
    swapped = fields.get("BinaryDataByteOrderMSB", fields.get("ElementByteOrderMSB", "False"))
    packed = _true(fields.get("CompressedData", "False"))
    skip = int(fields.get("HeaderSize", "0") or 0)
    simple = bool(kind) and _true(fields.get("BinaryData", "True")) and len(named) <= 1 and skip >= 0
    return Header(
        sizes=sizes,
        channels=int(fields.get("ElementNumberOfChannels", "1")),
        dtype=_dtype(kind, _true(swapped)),
        files=named,
        begin=skip if named or skip else begin,
        encoding=("packed" if packed else "raw") if simple else "other",
        stated=any(name in fields for name in ("Offset", "Position", "Origin", "TransformMatrix", "Orientation")),
        sized="ElementSpacing" in fields,
    )


def _fields(path: Path, file: Any, sign: str, stop: str) -> tuple[dict[str, str], list[str]]:
    """(name → value up to the field `stop`, or up to an empty line where there is none; the lines behind a LIST).

    Leaves the file behind them.
    """
    fields: dict[str, str] = {}
    detached = False
    while (line := file.readline(_LONGEST)) and file.tell() <= _LONGEST:
        text = line.decode("utf-8", "replace").strip()
        if not text and not stop:
            return fields, []
        if text.startswith("#") or ":=" in text or sign not in text:
            continue
        name, value = (part.strip() for part in text.split(sign, 1))
        fields[name] = value
        detached = detached or name.lower().replace(" ", "") == "datafile"
        listed = value.upper().startswith("LIST")
        if name == stop or (detached and listed):
            rest = file.read(_LONGEST).decode("utf-8", "replace").splitlines() if listed else []
            return fields, [line.strip() for line in rest if line.strip()]
    if detached and not line:
        return fields, []  # such a header may end without an empty line
    raise unreadable(path, "its header does not end")


def _files(path: Path, where: str | None, rest: list[str]) -> tuple[Path, ...]:
    """The files of voxels that a header names: one, a list, or a pattern with first, last and step."""
    if not where:
        return ()
    if where.upper().startswith("LIST"):
        return tuple(path.parent / name for name in rest)
    if match := re.fullmatch(r"(\S*%\S*)\s+(\d+)\s+(\d+)(?:\s+(\d+))?(?:\s+\d+)?", where):
        first, last, step = int(match[2]), int(match[3]), int(match[4] or 1)
        return tuple(path.parent / (match[1] % n) for n in range(first, last + 1, max(1, step)))
    return (path.parent / where,)


def _numbers(path: Path, fields: dict[str, str], name: str) -> tuple[int, ...]:
    found = fields.get(name, "").split()
    if not found or not all(re.fullmatch(r"\d+", n) for n in found):
        raise unreadable(path, f"its header has no valid field {name!r}")
    return tuple(int(n) for n in found)


def _dtype(kind: str, big: bool) -> np.dtype[Any]:
    return np.dtype(kind or "u1").newbyteorder(">" if big else "<")


def _true(text: str) -> bool:
    return text.strip().lower() in ("true", "t", "1", "yes")


def nrrd_header(
    sizes: tuple[int, ...], channels: int, dtype: np.dtype[Any], packed: bool, lps: Array | None,
    spacing: tuple[float, ...] | None, data: str,
) -> bytes:  # fmt: skip
    """lps: (4, 4) from voxel to millimetres in LPS. data: the file of the voxels; "": they follow."""
    many, ndim = channels > 1, len(sizes)
    lines = [
        "NRRD0005",
        "# written by unetkit",
        f"type: {_WRITTEN[dtype.str[1:]]}",
        f"dimension: {ndim + many}",
    ]
    if lps is not None:
        lines.append("space: left-posterior-superior" if ndim == 3 else f"space dimension: {ndim}")
    lines.append(f"sizes: {_text((channels, *sizes) if many else sizes)}")
    if lps is not None:
        columns = [_vector(lps[:ndim, axis]) for axis in range(ndim)]
        lines.append("space directions: " + " ".join(["none"] * many + columns))
    elif spacing is not None:
        lines.append("spacings: " + _text(("nan",) * many + tuple(map(_number, spacing))))
    lines.append("kinds: " + _text(("vector",) * many + ("domain",) * ndim))
    lines += ["endian: little", f"encoding: {'gzip' if packed else 'raw'}"]
    if lps is not None:
        lines.append(f"space origin: {_vector(lps[:ndim, 3])}")
    if data:
        lines.append(f"data file: {data}")
    return ("\n".join(lines) + "\n\n").encode()


SIZE_DIGITS = 20


def meta_header(
    sizes: tuple[int, ...], channels: int, dtype: np.dtype[Any], packed: int | None, lps: Array | None,
    spacing: tuple[float, ...] | None, data: str,
) -> tuple[bytes, int]:  # fmt: skip
    """(the header, the byte in it of the number of compressed bytes: `packed`, written in so many digits).

    packed: None where not compressed. The rest as in `nrrd_header`.
    """
    ndim = len(sizes)
    lines = ["ObjectType = Image", f"NDims = {ndim}", "BinaryData = True", "BinaryDataByteOrderMSB = False"]
    lines.append(f"CompressedData = {packed is not None}")
    at = -1
    if packed is not None:
        lines.append("CompressedDataSize = ")
        at = len("\n".join(lines))
        lines[-1] += f"{packed:0{SIZE_DIGITS}d}"
    if lps is not None:
        columns = lps[:ndim, :ndim]
        spacing = tuple(np.sqrt((columns**2).sum(0)))
        turn = columns / np.asarray(spacing)
        lines.append(f"TransformMatrix = {_text(map(_number, turn.T.ravel()))}")  # a column after the other
        lines.append(f"Offset = {_text(map(_number, lps[:ndim, 3]))}")
    if spacing is not None:
        lines.append(f"ElementSpacing = {_text(map(_number, spacing))}")
    lines.append(f"DimSize = {_text(sizes)}")
    if channels > 1:
        lines.append(f"ElementNumberOfChannels = {channels}")
    lines.append(f"ElementType = {next(name for name, kind in _MET.items() if kind == dtype.str[1:])}")
    lines.append(f"ElementDataFile = {data or 'LOCAL'}")
    return ("\n".join(lines) + "\n").encode(), at


def _text(values: Iterable[object]) -> str:
    return " ".join(str(v) for v in values)


def _vector(values: Array) -> str:
    return f"({','.join(map(_number, values))})"


def _number(value: float) -> str:
    return repr(float(value) + 0.0)  # no minus zero
