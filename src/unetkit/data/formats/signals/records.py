"""WFDB recordings (PhysioNet): signals as open images with one axis, and their annotated waves as labels.

The formats: https://wfdb.io/spec/. Reading needs the `wfdb` package. A recording is named by its header, `7.hea`; each
of its signals (leads) is a channel. Waves are marked in one file per lead, `7.ii`: `(` onset, `p`, `N` or `t` peak, `)`
offset, as in the Lobachevsky University Database (Kalyakulina et al., IEEE Access 2020).
"""

from __future__ import annotations

import functools
import math
import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetkit.core.errors import DataError, MachineError
from unetkit.core.files import write_bytes
from unetkit.core.region import Region
from unetkit.data.formats.base import Array, ImageInfo, ImageReader, PaletteAs, Reading, decoding
from unetkit.data.formats.signals.mark_files import read_marks

WAVES = ("background", "P", "QRS", "T")
"""What the values 0 … 3 of a wave label mean."""
UNMARKED = 255
"""Value of samples that nobody judged: before the first marked wave, behind the last, and in unclear ones."""

# wfdb's beat codes that stand for a beat, whatever its kind: each is the peak of a QRS complex
BEATS = "NLRBAaJSVrFejnE/fQ?"
_PEAKS = {"p": 1, "t": 3} | dict.fromkeys(BEATS, 2)
WAVE_SYMBOLS = {"P": "p", "QRS": "N", "T": "t"}
"""The mark of the peak of each wave."""
KEPT = 1 << 26  # bytes of signals that are kept from one lead to the next
AT_ONCE = 1 << 20  # values of longer ones that are decoded together
# bytes per sample of the formats that are not compressed: https://wfdb.io/spec/signal-files.html
_BYTES = {"8": 1.0, "16": 2.0, "24": 3.0, "32": 4.0, "61": 2.0, "80": 1.0, "160": 2.0, "212": 1.5, "310": 4 / 3,
          "311": 4 / 3}  # fmt: skip
READ_ERRORS = (OSError, ValueError, IndexError, KeyError, TypeError, AttributeError, EOFError, OverflowError)


def open_image(path: Path, reading: Reading) -> RecordReader:  # noqa: ARG001  (the header says all)
    """Open the recording whose header is `path`. Raises DataError: damaged, no signals, cut short; MachineError: no
    wfdb."""
    header = _header(path)
    if not header.n_sig or not header.sig_len:
        raise DataError(f"{path}: the recording holds no signal; copy it again, with its .dat file, or leave it out")
    for file in signal_files(path):
        if not file.is_file():
            raise DataError(f"{path}: its signals are in {file.name}, which is not here; copy it beside the header")
    _refuse_cut(path, header)
    return RecordReader(path, header)


