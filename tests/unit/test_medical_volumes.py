"""NIfTI, NRRD and MetaImage by region, in bounded memory, and what is said of files that cannot be read."""

from __future__ import annotations

import gzip
import itertools
import zlib
from pathlib import Path

import nibabel
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medical_files import TILTED
from unetkit.core.errors import DataError, MachineError
from unetkit.core.region import Region
from unetkit.data.formats import ImageInfo, Reading, create_image, files_behind, open_image, probe
from unetkit.data.formats.medical import voxels as raw
from unetkit.data.formats.medical.itk import open_image as open_itk
from unetkit.data.formats.medical.volumes import _of_other

SimpleITK = pytest.importorskip("SimpleITK", reason="SimpleITK is not installed")

SHAPE = (9, 8, 7)
SUFFIXES = (".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd")


def array_of(shape: tuple[int, ...] = SHAPE, dtype: str = "int16", seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 120, shape).astype(dtype)


def by_sitk(path: Path, array: np.ndarray, packed: bool = False, vector: bool = False) -> Path:
    """An array (Z, Y, X[, C]), written by SimpleITK."""
    image = SimpleITK.GetImageFromArray(array, isVector=vector)
    if array.ndim - vector == 3:
        image.SetSpacing((0.5, 0.6, 2.0))
        image.SetOrigin((1, 2, 3))
        image.SetDirection((0, -1, 0, 1, 0, 0, 0, 0, 1))
    SimpleITK.WriteImage(image, str(path), packed)
    return path


