"""Cases made ready for training once: in memory where they fit; else chunked and compressed in the run folder; or,
where no copies are wanted, read from the originals as they are needed."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import math
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from unetkit.core.errors import DataError
from unetkit.core.files import disk_errors
from unetkit.core.machine import free_memory
from unetkit.core.region import Region
from unetkit.data.case import Case
from unetkit.data.labels.legend import Legend
from unetkit.data.prepared.areas import Areas
from unetkit.data.prepared.label_reader import LabelReader, NoLabel, label_of
from unetkit.data.prepared.patches import Pixels, PreparedCase
from unetkit.data.prepared.places import PlaceFinder, Places
from unetkit.data.prepared.plan import PreparePlan
from unetkit.data.prepared.prepare import CaseReader, normalise
from unetkit.data.prepared.statistics import Statistics

# Share of the free memory that prepared cases may take; the network needs the rest.
SHARE = 0.25
# Pixels along each axis of the chunks that are kept on a disk, by number of axes: about what a patch touches.
CHUNK = {1: (1 << 16,), 2: (512, 512), 3: (64, 64, 64)}
# Decoded chunks that are kept of all cases together, and images that are open at a time.
KEPT_BYTES, OPEN = 256 * 2**20, 32

Keep = Literal["store", "originals"]
"""Where the cases are that do not fit in memory: compressed copies in the run folder, or the user's own files."""


def prepared_bytes(shapes: Sequence[tuple[int, ...]], channels: int) -> int:
    """Bytes of prepared images (float32) and labels (uint8)."""
    return sum(math.prod(shape) * (4 * channels + 1) for shape in shapes)


def prepare_cases(
    cases: Sequence[Case],
    legend: Legend,
    plan: PreparePlan,
    seed: int,
    folder: Path,
    limit: int | None = None,
    keep: Keep = "store",
    unlabelled: bool = False,
    areas: bool = False,
) -> list[PreparedCase]:
    """Read and normalise every case, one after the other, those that are large in blocks.

    What does not fit into `limit` bytes (default: a quarter of the free memory) goes to compressed chunks in `folder`,
    or with `keep` "originals" stays where it is and is read by region. unlabelled: cases without masks may be among
    them, whose label is 0 everywhere. areas: the connected areas of classes are found, too, in the same pass. Raises
    DataError: an unreadable file, no mask, an image and a mask of different size; MachineError: a full disk.
    """
    room = int(SHARE * free_memory()) if limit is None else limit
    apart = 0 if legend.regions else legend.background  # where regions may overlap, 0 is where none is
    prepared, cache, files = [], ChunkCache(KEPT_BYTES), _Files(legend, plan)
    for number, case in enumerate(cases):
        if case.label is None and not unlabelled:
            raise DataError(f"{case.where}: has no mask; training needs one")
        with CaseReader(case, plan) as image, label_of(case, legend, image) as label:
            shape, spacing = image.shape, image.spacing
            image_CX: Pixels
            label_X: Pixels
            finder = PlaceFinder(label.shape, seed, case.id, areas, apart)
            path = folder / f"{number:05d}.zarr"
            if (needed := prepared_bytes([shape], plan.channels)) <= room:
                room -= needed
                image_CX, label_X = image.read(image.whole), label.read(label.whole)
                places, scale = _places(label_X, finder), _scale(image)
            elif keep == "originals":
                image_CX, label_X = _Original(files, case, "image"), _Original(files, case, "label")
                places, scale = _places(label_X, finder), _scale(files.of(case)[0])
            else:
                group = _taken_up(path) or _stored(image, label, path, finder)
                image_CX, label_X = _Stored(group["image"], cache), _Stored(group["label"], cache)
                places, scale = _places_of(group), np.asarray(group.attrs["scale"], np.float32)
        prepared.append(PreparedCase(case.id, image_CX, label_X, places, spacing, scale if scale.size else None))
    return prepared


