"""Every loss beside its formula, written out pixel by pixel: classes and regions, one to three axes, some pixels
ignored (and, for the losses that smp has too, its definition)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor

from unetkit.losses import make_loss

SHAPES = [(9,), (5, 6), (3, 4, 5)]
KINDS = pytest.mark.parametrize("regions", [False, True])
SPACES = pytest.mark.parametrize("space", SHAPES)


def example(space: tuple[int, ...], regions: bool = False, classes: int = 3, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Logits (2, K, *space) and a label; a fifth is ignored."""
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(2, classes, *space, generator=generator, dtype=torch.float64)
    most = 1 << classes if regions else classes
    label = torch.randint(0, most, (2, *space), generator=generator, dtype=torch.uint8)
    label[torch.rand(label.shape, generator=generator) < 0.2] = 255
    return logits, label


def blobs(space: tuple[int, ...], regions: bool = False, classes: int = 3, seed: int = 0) -> tuple[Tensor, Tensor]:
    """As `example`, with areas rather than single pixels."""
    logits, label = example(space, regions, classes, seed)
    smooth = ndimage.gaussian_filter(
        np.random.default_rng(seed).random((2, classes, *space)), (0, 0, *(1,) * len(space))
    )
    if regions:
        values = ((smooth > 0.5) << np.arange(classes).reshape(1, -1, *(1,) * len(space))).sum(1)
    else:
        values = smooth.argmax(1)
    return logits, torch.where(label == 255, label, torch.from_numpy(values).to(torch.uint8))


def pixels(label: Tensor) -> Iterator[tuple[int, ...]]:
    """Where something is known."""
    return (i for i in itertools.product(*(range(n) for n in label.shape)) if int(label[i]) != 255)


def probabilities(logits: Tensor, at: tuple[int, ...], regions: bool) -> list[float]:
    z = [float(logits[(at[0], k, *at[1:])]) for k in range(logits.shape[1])]
    if regions:
        return [1 / (1 + math.exp(-v)) for v in z]
    return [math.exp(v) / sum(math.exp(w) for w in z) for v in z]


def truth(label: Tensor, at: tuple[int, ...], classes: int, regions: bool) -> list[int]:
    y = int(label[at])
    return [y >> k & 1 if regions else int(y == k) for k in range(classes)]


def areas(logits: Tensor, label: Tensor, regions: bool, power: int = 1) -> list[list[list[float]]]:
    """[I, P, T] of every class in every image."""
    batch, classes = logits.shape[:2]
    found = [[[0.0, 0.0, 0.0] for _ in range(classes)] for _ in range(batch)]
    for at in pixels(label):
        p, t = probabilities(logits, at, regions), truth(label, at, classes, regions)
        for k in range(classes):
            found[at[0]][k][0] += p[k] * t[k]
            found[at[0]][k][1] += p[k] ** power
            found[at[0]][k][2] += t[k]
    return found


def overlap(name: str, of: list[float], s: float, **kw: float) -> float:
    both, predicted, true = of
    if name == "dice":
        return 1 - (2 * both + s) / (predicted + true + s)
    if name == "jaccard":
        return 1 - (both + s) / (predicted + true - both + s)
    missed = 1 - (both + s) / (both + kw["alpha"] * (predicted - both) + kw["beta"] * (true - both) + s)
    return missed ** kw.get("gamma", 1.0)


@KINDS
@SPACES
@pytest.mark.parametrize(
    ("expression", "name", "parameters"),
    [
        ("dice", "dice", {}),
        ("dice(squared=true, smooth=0.5)", "dice", {"s": 0.5, "power": 2}),
        ("jaccard", "jaccard", {}),
        ("jaccard(squared=true)", "jaccard", {"power": 2}),
        ("tversky", "tversky", {"alpha": 0.3, "beta": 0.7}),
        ("tversky(alpha=0.9, beta=0.2, smooth=1)", "tversky", {"alpha": 0.9, "beta": 0.2, "s": 1}),
        ("focal_tversky", "tversky", {"alpha": 0.3, "beta": 0.7, "gamma": 0.75}),
        ("focal_tversky(gamma=2)", "tversky", {"alpha": 0.3, "beta": 0.7, "gamma": 2}),
    ],
)
def test_losses_of_overlap(
    space: tuple[int, ...], regions: bool, expression: str, name: str, parameters: dict[str, float]
) -> None:
    """Over the batch, and of each image for itself; over the classes that occur, and all."""
    logits, label = example(space, regions)
    label[0][(label[0] == 2) | (label[0] >= 4) & (label[0] < 255)] = 0  # something occurs in the second image only
    kw = {"s": 1e-5, **parameters}
    each = areas(logits, label, regions, int(kw.pop("power", 1)))
    batch = [[sum(image[k][i] for image in each) for i in range(3)] for k in range(3)]

    def mean(groups: list[list[list[float]]], chosen: tuple[int, ...], absent: bool) -> float:
        values = [overlap(name, g[k], **kw) for g in groups for k in chosen if absent or g[k][2] > 0]
        return sum(values) / len(values)

    def ours(*more: str) -> float:
        text = (
            expression if not more else f"{expression.rstrip(')')}{',' if '(' in expression else '('}{','.join(more)})"
        )
        return float(make_loss(text, 3, regions=regions)(logits, label))

    assert ours() == pytest.approx(mean([batch], (0, 1, 2), False), rel=1e-10)
    assert ours("image=true") == pytest.approx(mean(each, (0, 1, 2), False), rel=1e-10)
    assert ours("image=true", "absent=true") == pytest.approx(mean(each, (0, 1, 2), True), rel=1e-10)
    if not regions:
        assert ours("background=false") == pytest.approx(mean([batch], (1, 2), False), rel=1e-10)