class RecordReader(ImageReader):
    """Signals in their physical units, float32. Gaps are NaN. Short recordings are decoded once and kept, long ones
    are read by region."""

    def __init__(self, path: Path, header: Any) -> None:
        super().__init__(path, _info(header))
        self._state = _state(path, *signal_files(path))
        self._signals_CX: Array | None = None

    def _read(self, region: Region, palette: PaletteAs, alpha: bool) -> Array:  # noqa: ARG002  (signals have neither)
        (length,), channels = self.info.shape, self.info.channels
        with decoding(self.path, *READ_ERRORS):
            if channels * length * 4 <= KEPT:
                if self._signals_CX is None:
                    self._signals_CX = _kept_signals(self.path, self._state, length)
                return self._signals_CX[(slice(None), *region.slices)].copy()
            part_CX = np.empty((channels, *region.shape), np.float32)
            (start,), (stop,) = region.start, region.stop
            step = max(1, AT_ONCE // channels)
            for begin in range(start, stop, step):
                end = min(stop, begin + step)
                part_CX[:, begin - start : end - start] = _signals(self.path, begin, end)
            return part_CX

    def close(self) -> None:
        self._signals_CX = None


def wave_files(header: Path, siblings: Sequence[Path]) -> dict[int, Path]:
    """Lead number → the file of its marks, for those of a recording's leads that have one among `siblings`.

    Raises DataError, MachineError as `open_image`.
    """
    by_suffix = {path.suffix.casefold(): path for path in siblings if path.stem == header.stem}
    found = {}
    for number, lead in enumerate(lead_names(header)):
        if (path := by_suffix.get(f".{lead}".casefold())) is not None:
            found[number] = path
    return found


def lead_names(path: Path) -> tuple[str, ...]:
    """The names of a recording's signals, in order. Raises as `open_image`."""
    return _lead_names(_header(path))


def segment_headers(path: Path) -> tuple[Path, ...]:
    """The headers of the segments that a recording is made of; () where it is of one piece. Raises as `open_image`."""
    names = getattr(_header(path), "seg_name", None) or ()
    return tuple(path.parent / f"{name}.hea" for name in dict.fromkeys(names) if name not in ("~", path.stem))  # ~: gap


def signal_files(path: Path) -> tuple[Path, ...]:
    """The files that hold the signals of a recording, of one in segments their headers too. Raises as `open_image`."""
    header = _header(path)
    found: dict[Path, None] = {}
    for inner in segment_headers(path):
        found |= dict.fromkeys((inner, *(signal_files(inner) if inner.is_file() else ())))
    found |= dict.fromkeys(path.parent / name for name in getattr(header, "file_name", None) or () if name != "~")
    return tuple(found)


def record_info(path: Path) -> ImageInfo:
    """Length, leads and rate of a recording, from its header alone. Raises as `open_image`."""
    return _info(_header(path))


def is_wave_file(path: Path) -> bool:
    """Whether the file lies beside the header of its recording, as the marks of a lead do."""
    return path.suffix.lower() not in ("", ".hea", ".dat") and path.with_suffix(".hea").is_file()


def read_waves(path: Path) -> tuple[NDArray[np.uint8], ImageInfo, tuple[str, ...]]:
    """The marks of a lead as a label (samples,) with the values of WAVES and UNMARKED; its info; what was unclear.

    Waves run from `(` to `)`, both included. A peak without an onset begins its wave, one without an offset ends it, as
    where onset and peak are one sample; what has no peak is UNMARKED.
    Raises DataError: damaged, marks beyond the recording, no waves; MachineError: no wfdb.
    """
    header = _header(path.with_suffix(".hea"))
    marks = read_marks(path).at(float(header.fs) if header.fs else None)
    pairs = list(zip(marks.samples, marks.symbols, strict=True))
    (length,) = _info(header).shape
    if any(not 0 <= n < length for n, _ in pairs):
        worst = max(n for n, _ in pairs)
        raise DataError(f"{path}: a mark lies at sample {worst}, but the recording has {length}; copy both again")
    waves, notes = _waves(pairs)
    if not any(value for _, _, value in waves):
        raise DataError(
            f"{path}: no wave is marked; marks are ( onset, p, N or t peak, ) offset; here are {len(pairs)} of another "
            "kind"
        )
    label_X = np.full(length, UNMARKED, np.uint8)
    known = [(start, stop) for start, stop, value in waves if value]
    label_X[min(start for start, _ in known) : max(stop for _, stop in known) + 1] = 0
    for start, stop, value in waves:
        label_X[start : stop + 1] = value or UNMARKED
    return label_X, replace(_info(header), channels=1, dtype="uint8", mode="grey", channel_names=()), notes


def write_annotation(
    path: Path, samples: Sequence[int], symbols: Sequence[str], notes: Sequence[str], spacing: tuple[float, ...] | None
) -> None:
    """Write a file of marks atomically: the sample, code and text of each. Raises MachineError: no wfdb, full disk."""
    if not samples:  # a file of marks holds one at least; the comment code says that there is nothing
        samples, symbols, notes = [0], ['"'], [""]
    rate = 1 / spacing[0] if spacing else None
    with tempfile.TemporaryDirectory() as folder:
        marks = (np.array(samples), list(symbols))
        quietly("wrann", "record", "atr", *marks, aux_note=list(notes), fs=rate, write_dir=folder)
        write_bytes(path, (Path(folder) / "record.atr").read_bytes())


def _waves(marks: Sequence[tuple[int, str]]) -> tuple[list[tuple[int, int, int]], tuple[str, ...]]:
    """(first sample, last sample, value of WAVES or 0 where unclear) of every wave; sentences on what was unclear."""
    waves: list[tuple[int, int, int]] = []
    onset: int | None = None
    peak: tuple[int, int] | None = None  # (sample, value) of the wave that is open, or of one that lacks its onset
    halves = unclear = 0
    for sample, symbol in [*marks, (-1, "(")]:
        if symbol == "(":
            if onset is not None and peak is not None:  # no offset: it ends with its peak
                waves.append((onset, peak[0], peak[1]))
                halves, peak = halves + 1, None
            onset = sample
        elif symbol == ")":
            start = onset if peak is None else peak[0] if onset is None else min(onset, peak[0])
            if start is not None:
                waves.append((start, sample, peak[1] if peak else 0))
                halves += onset is None or start < onset
                unclear += peak is None
            onset = peak = None
        elif symbol in _PEAKS:
            if onset is None and waves and not waves[-1][2]:  # the peak comes behind the offset of its wave
                waves[-1] = (waves[-1][0], max(waves[-1][1], sample), _PEAKS[symbol])
                unclear, halves = unclear - 1, halves + 1
            else:
                peak = (sample, _PEAKS[symbol])
    notes = []
    if halves:
        notes.append(f"{halves} wave{'s have' if halves > 1 else ' has'} a peak at or beyond the onset or offset")
    if unclear:
        notes.append(f"{unclear} wave{'s have' if unclear > 1 else ' has'} no peak, and nothing is learned from it")
    return waves, tuple(notes)


def _header(path: Path) -> Any:
    with decoding(path, *READ_ERRORS):
        return _kept_header(path, _state(path))


def _state(*files: Path) -> tuple[tuple[int, int], ...]:
    """What changes where a file is written anew. Raises OSError where one is not there."""
    return tuple((found.st_mtime_ns, found.st_size) for found in (path.stat() for path in files))


# Leads are read one by one, and each asks for its recording: what was read is kept while the files stay as they are.
@functools.lru_cache(maxsize=256)
def _kept_header(path: Path, _: tuple[tuple[int, int], ...]) -> Any:
    name = str(path.with_suffix(""))
    header = quietly("rdheader", name)
    return quietly("rdheader", name, rd_segments=True) if getattr(header, "n_seg", None) else header


def _signals(path: Path, start: int, stop: int) -> NDArray[np.float32]:
    """Samples start … stop of all signals of a recording, (leads, samples), in physical units."""
    record = quietly("rdrecord", str(path.with_suffix("")), sampfrom=start, sampto=stop)
    return np.ascontiguousarray(record.p_signal.T, np.float32)


@functools.lru_cache(maxsize=1)
def _kept_signals(path: Path, _: tuple[tuple[int, int], ...], length: int) -> NDArray[np.float32]:
    return _signals(path, 0, length)


def _lead_names(header: Any) -> tuple[str, ...]:
    names = header.sig_name or [""] * int(header.n_sig or 0)
    return tuple(str(name or number) for number, name in enumerate(names))


def _info(header: Any) -> ImageInfo:
    faster = max(getattr(header, "samps_per_frame", None) or [1])
    notes: tuple[str, ...] = ()
    if faster > 1:
        notes = (f"leads that were sampled more often (up to {faster} times) are averaged to {float(header.fs):g} Hz",)
    return ImageInfo(
        (int(header.sig_len or 0),),
        int(header.n_sig or 0),
        False,
        "float32",
        "bands",
        spacing=(1.0 / float(header.fs),) if header.fs else None,
        axes="T",
        unit="s" if header.fs else "",
        channel_names=_lead_names(header),
        notes=notes,
    )


def _refuse_cut(path: Path, header: Any) -> None:
    """Raise DataError where a file of signals is shorter than the header says."""
    frames: dict[str, float] = {}
    for name, fmt, each, offset in zip(
        getattr(header, "file_name", None) or (), getattr(header, "fmt", None) or (),
        getattr(header, "samps_per_frame", None) or (), getattr(header, "byte_offset", None) or (), strict=False,
    ):  # fmt: skip
        if fmt not in _BYTES:  # compressed: it shows when it is read
            return
        frames[name] = frames.get(name, float(offset or 0)) + _BYTES[fmt] * (each or 1) * int(header.sig_len)
    for name, needed in frames.items():
        has = (path.parent / name).stat().st_size
        if has < math.floor(needed):
            raise DataError(
                f"{path.parent / name}: the file is truncated: it has {has} bytes, and the {header.sig_len} samples "
                f"that {path.name} speaks of take {math.ceil(needed)}; copy it again, or leave the recording out"
            )


def quietly(function: str, *arguments: Any, **options: Any) -> Any:
    """Call a function of wfdb, whose use of pandas warns of changes to come that are no matter of the user's."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            import wfdb
        except ImportError:
            raise MachineError(
                "recordings are read by the wfdb package, which is not installed: pip install 'unetkit[signals]'"
            ) from None
        return getattr(wfdb, function)(*arguments, **options)
