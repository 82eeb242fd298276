"""nnU-Net raw folders: imagesTr/ID_0000.png (one file per channel), labelsTr/ID.png, dataset.json.

The format: https://github.com/MIC-DKFZ/nnUNet/blob/master/documentation/dataset_format.md
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from pathlib import Path
from typing import Any

from unetkit.core.errors import DataError
from unetkit.data.case import Case, Discovery, GivenRegion
from unetkit.data.formats import image_paths, natural_key, readable, stem, suffix, suffixes

_CHANNEL = re.compile(r"^(.+)_(\d{4})$")


def read_nnunet(root: Path, folders: dict[str, Path]) -> Discovery:
    """The cases of an nnU-Net raw folder; `folders` are its subfolders by lower-case name.

    imagesTs with labelsTs becomes the test split, without them unlabelled images. Raises DataError: no labels, files of
    a kind that is not read, a missing channel file, a damaged dataset.json.
    """
    described = _dataset_json(root)
    if "labelstr" not in folders:
        raise DataError(
            f"{root}: there is imagesTr but no labelsTr; put the masks there, one ID.png for each ID_0000.png"
        )
    ending = described.get("file_ending")
    if isinstance(ending, str) and ending.lower() not in suffixes():
        raise DataError(f"{root / 'dataset.json'}: files of the kind '{ending}' are not read; images are {readable()}")
    labelled: list[Case] = []
    unlabelled: list[Case] = []
    orphans: list[Path] = []
    for images, labels, split in (("imagestr", "labelstr", None), ("imagests", "labelsts", "test")):
        if images not in folders:
            continue
        channels = _channels(folders[images])
        masks = {stem(path): path for path in image_paths(folders[labels])} if labels in folders else {}
        for name, files in channels.items():
            case = Case(name, files, masks.pop(name, None), None, split)
            (labelled if case.label else unlabelled).append(case)
        orphans += list(masks.values())
    if not labelled:
        left, right = (sorted(p.name for p in image_paths(folders[f]))[:2] for f in ("imagestr", "labelstr"))
        raise DataError(
            f"{root}: no image pairs with a label (imagesTr: {', '.join(left) or 'no images'}; labelsTr: "
            f"{', '.join(right) or 'no images'}); ID_0000.png in imagesTr belongs to ID.png in labelsTr"
        )
    regions = _regions(described, root / "dataset.json")
    names, ignore = _labels(described)
    return Discovery(
        root=root,
        layout="an nnU-Net raw folder (imagesTr/ + labelsTr/)",
        cases=tuple(sorted(labelled, key=lambda case: natural_key(case.id))),
        unlabelled_cases=tuple(sorted(unlabelled, key=lambda case: natural_key(case.id))),
        orphans=tuple(orphans),
        class_names={} if regions else names,
        ignore=ignore,
        regions=regions,
    )


def _dataset_json(root: Path) -> dict[str, Any]:
    path = root / "dataset.json"
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: this is not JSON ({error}); mend it, or remove it") from None
    if not isinstance(content, dict):
        raise DataError(f"{path}: this must be a JSON object with 'labels' and 'file_ending'; mend it, or remove it")
    return content


def _channels(folder: Path) -> dict[str, tuple[Path, ...]]:
    """Case → its channel files in order. Raises DataError where one case lacks a channel that another has."""
    files: dict[str, dict[int, Path]] = defaultdict(dict)
    for path in image_paths(folder):
        match = _CHANNEL.match(stem(path))
        name, channel = (match[1], int(match[2])) if match else (stem(path), 0)
        if channel in files[name]:
            raise DataError(f"{files[name][channel]} and {path}: 2 files for one channel of '{name}'; keep one of them")
        files[name][channel] = path
    known = sorted({channel for channels in files.values() for channel in channels})
    for name, channels in files.items():
        for channel in known:
            if channel not in channels:
                one = next(iter(channels.values()))
                wanted = one.with_name(f"{name}_{channel:04d}{suffix(one)}")
                raise DataError(f"{wanted}: this channel file is missing; other cases of {folder.name} have it")
    return {name: tuple(channels[c] for c in known) for name, channels in files.items()}


def _labels(described: dict[str, Any]) -> tuple[dict[int, str], int | None]:
    """(value → name, value of ignored pixels) of `labels`: {"name": 1}, or of old {"1": "name"}."""
    names: dict[int, str] = {}
    ignore = None
    labels = described.get("labels")
    for key, value in (labels if isinstance(labels, dict) else {}).items():
        if isinstance(value, int) and not isinstance(value, bool):
            if str(key).casefold() == "ignore":
                ignore = value
            else:
                names[value] = str(key)
        elif isinstance(value, str) and str(key).isdigit():
            names[int(key)] = value
    return dict(sorted(names.items())), ignore


def _regions(described: dict[str, Any], path: Path) -> tuple[GivenRegion, ...]:
    """The regions of `labels` where any is a list of values, {"whole tumour": [1, 2, 3]}; each writes its entry of
    `regions_class_order` over those before it. Raises DataError: lists of something else, an order that does not fit.
    """
    labels = described.get("labels")
    if not isinstance(labels, dict) or not any(isinstance(value, list) for value in labels.values()):
        return ()
    found: dict[str, tuple[int, ...]] = {}
    for name, value in labels.items():
        codes = tuple(value) if isinstance(value, list) else (value,)
        if not codes or not all(isinstance(code, int) and not isinstance(code, bool) for code in codes):
            raise DataError(f"{path}: the label '{name}' is {value!r}; a region is a list of whole numbers")
        if codes != (0,) and str(name).casefold() != "ignore":
            found[str(name)] = codes
    order = described.get("regions_class_order")
    if not isinstance(order, list) or len(order) != len(found) or not all(isinstance(v, int) for v in order):
        raise DataError(
            f"{path}: there are {len(found)} regions ({', '.join(found)}), and regions_class_order is {order!r}; give "
            "one whole number for each: what is written where it is the last of the regions"
        )
    return tuple(GivenRegion(name, codes, value) for (name, codes), value in zip(found.items(), order, strict=True))