@KINDS
@SPACES
@pytest.mark.parametrize("power", [0, 1, 2])
def test_generalised_dice(space: tuple[int, ...], regions: bool, power: int) -> None:
    logits, label = example(space, regions)
    batch = [[sum(image[k][i] for image in areas(logits, label, regions)) for i in range(3)] for k in range(3)]
    least = min(t for _, _, t in batch)
    weights = [(least / t) ** power for _, _, t in batch]
    above = 2 * sum(w * a[0] for w, a in zip(weights, batch, strict=True)) + 1e-5
    below = sum(w * (a[1] + a[2]) for w, a in zip(weights, batch, strict=True)) + 1e-5
    ours = make_loss(f"gdice(power={power})", 3, regions=regions)(logits, label)
    assert float(ours) == pytest.approx(1 - above / below, rel=1e-10)


@KINDS
@SPACES
@pytest.mark.parametrize("weights", [None, [0.5, 2.0, 1.0]])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_cross_entropy(space: tuple[int, ...], regions: bool, weights: list[float] | None, smoothing: float) -> None:
    logits, label = example(space, regions)
    w = weights or [1.0] * 3
    above = below = 0.0
    for at in pixels(label):
        p, t = probabilities(logits, at, regions), truth(label, at, 3, regions)
        for k in range(3):
            if regions:
                soft = t[k] * (1 - smoothing) + smoothing / 2
                above -= w[k] * soft * math.log(p[k]) + (1 - soft) * math.log(1 - p[k])
                below += 1
            else:
                above -= w[k] * (t[k] * (1 - smoothing) + smoothing / 3) * math.log(p[k])
                below += w[k] * t[k]
    ours = make_loss(f"ce(smoothing={smoothing})", 3, weights, regions=regions)(logits, label)
    assert float(ours) == pytest.approx(above / below, rel=1e-10)


@KINDS
@SPACES
@pytest.mark.parametrize("weights", [None, [0.5, 2.0, 1.0]])
@pytest.mark.parametrize(("gamma", "alpha"), [(2.0, None), (0.5, None), (2.0, 0.25)])
def test_focal(
    space: tuple[int, ...], regions: bool, weights: list[float] | None, gamma: float, alpha: float | None
) -> None:
    logits, label = example(space, regions)
    w = weights or [1.0] * 3
    above = below = 0.0
    for at in pixels(label):
        p, t = probabilities(logits, at, regions), truth(label, at, 3, regions)
        for k in range(3):
            if regions:
                q = p[k] if t[k] else 1 - p[k]
                share = 1.0 if alpha is None else alpha if t[k] else 1 - alpha
                above -= (w[k] if t[k] else 1) * share * (1 - q) ** gamma * math.log(q)
                below += 1
            elif t[k]:
                share = 1.0 if alpha is None else alpha if k > 0 else 1 - alpha
                above -= w[k] * share * (1 - p[k]) ** gamma * math.log(p[k])
                below += w[k]
    text = f"focal(gamma={gamma}, alpha={'none' if alpha is None else alpha})"
    assert float(make_loss(text, 3, weights, regions=regions)(logits, label)) == pytest.approx(above / below, rel=1e-9)


def jaccard_loss(wrong: set[int], true: set[int]) -> float:
    """1 − |truth without the wrong| / |truth and the wrong| (Berman 2018)."""
    union = true | wrong
    return len(wrong) / len(union) if union else 0.0