def _scale(image: CaseReader) -> NDArray[np.float32]:
    """What black and white of an RGB image became by normalising, (2, 3); empty for others, and where white is not
    known."""
    if image.plan.colour != "rgb" or not np.issubdtype(image.info.dtype, np.integer):
        return np.zeros((0, 0), np.float32)
    white = np.iinfo(image.info.dtype).max
    ends_C2 = np.repeat(np.array([[0, white]], np.float32), 3, axis=0)
    return normalise(ends_C2, image.statistics, image.plan.model_copy(update={"method": "zscore"})).T


def _places(label_X: Pixels, finder: PlaceFinder) -> Places:
    for region in _blocks(tuple(label_X.shape)):
        finder.add(region, np.asarray(label_X[region.slices]))
    return finder.places()


class ChunkCache:
    """The chunks that were decoded last, of any number of arrays, up to so many bytes."""

    def __init__(self, most: int) -> None:
        self._most, self._held = most, 0
        self._chunks: OrderedDict[tuple[int, tuple[int, ...]], NDArray[Any]] = OrderedDict()

    def get(self, array: Any, index: tuple[int, ...]) -> NDArray[Any]:
        """The chunk with this index along every axis."""
        name = (id(array), index)
        if name in self._chunks:
            self._chunks.move_to_end(name)
            return self._chunks[name]
        chunk: NDArray[Any] = array.get_block_selection(index)
        self._chunks[name] = chunk
        self._held += chunk.nbytes
        while self._held > self._most and len(self._chunks) > 1:
            self._held -= self._chunks.popitem(last=False)[1].nbytes
        return chunk