@settings(deadline=None, max_examples=60)
@given(
    st.sampled_from(SUFFIXES),
    st.lists(st.integers(2, 7), min_size=2, max_size=3),
    st.integers(1, 3),
    st.sampled_from(["uint8", "int8", "int16", "uint16", "int64", "float32", "float64"]),
    st.sampled_from(["deflate", "none"]),
    st.randoms(use_true_random=False),
)
def test_written_in_any_pieces_is_read_in_any_pieces(
    tmp_path_factory, suffix, sides, channels, dtype, compression, random
) -> None:
    path, shape = tmp_path_factory.mktemp("v") / f"a{suffix}", tuple(sides)
    array = array_of((channels, *shape), dtype, random.randrange(99))
    pieces = [Region.of(shape)]
    for _ in range(4):
        old = pieces.pop(random.randrange(len(pieces)))
        axis = random.randrange(len(shape))
        cut = random.randint(old.start[axis], old.stop[axis])
        low, high = list(old.stop), list(old.start)
        low[axis] = high[axis] = cut
        pieces += [Region(old.start, tuple(low)), Region(tuple(high), old.stop)]
    with create_image(path, shape, channels, dtype, compression=compression) as writer:
        for piece in random.sample(pieces, len(pieces)):
            writer.write(piece, array[(slice(None), *piece.slices)])
    with open_image(path) as reader:
        assert (reader.info.shape, reader.info.channels, reader.info.dtype) == (shape, channels, dtype)
        start = tuple(random.randint(0, n) for n in shape)
        part = Region(start, tuple(random.randint(a, n) for a, n in zip(start, shape, strict=True)))
        found = reader.read(part)
        assert found.dtype.isnative
        assert found.flags.c_contiguous
        np.testing.assert_array_equal(found, array[(slice(None), *part.slices)])
        np.testing.assert_array_equal(reader.read(), array)
    assert {p.name for p in path.parent.iterdir()} == {p.name for p in files_behind(path)}


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_bands_go_straight_to_the_file(tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    array = array_of()

    def none(*_: object) -> None:
        raise AssertionError("something waits though it comes in order")

    monkeypatch.setattr("unetkit.data.formats.medical.volumes.scratch", none)
    for pixels, count in ((1, 56), (9 * 3, 21), (2 * 9 * 8, 4), (10**6, 1)):
        with create_image(tmp_path / f"a{suffix}", SHAPE, 1, "int16") as writer:
            bands = list(writer.bands(pixels))
            assert len(bands) == count
            assert all(band.size <= max(pixels, 9) for band in bands)
            for band in bands:
                writer.write(band, array[band.slices])
        with open_image(tmp_path / f"a{suffix}") as reader:
            np.testing.assert_array_equal(reader.read()[0], array)


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd", ".mha"])
def test_large_files_unpack_into_a_file_without_a_name(
    tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    array = array_of((2, *SHAPE), "float32")
    with create_image(tmp_path / f"a{suffix}", SHAPE, 2, "float32") as writer:
        writer.write(Region.of(SHAPE), array)
    room = tmp_path / "room"
    room.mkdir()
    monkeypatch.setattr(raw, "IN_MEMORY", 0)
    monkeypatch.setattr(raw.tempfile, "tempdir", str(room))
    monkeypatch.setenv("TMPDIR", str(room))
    with open_image(tmp_path / f"a{suffix}") as reader:
        part = Region((1, 2, 3), (8, 5, 6))
        np.testing.assert_array_equal(reader.read(part), array[(slice(None), *part.slices)])
        assert isinstance(reader._voxels._file, raw.DiskFile)
        assert not list(room.iterdir())
        np.testing.assert_array_equal(reader.read(), array)
    monkeypatch.setenv("TMPDIR", str(tmp_path / "absent"))
    monkeypatch.setattr(raw.tempfile, "tempdir", str(tmp_path / "absent"))
    with pytest.raises(MachineError, match="absent: cannot be written"), open_image(tmp_path / f"a{suffix}") as reader:
        reader.read()


def test_small_buffers_give_the_same_voxels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    array = array_of((2, *SHAPE))
    for buffer in (1, 40, 9 * 8 * 2 * 3):
        monkeypatch.setattr(raw, "_BUFFER", buffer)
        monkeypatch.setattr(raw, "_PACKED", 50)
        for suffix in (".nii", ".nii.gz", ".mha"):
            with create_image(tmp_path / f"a{suffix}", SHAPE, 2, "int16") as writer:
                for region in (Region((4, 0, 0), SHAPE), Region((0, 0, 0), (4, 8, 7))):
                    writer.write(region, array[(slice(None), *region.slices)])
            with open_image(tmp_path / f"a{suffix}") as reader:
                part = Region((2, 1, 1), (5, 7, 6))
                np.testing.assert_array_equal(reader.read(part), array[(slice(None), *part.slices)])
                np.testing.assert_array_equal(reader.read(), array)


def test_gzip_of_several_members_and_with_something_behind(tmp_path: Path) -> None:
    array = array_of()
    content = nibabel.Nifti1Image(array, np.eye(4)).to_bytes()
    cuts = [0, 100, 400, 401, len(content)]
    members = [gzip.compress(content[a:b], mtime=0) for a, b in itertools.pairwise(cuts)]
    (tmp_path / "a.nii.gz").write_bytes(b"".join(members) + b"\0" * 100 + b"tail")
    with open_image(tmp_path / "a.nii.gz") as reader:
        np.testing.assert_array_equal(reader.read()[0], array)
    packed = bytearray(gzip.compress(content, mtime=0))
    packed[-6] ^= 1  # of the checksum
    (tmp_path / "b.nii.gz").write_bytes(packed)
    with pytest.raises(DataError, match=r"b.nii.gz: the file is truncated or damaged \(.*incorrect data check"):
        open_image(tmp_path / "b.nii.gz").read()


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_equal_masks_are_equal_files_and_failures_leave_none(tmp_path: Path, suffix: str) -> None:
    like = by_sitk(tmp_path / "image.nrrd", array_of().T)
    written = []
    for name in ("a", "b"):
        path = tmp_path / name / f"m{suffix}"
        with create_image(path, SHAPE, 1, "uint8", like=like) as writer:
            for band in list(writer.bands(72))[:: 1 if name == "a" else -1]:
                writer.write(band, array_of(dtype="uint8")[band.slices])
        written.append([file.read_bytes() for file in files_behind(path)])
    assert written[0] == written[1]
    begun = create_image(tmp_path / "c" / f"m{suffix}", SHAPE, 1, "uint8")
    with pytest.raises(ValueError, match="432 pixels of"), begun as writer:
        writer.write(Region((0, 0, 0), (9, 8, 1)), np.zeros((9, 8, 1), np.uint8))
    assert not list((tmp_path / "c").iterdir())
    with pytest.raises(ValueError, match=r"does not lie over .*image.nrrd of \(9, 8, 7\)"):
        create_image(tmp_path / "d" / f"m{suffix}", (9, 8), 1, "uint8", like=like).__enter__()


@pytest.mark.parametrize("suffix", [".nrrd", ".nhdr", ".mha", ".mhd"])
@pytest.mark.parametrize("packed", [False, True])
def test_what_simpleitk_writes(tmp_path: Path, suffix: str, packed: bool) -> None:
    for dtype in ("uint8", "int16", "uint32", "int64", "float32", "float64"):
        array = array_of(SHAPE[::-1], dtype)
        with open_image(by_sitk(tmp_path / f"a{suffix}", array, packed)) as reader:
            assert reader.info.dtype == dtype
            np.testing.assert_array_equal(reader.read()[0], array.T)
            assert reader.info.spacing == (0.5, 0.6, 2.0)
            np.testing.assert_allclose(
                np.reshape(reader.info.affine, (4, 4)),
                [[0, 0.6, 0, -1], [-0.5, 0, 0, -2], [0, 0, 2, 3], [0, 0, 0, 1]], atol=1e-9,
            )  # fmt: skip
    vector = array_of((*SHAPE[::-1], 3), "float32")
    with open_image(by_sitk(tmp_path / f"v{suffix}", vector, packed, vector=True)) as reader:
        assert (reader.info.channels, reader.info.mode) == (3, "bands")
        np.testing.assert_array_equal(reader.read(Region((1, 1, 1), (3, 4, 5))), vector.T[:, 1:3, 1:4, 1:5])
    flat = array_of((8, 9), "uint8")
    with open_image(by_sitk(tmp_path / f"f{suffix}", flat, packed)) as reader:
        assert (reader.info.shape, reader.info.axes, reader.info.spacing) == ((9, 8), "XY", (1, 1))
        np.testing.assert_array_equal(reader.read()[0], flat.T)


def test_other_ways_to_store_voxels(tmp_path: Path) -> None:
    array = array_of((4, 3, 2), "int16")
    swapped = array.T.astype(">i2").tobytes()
    head = "NRRD0004\ntype: short\ndimension: 3\nsizes: 4 3 2\nspacings: 1 2 3\nendian: big\n"
    text = " ".join(map(str, array.T.ravel()))
    (tmp_path / "big.nrrd").write_bytes(f"{head}encoding: raw\n\n".encode() + swapped)
    (tmp_path / "skip.nrrd").write_bytes(f"{head}encoding: raw\nbyte skip: 5\n\n".encode() + b"x" * 5 + swapped)
    (tmp_path / "text.nrrd").write_text(f"{head}encoding: text\n\n{text}\n")
    (tmp_path / "a.raw").write_bytes(swapped)
    (tmp_path / "away.nhdr").write_text(f"{head}encoding: raw\ndata file: a.raw\n")
    for k in range(2):
        (tmp_path / f"s{k}.raw").write_bytes(array[..., k].T.astype(">i2").tobytes())
    (tmp_path / "list.nhdr").write_text(f"{head}encoding: raw\ndata file: LIST 2\ns0.raw\ns1.raw\n")
    (tmp_path / "pattern.nhdr").write_text(f"{head}encoding: raw\ndata file: s%d.raw 0 1 1 2\n")
    meta = "ObjectType = Image\nNDims = 3\nBinaryData = {}\nBinaryDataByteOrderMSB = True\nElementSpacing = 1 2 3\n"
    meta += "{}DimSize = 4 3 2\nElementType = MET_SHORT\nElementDataFile = {}\n"
    (tmp_path / "big.mha").write_bytes(meta.format(True, "", "LOCAL").encode() + swapped)
    (tmp_path / "text.mha").write_text(
        meta.format(False, "", "LOCAL").replace("MSB = True", "MSB = False") + text + "\n"
    )
    (tmp_path / "skipped.raw").write_bytes(b"x" * 7 + swapped)
    (tmp_path / "skip.mhd").write_text(meta.format(True, "HeaderSize = 7\n", "skipped.raw"))
    (tmp_path / "list.mhd").write_text(meta.format(True, "", "LIST") + "s0.raw\ns1.raw\n")
    for name in ("big.nrrd", "skip.nrrd", "text.nrrd", "away.nhdr", "list.nhdr", "pattern.nhdr", "big.mha", "text.mha",
                 "skip.mhd", "list.mhd"):  # fmt: skip
        with open_image(tmp_path / name) as reader:
            assert (reader.info.spacing, reader.info.affine) == ((1, 2, 3), None), name
            np.testing.assert_array_equal(reader.read()[0], array, err_msg=name)
    assert [p.name for p in files_behind(tmp_path / "list.mhd")] == ["list.mhd", "s0.raw", "s1.raw"]
    assert [p.name for p in files_behind(tmp_path / "pattern.nhdr")] == ["pattern.nhdr", "s0.raw", "s1.raw"]


def test_masks_take_the_axes_of_length_one(tmp_path: Path) -> None:
    one = by_sitk(tmp_path / "one.mha", array_of((1, 8, 9), "uint8"))
    flat = by_sitk(tmp_path / "flat.mha", array_of((8, 9), "uint8"))
    for like, ndim in ((one, 3), (flat, 2)):
        for suffix in (".nrrd", ".mha", ".nii.gz"):
            with create_image(tmp_path / f"m{suffix}", (9, 8), 1, "uint8", like=like) as writer:
                writer.write(Region.of((9, 8)), array_of((9, 8), "uint8"))
            found = SimpleITK.ReadImage(str(tmp_path / f"m{suffix}"))
            assert found.GetDimension() == ndim
            assert found.GetSpacing() == pytest.approx(SimpleITK.ReadImage(str(like)).GetSpacing())
            assert found.GetOrigin() == pytest.approx(SimpleITK.ReadImage(str(like)).GetOrigin())


def test_volumes_over_stacks_of_images_say_which_axis_is_which() -> None:
    place = _of_other(ImageInfo((7, 8, 9), 1, False, "uint8", "grey", spacing=(2.0, 0.5, 0.4), axes="ZYX"), 1e-3)
    np.testing.assert_allclose(place.affine @ [1, 10, 100, 1], [0.04, 0.005, 0.002, 1])
    assert place.spacing == pytest.approx((0.002, 0.0005, 0.0004))
    unknown = _of_other(ImageInfo((8, 9), 1, False, "uint8", "grey", spacing=(0.5, 0.4)), 1.0)
    np.testing.assert_allclose(unknown.affine @ [2, 10, 0, 1], [1, 4, 0, 1])


def test_nifti_says_its_axes_and_units(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(array_of(), TILTED * [[1000], [1000], [1000], [1]])
    image.header.set_xyzt_units("micron")
    nibabel.save(image, tmp_path / "a.nii.gz")
    info = probe(tmp_path / "a.nii.gz")
    assert (info.axes, info.unit) == ("XYZ", "mm")
    assert info.spacing == pytest.approx(nibabel.affines.voxel_sizes(TILTED), abs=1e-5)
    np.testing.assert_allclose(np.reshape(info.affine, (4, 4)), TILTED, atol=1e-5)
    with create_image(tmp_path / "m.mha", SHAPE, 1, "uint8", like=tmp_path / "a.nii.gz") as writer:
        writer.write(Region.of(SHAPE), np.zeros(SHAPE, np.uint8))
    np.testing.assert_allclose(probe(tmp_path / "m.mha").affine, info.affine, atol=1e-9)


def test_masks_over_files_of_other_byte_order_and_of_nifti_2(tmp_path: Path) -> None:
    for kind, order in ((nibabel.Nifti1Image, ">"), (nibabel.Nifti2Image, "<")):
        image = kind(array_of().astype(">i2"), TILTED, kind.header_class(endianness=order))
        image.header.set_dim_info(0, 1, 2)
        nibabel.save(image, tmp_path / "a.nii")
        with open_image(tmp_path / "a.nii") as reader:
            np.testing.assert_array_equal(reader.read()[0], array_of())
        with create_image(tmp_path / "m.nii.gz", SHAPE, 1, "uint16", like=tmp_path / "a.nii") as writer:
            writer.write(Region.of(SHAPE), array_of(dtype="uint16"))
        found = nibabel.load(tmp_path / "m.nii.gz")
        assert type(found) is kind
        np.testing.assert_array_equal(np.asarray(found.dataobj), array_of())
        np.testing.assert_allclose(found.affine, TILTED, atol=1e-5)


def test_images_wider_than_nifti_1_counts(tmp_path: Path) -> None:
    with create_image(tmp_path / "wide.nii.gz", (40_000, 2), 1, "uint8") as writer:
        writer.write(Region.of((40_000, 2)), np.ones((40_000, 2), np.uint8))
    found = nibabel.load(tmp_path / "wide.nii.gz")
    assert (type(found), found.shape) == (nibabel.Nifti2Image, (40_000, 2))
    assert probe(tmp_path / "wide.nii.gz").shape == (40_000, 2)


def test_series_in_time_are_no_volumes(tmp_path: Path) -> None:
    def save(count: int) -> Path:
        image = nibabel.Nifti1Image(array_of((4, 4, 3, count)), np.eye(4))
        image.header.set_xyzt_units("mm", "sec")
        image.header["pixdim"][4] = 2.5
        nibabel.save(image, tmp_path / f"t{count}.nii.gz")
        return tmp_path / f"t{count}.nii.gz"

    with pytest.raises(DataError) as error:
        probe(save(30))
    assert str(error.value) == (
        f"{tmp_path}/t30.nii.gz: a time series of 4 × 4 × 3 × 30 (30 volumes, one each 2.5 sec); a volume is read at a "
        "time: split it (nibabel.funcs.four_to_three, or fslsplit), or save their mean"
    )
    info = probe(save(2))
    assert (info.channels, info.notes) == (
        2, ("its fourth axis of 2 is read as channels, though its header calls it time",),
    )  # fmt: skip
    with create_image(tmp_path / "p.nii.gz", (4, 4, 3), 20, "float32", like=tmp_path / "t2.nii.gz") as writer:
        writer.write(Region.of((4, 4, 3)), np.zeros((20, 4, 4, 3), np.float32))
    assert (probe(tmp_path / "p.nii.gz").channels, probe(tmp_path / "p.nii.gz").notes) == (20, ())  # classes, not time
    by_sitk(tmp_path / "t.nrrd", array_of((5, 3, 4, 4), "float32"))
    with pytest.raises(
        DataError, match=r"t.nrrd: a file of 4 × 4 × 3 × 5 is no volume; volumes have three axes: save "
    ):
        probe(tmp_path / "t.nrrd")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_truncated_and_foreign_files(tmp_path: Path, suffix: str) -> None:
    for packed in (True, False):
        path = tmp_path / f"cut{suffix}"
        with create_image(path, (20, 20, 20), 1, "int16", compression="deflate" if packed else "none") as writer:
            writer.write(Region.of((20, 20, 20)), array_of((20, 20, 20)))
        body = files_behind(path)[-1]
        body.write_bytes(body.read_bytes()[: body.stat().st_size * 2 // 3])
        with pytest.raises(DataError, match=r"the file is truncated or damaged \(.*\); copy or export it again"):
            open_image(path).read()
    (tmp_path / f"text{suffix}").write_text("this is a shopping list\n" * 30)
    with pytest.raises(DataError, match=f"text{suffix}: (this is not a|the file is truncated or damaged)"):
        probe(tmp_path / f"text{suffix}")
    (tmp_path / f"empty{suffix}").touch()
    with pytest.raises(DataError, match="the file is empty"):
        probe(tmp_path / f"empty{suffix}")


def test_headers_without_their_voxels_or_fields(tmp_path: Path) -> None:
    by_sitk(tmp_path / "a.mhd", array_of())
    (tmp_path / "a.raw").unlink()
    with pytest.raises(DataError, match=r"a.mhd: its voxels are in a.raw, which is missing; copy the two together"):
        probe(tmp_path / "a.mhd")
    (tmp_path / "b.nrrd").write_bytes(b"NRRD0004\ntype: short\ndimension: 3\nencoding: raw\n\n")
    with pytest.raises(DataError, match=r"b.nrrd: .*its header has no valid field 'sizes'"):
        probe(tmp_path / "b.nrrd")
    (tmp_path / "c.mha").write_bytes(b"ObjectType = Image\nNDims = 3\n")
    with pytest.raises(DataError, match=r"c.mha: .*its header does not end"):
        probe(tmp_path / "c.mha")
    (tmp_path / "d.mha").write_bytes(zlib.compress(b"nothing"))
    with pytest.raises(DataError, match=r"d.mha: this is not a MetaImage file, whatever its suffix says"):
        probe(tmp_path / "d.mha")
    SimpleITK.WriteImage(SimpleITK.Image([4, 4, 4], SimpleITK.sitkComplexFloat32), str(tmp_path / "e.nrrd"))
    with pytest.raises(DataError, match=r"e.nrrd: values of the kind 'complex of 32-bit float' are not read"):
        probe(tmp_path / "e.nrrd")


def test_what_is_said_of_a_file_must_be_so(tmp_path: Path) -> None:
    path = by_sitk(tmp_path / "a.nrrd", array_of(SHAPE[::-1]))
    assert open_image(path, Reading(axes="XYZ")).info.axes == "XYZ"
    with pytest.raises(
        DataError, match=r"a.nrrd: the axes of this file are XYZ, as its header says, and not ZYX; leave"
    ):
        open_image(path, Reading(axes="ZYX"))
    with pytest.raises(DataError, match=r"a.nrrd: there is no level 2; it has 1 \(0: 9 × 8 × 7\)"):
        open_image(path, Reading(level=2))


def test_values_that_a_format_does_not_hold(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"a.mha: NRRD and MetaImage files do not hold float16; write integers or float32"
    ):
        create_image(tmp_path / "a.mha", SHAPE, 1, "float16")


def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = by_sitk(tmp_path / "a.nrrd", array_of())

    def missing(name: str) -> None:
        raise ModuleNotFoundError(name)

    monkeypatch.setattr("unetkit.data.formats.medical.volumes.importlib.import_module", missing)
    with pytest.raises(MachineError) as error:
        open_itk(path, Reading())
    assert str(error.value) == (
        f"{path}: NRRD and MetaImage files are read with the SimpleITK package, which is not installed: "
        "pip install 'unetkit[medical]'"
    )