@KINDS
@SPACES
@pytest.mark.parametrize("image", [False, True])
def test_lovasz(space: tuple[int, ...], regions: bool, image: bool) -> None:
    """Pixels become wrong in the order of their errors, and each costs by how much the Jaccard loss grows."""
    logits, label = example(space, regions)
    label[0][(label[0] == 2) | (label[0] >= 4) & (label[0] < 255)] = 0
    known = list(pixels(label))
    groups = [[at for at in known if at[0] == b] for b in range(2)] if image else [known]
    values = []
    for group, k in itertools.product(groups, range(3)):
        t = [truth(label, at, 3, regions)[k] for at in group]
        if regions:
            z = [float(logits[(at[0], k, *at[1:])]) for at in group]
            errors = [max(0.0, 1 - v * (2 * y - 1)) for v, y in zip(z, t, strict=True)]
        else:
            errors = [abs(y - probabilities(logits, at, False)[k]) for at, y in zip(group, t, strict=True)]
        if not any(t):
            continue
        true, wrong, total, before = {i for i, y in enumerate(t) if y}, set(), 0.0, 0.0
        for i in sorted(range(len(group)), key=lambda i: -errors[i]):
            wrong = wrong | {i}
            after = jaccard_loss(wrong, true)
            total, before = total + errors[i] * (after - before), after
        values.append(total)
    ours = make_loss(f"lovasz(image={str(image).lower()})", 3, regions=regions)(logits, label)
    assert float(ours) == pytest.approx(sum(values) / len(values), rel=1e-9)


def distance(at: tuple[int, ...], others: list[tuple[int, ...]], spacing: tuple[float, ...]) -> float:
    return min(math.hypot(*((a - b) * s for a, b, s in zip(at, o, spacing, strict=True))) for o in others)


@KINDS
@SPACES
@pytest.mark.parametrize("name", ["boundary", "hausdorff(alpha=1.5)"])
def test_losses_of_distance(space: tuple[int, ...], regions: bool, name: str) -> None:
    """With voxels that are twice as long along the first axis, and on a grid whose pixels are 3 of the full one."""
    logits, label = blobs(space, regions, seed=3)
    spacing = (2.0, 1.0, 1.0)[: len(space)]
    lengths = tuple(3 * s for s in spacing)
    chosen = (0, 1, 2) if regions else (1, 2)
    everywhere = list(itertools.product(*(range(n) for n in space)))
    total = count = 0.0
    for b, k in itertools.product(range(2), chosen):
        known = {at: truth(label, (b, *at), 3, regions)[k] for at in everywhere if int(label[(b, *at)]) != 255}
        inside, outside = [at for at, t in known.items() if t], [at for at, t in known.items() if not t]
        p = {at: probabilities(logits, (b, *at), regions)[k] for at in everywhere}
        found, not_found = [at for at in everywhere if p[at] > 0.5], [at for at in everywhere if p[at] <= 0.5]
        for at, t in known.items():
            far = distance(at, outside if t else inside, lengths) if inside and outside else 0.0
            reach = distance(at, not_found if p[at] > 0.5 else found, lengths) if found and not_found else 0.0
            if name == "boundary":
                phi = (min(lengths) - far if t else far) if inside and outside else 0.0
                total += phi * p[at]
            else:
                total += (p[at] - t) ** 2 * (far**1.5 + reach**1.5)
            count += 1
    loss = make_loss(name, 3, regions=regions, spacing=spacing)
    assert float(loss(logits, label, 1.0, (3,) * len(space))) == pytest.approx(total / count, rel=1e-9)


@KINDS
@SPACES
@pytest.mark.parametrize("image", [False, True])
def test_cldice(space: tuple[int, ...], regions: bool, image: bool) -> None:
    """Least and largest of the neighbours that there are, for every pixel."""
    logits, label = blobs(space, regions, seed=2)
    chosen = (0, 1, 2) if regions else (1, 2)
    everywhere = list(itertools.product(*(range(n) for n in space)))

    def near(at: tuple[int, ...], corners: bool) -> list[tuple[int, ...]]:
        steps = [s for s in itertools.product((-1, 0, 1), repeat=len(space)) if corners or sum(map(abs, s)) <= 1]
        return [n for s in steps if (n := tuple(a + b for a, b in zip(at, s, strict=True))) in set(everywhere)]

    def skeleton(x: dict[tuple[int, ...], float]) -> dict[tuple[int, ...], float]:
        line: dict[tuple[int, ...], float] = dict.fromkeys(everywhere, 0.0)
        for _ in range(3):
            eroded = {at: min(x[n] for n in near(at, False)) for at in everywhere}
            opened = {at: max(eroded[n] for n in near(at, True)) for at in everywhere}
            more = {at: max(0.0, x[at] - opened[at]) for at in everywhere}
            line = {at: line[at] + max(0.0, more[at] - line[at] * more[at]) for at in everywhere}
            x = eroded
        return line

    each = {}
    for b, k in itertools.product(range(2), chosen):
        known = {at: int(label[(b, *at)]) != 255 for at in everywhere}
        t = {at: float(truth(label, (b, *at), 3, regions)[k]) if known[at] else 0.0 for at in everywhere}
        p = {at: probabilities(logits, (b, *at), regions)[k] * known[at] for at in everywhere}
        sp, st = skeleton(p), skeleton(t)
        each[b, k] = [
            sum(sp[a] * t[a] for a in everywhere), sum(sp.values()),
            sum(st[a] * p[a] for a in everywhere), sum(st.values()), sum(t.values()),
        ]  # fmt: skip
    groups = [[0], [1]] if image else [[0, 1]]
    values = []
    for group, k in itertools.product(groups, chosen):
        a, b_, c, d, size = (sum(each[b, k][i] for b in group) for i in range(5))
        precision, sensitivity = (a + 1) / (b_ + 1), (c + 1) / (d + 1)
        if size:
            values.append(1 - 2 * precision * sensitivity / (precision + sensitivity))
    ours = make_loss(f"cldice(iterations=2, image={str(image).lower()})", 3, regions=regions)(logits, label)
    assert float(ours) == pytest.approx(sum(values) / len(values), rel=1e-9)