class _Stored:
    """A Zarr array whose chunks are decoded once for several patches that touch them."""

    def __init__(self, array: Any, cache: ChunkCache) -> None:
        self._array, self._cache = array, cache
        self.shape: tuple[int, ...] = tuple(array.shape)
        self.dtype: np.dtype[Any] = array.dtype

    def __getitem__(self, index: tuple[slice, ...]) -> NDArray[Any]:
        spans = [s.indices(n)[:2] for s, n in zip(index, self.shape, strict=True)]
        out = np.empty([b - a for a, b in spans], self.dtype)
        chunks = self._array.chunks
        for place in itertools.product(*(range(a // c, -(-b // c)) for (a, b), c in zip(spans, chunks, strict=True))):
            block = self._cache.get(self._array, place)
            start = [p * c for p, c in zip(place, chunks, strict=True)]
            low = [max(a, s) for (a, _), s in zip(spans, start, strict=True)]
            high = [min(b, s + n) for (_, b), s, n in zip(spans, start, block.shape, strict=True)]
            to = tuple(slice(lo - a, hi - a) for lo, hi, (a, _) in zip(low, high, spans, strict=True))
            of = tuple(slice(lo - s, hi - s) for lo, hi, s in zip(low, high, start, strict=True))
            out[to] = block[of]
        return out


def _taken_up(path: Path) -> Any:
    """What an interrupted run left whole (its data and its plan are known to be the same); None where there is none."""
    import zarr

    if path.is_dir():
        with contextlib.suppress(OSError, ValueError, KeyError, zarr.errors.BaseZarrError):
            group = zarr.open_group(path, mode="r")
            return group if group.attrs.get("whole") and "scale" in group.attrs else None
    return None


def _stored(image: CaseReader, label: LabelReader | NoLabel, path: Path, finder: PlaceFinder) -> Any:
    """Write a case to compressed chunks, block by block, with the places of its classes, which `finder` finds on the
    way: a Zarr group of `image`, `label`, `places/CLASS` and `areas/CLASS/…`. It is marked whole at the end."""
    import zarr
    from zarr.codecs import BloscCodec

    chunk = tuple(min(c, n) for c, n in zip(CHUNK[len(image.shape)], image.shape, strict=True))
    options: dict[str, Any] = {"compressors": BloscCodec(cname="lz4", clevel=5), "fill_value": 0}
    with disk_errors(path):
        group = zarr.open_group(path, mode="w")
        channels = image.plan.channels
        image_CX = group.create_array(
            "image", shape=(channels, *image.shape), chunks=(1, *chunk), dtype="float32", **options
        )
        label_X = group.create_array("label", shape=image.shape, chunks=chunk, dtype="uint8", **options)
        for region in _blocks(image.shape):
            image_CX[(slice(None), *region.slices)] = image.read(region)
            label_X[region.slices] = part_X = label.read(region)
            finder.add(region, part_X)
        places = finder.places()
        for k, positions in places.of.items():
            group.create_array(f"places/{k}", data=positions)
        for k, areas in places.areas.items():
            for field in dataclasses.fields(areas):
                group.create_array(f"areas/{k}/{field.name}", data=getattr(areas, field.name))
        group.attrs["counts"] = {str(k): n for k, n in places.counts.items()}
        group.attrs["scale"] = _scale(image).tolist()
        group.attrs["whole"] = True
    return group


def _places_of(group: Any) -> Places:
    """The places that `_stored` wrote."""
    counts = {int(k): n for k, n in group.attrs["counts"].items()}
    found = {int(k): part for k, part in group["areas"].groups()} if "areas" in group else {}
    areas = {k: Areas(*(np.asarray(p[field.name][:]) for field in dataclasses.fields(Areas))) for k, p in found.items()}
    return Places({k: np.asarray(group[f"places/{k}"][:]) for k in counts}, counts, dict(sorted(areas.items())))


def _blocks(shape: tuple[int, ...]) -> Iterator[Region]:
    """Regions that partition an image, whole chunks of a few million pixels."""
    length = CHUNK[len(shape)]
    step = tuple(c * (4 if len(shape) < 3 else 2) for c in length)
    for start in itertools.product(*(range(0, n, s) for n, s in zip(shape, step, strict=True))):
        yield Region(start, tuple(min(a + s, n) for a, s, n in zip(start, step, shape, strict=True)))


class _Files:
    """The files of cases that are read where they are. Few are open at a time; statistics are measured once."""

    def __init__(self, legend: Legend, plan: PreparePlan) -> None:
        self._legend, self._plan = legend, plan
        self._statistics: dict[str, Statistics] = {}
        self._open: OrderedDict[str, tuple[CaseReader, LabelReader | NoLabel]] = OrderedDict()

    def of(self, case: Case) -> tuple[CaseReader, LabelReader | NoLabel]:
        """The image and the label of a case, opened."""
        if case.id in self._open:
            self._open.move_to_end(case.id)
            return self._open[case.id]
        image = CaseReader(case, self._plan, self._statistics.get(case.id))
        try:
            label = label_of(case, self._legend, image)
            self._statistics[case.id] = image.statistics
        except BaseException:
            image.close()
            raise
        self._open[case.id] = image, label
        if len(self._open) > OPEN:
            for reader in self._open.popitem(last=False)[1]:
                reader.close()
        return image, label


class _Original:
    """The image or the label of a case, indexed as an array, read from the user's own files."""

    def __init__(self, files: _Files, case: Case, part: Literal["image", "label"]) -> None:
        self._files, self._case, self._part = files, case, part
        image, label = files.of(case)
        self.shape = (image.plan.channels, *image.shape) if part == "image" else label.shape

    def __getitem__(self, index: tuple[slice, ...]) -> NDArray[Any]:
        image, label = self._files.of(self._case)
        spans = [s.indices(n)[:2] for s, n in zip(index, self.shape, strict=True)]
        space = spans[1:] if self._part == "image" else spans
        region = Region(tuple(a for a, _ in space), tuple(b for _, b in space))
        return label.read(region) if self._part == "label" else image.read(region)[index[0]]
