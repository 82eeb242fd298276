"""Cases that are one file or one folder each: a file with image and label inside, a folder with the channels."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from unetkit.core.errors import DataError
from unetkit.data.case import Case, Discovery, make_discovery
from unetkit.data.find.pairs import named, split_flat, split_of
from unetkit.data.find.walk import below
from unetkit.data.formats import contents, format_of, image_paths, stem


def from_containers(root: Path, files: Sequence[Path]) -> Discovery | None:
    """Files that hold an image and its label (HDF5, OME-Zarr, NPZ); None where no file does.

    Raises DataError: several images or labels in one file, of which none is called so.
    """
    cases: list[Case] = []
    unlabelled: list[Case] = []
    kinds = set()
    for path in files:
        kind = format_of(path)
        if kind is None or not kind.several:
            continue
        inside = contents(path)
        labels = [item for item in inside if item.label]
        images = [item for item in inside if not item.label]
        name = path.relative_to(root).with_name(stem(path)).as_posix()
        split = split_of(name.split("/")[:-1])
        if labels and images:
            if len(images) > 1 or len(labels) > 1:
                held = ", ".join(f"{i.address.relative_to(path)} ({' × '.join(map(str, i.shape))})" for i in inside)
                raise DataError(
                    f"{path}: holds {len(images)} images and {len(labels)} labels: {held}; say in a CSV of image,mask "
                    f"which belong together: {path.name}/{images[0].address.relative_to(path)},"
                    f"{path.name}/{labels[0].address.relative_to(path)}"
                )
            cases.append(Case(name, (images[0].address,), labels[0].address, None, split))
            kinds.add(kind.name)
        elif len(images) == 1:
            unlabelled.append(Case(name, (images[0].address,), None, None, split))
    if not cases:
        return None
    return make_discovery(
        root, f"{' and '.join(sorted(kinds))} files that hold the image and its label", cases, unlabelled, [], []
    )


def from_case_folders(root: Path) -> Discovery | None:
    """A folder for each case, with a mask that is called so and the channels of one image, a file each.

    None where some folder has not just one mask, or where the channels are not called alike.
    """
    cases, channels, masks_below = [], set[tuple[str, ...]](), 0
    for folder in below(root):
        images, masks = split_flat(named(image_paths(folder), root))
        if not images and not masks:
            continue
        if len(masks) != 1 or len(images) < 2:
            return None
        masks_below += 1
        name = folder.relative_to(root).as_posix()
        channels.add(tuple(_own_part(stem(i.path), [stem(i.path) for i in images]) for i in images))
        cases.append(Case(name, tuple(i.path for i in images), masks[0].path, None, split_of(name.split("/")[:-1])))
    if len(cases) < 2 or len(channels) != 1:
        return None
    called = ", ".join(next(iter(channels)))
    return make_discovery(root, f"a folder for each case, with its mask and its channels ({called})", cases)


def _own_part(name: str, names: Sequence[str]) -> str:
    """What of a name differs from its neighbours': `t1` of `case7_t1` beside `case7_flair`."""
    words = [re.split(r"([_\-. ]+)", other) for other in names]
    shared = 0
    while all(len(w) > shared + 1 for w in words) and len({w[shared] for w in words}) == 1:
        shared += 1
    return "".join(re.split(r"([_\-. ]+)", name)[shared:])
