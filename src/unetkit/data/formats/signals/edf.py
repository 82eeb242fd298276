"""EDF, EDF+, BDF and BDF+ recordings: signals in physical units as open images with one axis; their annotations.

The format (Kemp et al., "A simple format for exchange of digitized polygraphic recordings", 1992; EDF+: Kemp and
Olivan, 2003; https://www.edfplus.info/specs/): a text header, then data records of equal duration, in each the samples
of every signal one after the other, as 16-bit (BDF: 24-bit) integers. Records have their place by arithmetic, so any
region of hours of recording is read without the rest. Nothing but numpy is needed.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from unetkit.core.errors import DataError
from unetkit.core.region import Region
from unetkit.data.formats.base import Array, ImageInfo, ImageReader, PaletteAs, Reading, decoding, unreadable

AT_ONCE = 1 << 24  # bytes of data records that are decoded together
_FIELDS = (16, 80, 8, 8, 8, 8, 8, 80, 8, 32)  # bytes per signal: label, transducer, unit, ranges, filter, samples, rest
_TAL = re.compile(rb"([+-]\d+(?:\.\d*)?)(?:\x15(\d+(?:\.\d*)?))?\x14([^\x00]*)\x14", re.DOTALL)
_NOTES = ("EDF Annotations", "BDF Annotations")
_TRIGGERS = "Status"  # of a BDF: digital lines, no signal


class Annotation(NamedTuple):
    """A remark on a stretch of time: seconds from the start, its duration (None: a moment), its text."""

    onset: float
    duration: float | None
    text: str


@dataclass(frozen=True, slots=True)
class _Signal:
    """One signal: its name, its samples in a data record, the byte where they begin there; physical = a·digital + b."""

    name: str
    samples: int
    offset: int
    scale: float
    shift: float
    known: bool  # whether the header tells its physical range


@dataclass(frozen=True, slots=True)
class _Header:
    """What the header says. begin: the first byte of the data; size: bytes of a data record; width: of a sample."""

    begin: int
    size: int
    records: int
    duration: float
    width: int
    interrupted: bool
    signals: tuple[_Signal, ...]
    notes: tuple[_Signal, ...]


def open_image(path: Path, reading: Reading) -> EDFReader:  # noqa: ARG001  (the header says all)
    """Open a recording. Signals that were sampled less often, by a whole factor, are held between their samples.

    Raises DataError: damaged, cut short, no signals, rates that do not fit each other, interrupted.
    """
    return EDFReader(path, _header(path, _state(path)))


def holds_signals(path: Path) -> bool:
    """Whether there are signals in it, and not annotations alone. Raises DataError: damaged, cut short."""
    return bool(_header(path, _state(path)).signals)


def read_annotations(path: Path) -> tuple[Annotation, ...]:
    """The annotations of an EDF+ or BDF+ file by onset; () where it has none. Raises DataError as `open_image`."""
    header = _header(path, _state(path))
    found: list[Annotation] = []
    first: float | None = None
    for record in _records(path, header) if header.notes else ():
        for track, signal in enumerate(header.notes):
            raw = record[signal.offset : signal.offset + signal.samples * header.width].tobytes()
            for number, match in enumerate(_TAL.finditer(raw)):
                onset, duration = float(match[1]), float(match[2]) if match[2] else None
                if track == number == 0:  # says when this record begins
                    first = onset if first is None else first
                    texts = match[3].split(b"\x14")[1:]
                else:
                    texts = match[3].split(b"\x14")
                found += [Annotation(onset, duration, t.decode("utf-8", "replace").strip()) for t in texts if t.strip()]
    start = first or 0.0
    return tuple(sorted(Annotation(round(a.onset - start, 9), a.duration, a.text) for a in found))


class EDFReader(ImageReader):
    """Signals in physical units, float32, read by data records."""

    def __init__(self, path: Path, header: _Header) -> None:
        super().__init__(path, _info(path, header))
        self._header = header
        self._base = max(signal.samples for signal in header.signals)

    def _read(self, region: Region, palette: PaletteAs, alpha: bool) -> Array:  # noqa: ARG002  (signals have neither)
        header, base = self._header, self._base
        (start,), (stop,) = region.start, region.stop
        out_CX = np.empty((len(header.signals), stop - start), np.float32)
        several = max(1, AT_ONCE // header.size)
        first, last = start // base, -(-stop // base)
        with decoding(self.path, OSError, ValueError), self.path.open("rb") as file:
            for begin in range(first, last, several):
                end = min(last, begin + several)
                file.seek(header.begin + begin * header.size)
                raw = np.frombuffer(file.read((end - begin) * header.size), np.uint8).reshape(-1, header.size)
                low, high = max(start, begin * base), min(stop, end * base)
                for row, signal in enumerate(header.signals):
                    values = _physical(raw, signal, header.width)
                    if signal.samples < base:
                        values = np.repeat(values, base // signal.samples)
                    out_CX[row, low - start : high - start] = values[low - begin * base : high - begin * base]
        return out_CX


def _physical(raw: NDArray[np.uint8], signal: _Signal, width: int) -> NDArray[np.float32]:
    """The samples of a signal from data records (records, bytes)."""
    part = np.ascontiguousarray(raw[:, signal.offset : signal.offset + signal.samples * width])
    if width == 2:
        digital = part.view("<i2").reshape(-1).astype(np.float64)
    else:  # the sign is in the highest bit of the third byte
        low, middle, high = (part.reshape(-1, 3)[:, k].astype(np.int32) for k in range(3))
        digital = (low | middle << 8 | high.astype(np.int8).astype(np.int32) << 16).astype(np.float64)
    return (digital * signal.scale + signal.shift).astype(np.float32)


def _info(path: Path, header: _Header) -> ImageInfo:
    if not header.signals:
        raise DataError(
            f"{path}: this file holds annotations and no signal; name the recording that they belong to as the image"
        )
    rates: dict[int, list[str]] = {}
    for signal in header.signals:
        rates.setdefault(signal.samples, []).append(signal.name)
    base = max(rates)
    if any(base % samples for samples in rates):
        kinds = "; ".join(
            f"{_rate(samples, header)} ({', '.join(names[:3])}{', …' if len(names) > 3 else ''})"
            for samples, names in sorted(rates.items(), reverse=True)
        )
        raise DataError(
            f"{path}: its signals have sampling rates of which the highest is no multiple of the others: {kinds}; "
            "export it with one rate, or leave signals out"
        )
    if header.interrupted and (gap := _gap(path, header)) is not None:
        raise DataError(
            f"{path}: the recording is interrupted (EDF+D): behind {gap:g} s time is missing; export it as continuous "
            "(EDF+C), or each part as a file"
        )
    notes = [
        f"{', '.join(names)}: sampled at {_rate(samples, header)}, held between samples up to {_rate(base, header)}"
        for samples, names in rates.items()
        if samples < base
    ]
    notes += [
        f"{s.name}: the header tells no physical range; values are digital" for s in header.signals if not s.known
    ]
    return ImageInfo(
        (header.records * base,),
        len(header.signals),
        False,
        "float32",
        "bands",
        spacing=(header.duration / base,),
        axes="T",
        unit="s",
        channel_names=tuple(signal.name for signal in header.signals),
        chunk=(base,),
        notes=tuple(notes),
    )


def _rate(samples: int, header: _Header) -> str:
    return f"{samples / header.duration:g} Hz"


def _gap(path: Path, header: _Header) -> float | None:
    """The time, in seconds, at which the first data record ends that the next does not follow at once."""
    if not header.notes:
        return None
    signal, before = header.notes[0], None
    for record in _records(path, header):
        match = _TAL.search(record[signal.offset : signal.offset + signal.samples * header.width].tobytes())
        if match is None:
            return None
        onset = float(match[1])
        if before is not None and abs(onset - before - header.duration) > 1e-3 * header.duration:
            return before + header.duration
        before = onset
    return None


def _records(path: Path, header: _Header) -> Iterator[NDArray[np.uint8]]:
    """The bytes of every data record, one after the other."""
    several = max(1, AT_ONCE // header.size)
    with decoding(path, OSError, ValueError), path.open("rb") as file:
        file.seek(header.begin)
        for begin in range(0, header.records, several):
            n = min(several, header.records - begin)
            yield from np.frombuffer(file.read(n * header.size), np.uint8).reshape(n, header.size)


def _state(path: Path) -> tuple[int, int]:
    with decoding(path, OSError):
        found = path.stat()
        return found.st_mtime_ns, found.st_size


@functools.lru_cache(maxsize=256)
def _header(path: Path, state: tuple[int, int]) -> _Header:
    with decoding(path, OSError), path.open("rb") as file:
        head = file.read(256)
        if len(head) < 256 or not (head[:8].strip() == b"0" or head[:8] == b"\xffBIOSEMI"):
            raise unreadable(path, "it does not begin with the header of an EDF or BDF file")
        width = 3 if head[:1] == b"\xff" else 2
        try:
            begin, records, count = (int(head[a:b]) for a, b in ((184, 192), (236, 244), (252, 256)))
            duration = float(head[244:252])
            raw = file.read(256 * count)
            if len(raw) < 256 * count or count < 1:
                raise ValueError(f"the header speaks of {count} signals and ends before them")
            signals = _signals(raw, count, width)
        except (ValueError, OverflowError) as error:
            raise unreadable(path, error) from None
    size = sum(signal.samples for signal in signals) * width
    true = tuple(s for s in signals if s.name not in _NOTES and not (width == 3 and s.name == _TRIGGERS))
    if size < 1 or (true and not (0 < duration < math.inf)) or any(s.samples < 1 for s in true):
        raise unreadable(path, f"data records of {duration:g} s with {size} bytes")
    there = (state[1] - begin) // size
    if records < 0:  # the recording was not ended properly, and the header not filled in
        records = there
    if there < records:
        raise DataError(
            f"{path}: the file is truncated: {max(0, there)} of its {records} data records are here; copy or export it "
            "again, or leave it out"
        )
    if records < 1:
        raise DataError(f"{path}: the recording has no data records; export it again, or leave it out")
    notes = tuple(s for s in signals if s.name in _NOTES)
    return _Header(begin, size, records, duration, width, head[192:197] in (b"EDF+D", b"BDF+D"), true, notes)


def _signals(raw: bytes, count: int, width: int) -> tuple[_Signal, ...]:
    """The signals of a header, in order, annotations among them. Raises ValueError: fields that are no numbers."""
    columns: list[list[str]] = []
    place = 0
    for size in _FIELDS:
        cells = (raw[place + k * size : place + (k + 1) * size] for k in range(count))
        columns.append([cell.decode("latin-1").strip("\x00 ") for cell in cells])
        place += size * count
    found, offset = [], 0
    for name, low, high, lowest, highest, samples in zip(
        columns[0], columns[3], columns[4], columns[5], columns[6], columns[8], strict=True
    ):
        scale, shift, known = 1.0, 0.0, True
        if name not in _NOTES:
            physical, digital = float(high) - float(low), float(highest) - float(lowest)
            known = physical != 0 and digital != 0
            if known:
                scale = physical / digital
                shift = float(low) - float(lowest) * scale
        found.append(_Signal(name, int(samples), offset, scale, shift, known))
        offset += found[-1].samples * width
    return tuple(found)