@pytest.mark.parametrize("space", [(19,), (9, 8), (4, 4, 5)])
@pytest.mark.parametrize(("regions", "border"), [(False, None), (False, 2), (True, None)])
def test_weight_map_of_2015(space: tuple[int, ...], regions: bool, border: int | None) -> None:
    """Distances to every cell by itself; the two least go into the exponent. Balanced by the shares of the classes."""
    logits, label = blobs(space, regions, seed=5)
    everywhere = list(itertools.product(*(range(n) for n in space)))
    spacing = (2.0, 1.0, 1.0)[: len(space)]
    above = below = 0.0
    known = list(pixels(label))
    for k in range(3) if regions else (None,):
        size = [sum(truth(label, at, 3, regions)[j] for at in known) for j in range(3)]
        for b in range(2):
            values = label[b].numpy()
            if k is not None:
                cells = (values != 255) & (values >> k & 1 == 1)
            else:
                cells = (values == 1) | ((values == 2) & (border != 2))
            numbers, n = ndimage.label(cells)
            places = [[at for at in everywhere if numbers[at] == c] for c in range(1, n + 1)]
            for at in everywhere:
                if int(values[at]) == 255:
                    continue
                p, t = probabilities(logits, (b, *at), regions), truth(label, (b, *at), 3, regions)
                d = sorted(distance(at, place, spacing) for place in places)
                between = 10 * math.exp(-((d[0] + d[1]) ** 2) / (2 * 1.5**2)) if n > 1 and not cells[at] else 0.0
                if k is None:
                    y = t.index(1)
                    share = len(known) / (sum(s > 0 for s in size) * size[y])
                    q = p[y]
                else:
                    share = len(known) / (2 * (size[k] if t[k] else len(known) - size[k]))
                    q = p[k] if t[k] else 1 - p[k]
                above, below = above - (share + between) * math.log(q), below + share + between
    loss = make_loss("border_ce(sigma=1.5)", 3, regions=regions, cells=() if border is None else (1,), spacing=spacing)
    assert float(loss(logits, label)) == pytest.approx(above / below, rel=1e-4)


@pytest.mark.parametrize("classes", [2, 3])
def test_the_formulas_of_smp(classes: int) -> None:
    """segmentation_models_pytorch 0.5, its arithmetic written out, on a label that is known everywhere."""
    logits, label = example((6, 7), classes=classes)
    label[label == 255] = 0
    p = logits.softmax(1)
    t = torch.nn.functional.one_hot(label.long(), classes).movedim(-1, 1).double()
    dims, eps = (0, 2, 3), 1e-7
    both, total = (p * t).sum(dims), (p + t).sum(dims)

    def of(text: str) -> Tensor:
        return make_loss(text, classes)(logits, label)

    torch.testing.assert_close(of("dice(smooth=1e-12)"), (1 - 2 * both / total.clamp_min(eps)).mean())
    torch.testing.assert_close(of("jaccard(smooth=1e-12)"), (1 - both / (total - both).clamp_min(eps)).mean())
    missed, wrong = (t * (1 - p)).sum(dims), (p * (1 - t)).sum(dims)
    score = both / (both + 0.3 * wrong + 0.6 * missed).clamp_min(eps)
    torch.testing.assert_close(of("tversky(alpha=0.3, beta=0.6, smooth=1e-12)"), (1 - score).mean())
    torch.testing.assert_close(
        of("focal_tversky(alpha=0.3, beta=0.6, gamma=1.4, smooth=1e-12)"), ((1 - score) ** 1.4).mean()
    )
