"""Losses against naive loops, by numerical gradients, at the edges (nothing labelled, empty, full), and error texts."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

from unetkit.core.errors import PlanError
from unetkit.losses import cross_entropy, dice, make_loss, parse_loss, region_cross_entropy, region_dice

SHAPES = [(7,), (5, 6), (3, 4, 5)]


def example(space: tuple[int, ...], classes: int = 3, batch: int = 2, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(batch, classes, *space, generator=generator, dtype=torch.float64)
    label = torch.randint(0, classes, (batch, *space), generator=generator, dtype=torch.uint8)
    label[torch.rand(label.shape, generator=generator) < 0.2] = 255
    return logits, label


def naive(logits: Tensor, label: Tensor, weights: list[float] | None = None) -> tuple[float, float]:
    """Cross-entropy and Dice loss, pixel by pixel as the formulas say."""
    classes = logits.shape[1]
    nll = weight = 0.0
    overlap, predicted, truth = [0.0] * classes, [0.0] * classes, [0] * classes
    for index in itertools.product(*(range(n) for n in label.shape)):
        y = int(label[index])
        if y == 255:
            continue
        values = [float(logits[(index[0], k, *index[1:])]) for k in range(classes)]
        total = sum(math.exp(v) for v in values)
        p = [math.exp(v) / total for v in values]
        w = 1.0 if weights is None else weights[y]
        nll, weight = nll - w * math.log(p[y]), weight + w
        overlap[y] += p[y]
        truth[y] += 1
        predicted = [a + b for a, b in zip(predicted, p, strict=True)]
    scores = [(2 * overlap[k] + 1e-5) / (predicted[k] + truth[k] + 1e-5) for k in range(classes) if truth[k]]
    return (nll / weight if weight else 0.0), (1 - sum(scores) / len(scores) if scores else 0.0)


@pytest.mark.parametrize("space", SHAPES)
@pytest.mark.parametrize("classes", [1, 2, 5])
def test_equal_to_the_naive_loop(space: tuple[int, ...], classes: int) -> None:
    logits, label = example(space, classes)
    ce, soft = naive(logits, label)
    assert float(cross_entropy(logits, label)) == pytest.approx(ce, rel=1e-12, abs=1e-12)
    assert float(dice(logits, label)) == pytest.approx(soft, rel=1e-12, abs=1e-12)


def test_class_weights_act_on_cross_entropy_as_in_torch() -> None:
    logits, label = example((5, 6))
    weights = [0.5, 2.0, 1.0]
    ours = make_loss("ce", 3, weights)(logits, label)
    torchs = torch.nn.functional.cross_entropy(
        logits, label.long(), torch.tensor(weights, dtype=torch.float64), ignore_index=255
    )
    assert float(ours) == pytest.approx(naive(logits, label, weights)[0], rel=1e-12)
    torch.testing.assert_close(ours, torchs)


@pytest.mark.parametrize("expression", ["ce", "dice", "0.3*ce + 2*dice"])
@pytest.mark.parametrize("weights", [None, [0.5, 2.0, 1.0]])
def test_gradient_is_the_numerical_one(expression: str, weights: list[float] | None) -> None:
    logits, label = example((3, 4))
    loss = make_loss(expression, 3, weights)
    assert torch.autograd.gradcheck(lambda x: loss(x, label), (logits.requires_grad_(),))


@pytest.mark.parametrize("expression", ["ce", "dice", "ce + dice"])
def test_gradient_in_float32_equals_torch_autograd(expression: str) -> None:
    logits, label = example((16, 17))
    logits = logits.float()

    def plain(x: Tensor) -> Tensor:
        p = x.softmax(1)
        valid = (label != 255)[:, None].float()
        onehot = torch.stack([label == k for k in range(3)], 1).float()
        scores = (2 * (p * onehot).sum((0, 2, 3)) + 1e-5) / ((p * valid).sum((0, 2, 3)) + onehot.sum((0, 2, 3)) + 1e-5)
        terms = {"ce": torch.nn.functional.cross_entropy(x, label.long(), ignore_index=255), "dice": 1 - scores.mean()}
        return torch.stack([terms[name] for name in expression.split(" + ")]).sum()

    a, b = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    ours, theirs = make_loss(expression, 3)(a, label), plain(b)
    ours.backward()
    theirs.backward()
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(a.grad, b.grad, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("classes", [1, 2, 3])
def test_nothing_labelled_gives_zero_and_no_gradient(dtype: torch.dtype, classes: int) -> None:
    logits = torch.randn(2, classes, 4, 5, generator=torch.Generator().manual_seed(1)).to(dtype).requires_grad_()
    loss = make_loss("ce + dice", classes)(logits, torch.full((2, 4, 5), 255, dtype=torch.uint8))
    loss.backward()
    assert float(loss.detach()) == 0
    assert logits.grad is not None
    assert float(logits.grad.abs().max()) == 0


def test_ignored_pixels_get_no_gradient() -> None:
    logits, label = example((5, 6))
    logits.requires_grad_()
    make_loss("ce + dice", 3)(logits, label).backward()
    assert logits.grad is not None
    assert float(logits.grad.abs().amax(1)[label == 255].max()) == 0
    assert float(logits.grad.abs().amax(1)[label != 255].min()) > 0


@pytest.mark.parametrize("value", [0, 1])
def test_empty_and_full_targets(value: int) -> None:
    """Only class `value` occurs: right and sure costs 0, wrong and sure 1, and training moves towards it."""
    label = torch.full((1, 6, 6), value, dtype=torch.uint8)
    right = torch.zeros(1, 2, 6, 6)
    right[:, value] = 50
    assert float(dice(right, label)) == pytest.approx(0, abs=1e-6)
    assert float(dice(-right, label)) == pytest.approx(1, abs=1e-6)
    assert float(cross_entropy(right, label)) == pytest.approx(0, abs=1e-6)
    logits = torch.zeros(1, 2, 6, 6, requires_grad=True)
    make_loss("dice", 2)(logits, label).backward()
    assert logits.grad is not None
    assert bool((logits.grad[:, value] < 0).all())


def test_bf16_logits_cost_what_their_float32_values_cost() -> None:
    logits, label = example((32, 33))
    half = logits.to(torch.bfloat16)
    loss = make_loss("ce + dice", 3)
    exact = half.float().requires_grad_()
    half = half.contiguous(memory_format=torch.channels_last).requires_grad_()
    a, b = loss(half, label), loss(exact, label)
    assert a.dtype == torch.float32
    torch.testing.assert_close(a, b)
    a.backward()
    b.backward()
    assert half.grad is not None
    assert exact.grad is not None
    assert half.grad.dtype == torch.bfloat16
    torch.testing.assert_close(half.grad, exact.grad.to(torch.bfloat16))


def test_uint8_and_int64_labels_and_any_memory_layout_agree() -> None:
    logits, label = example((8, 9))
    loss = make_loss("ce + dice", 3)
    expected = loss(logits, label)
    torch.testing.assert_close(loss(logits, label.long()), expected)
    torch.testing.assert_close(loss(logits.contiguous(memory_format=torch.channels_last), label), expected)
    torch.testing.assert_close(loss(logits.transpose(2, 3), label.transpose(1, 2)), expected)


def test_sums_in_an_expression() -> None:
    logits, label = example((5, 6))
    ce, soft = cross_entropy(logits, label), dice(logits, label)
    torch.testing.assert_close(make_loss("0.5*ce + 1e+1 * dice", 3)(logits, label), 0.5 * ce + 10 * soft)
    assert parse_loss(" ce+ 0.25 *dice ") == ((1.0, "ce"), (0.25, "dice"))


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("ce + dise", "loss 'ce + dise': there is no loss 'dise'; the losses are ce, dice; did you mean 'dice'?"),
        ("focal", "loss 'focal': there is no loss 'focal'; the losses are ce, dice"),
        (
            "ce + ",
            "loss 'ce + ': cannot read the term ''; write a sum like 'ce + dice' or '0.5*ce + dice'; "
            "the losses are ce, dice",
        ),
        ("x*ce", "loss 'x*ce': the weight 'x' is not a positive number"),
        ("-1*ce", "loss '-1*ce': the weight '-1' is not a positive number"),
        ("nan*ce", "loss 'nan*ce': the weight 'nan' is not a positive number"),
        ("0*ce + dice", "loss '0*ce + dice': the weight '0' is not a positive number"),
    ],
)
def test_an_unreadable_expression_is_refused(expression: str, message: str) -> None:
    with pytest.raises(PlanError) as caught:
        make_loss(expression, 2)
    assert str(caught.value) == message


@pytest.mark.parametrize("weights", [[1.0], [1.0, -1.0], [0.0, 0.0], [1.0, math.inf]])
def test_class_weights_that_do_not_fit_are_refused(weights: list[float]) -> None:
    with pytest.raises(PlanError) as caught:
        make_loss("ce", 2, weights)
    assert str(caught.value) == f"class weights {weights}: 2 classes need 2 numbers, none negative and not all 0"


def test_shapes_and_labels_that_do_not_fit_are_refused() -> None:
    logits = torch.zeros(1, 2, 4, 4)
    with pytest.raises(
        ValueError, match=r"logits \(1, 2, 4, 4\) need a label of shape \(B, \*space\), not \(1, 4, 5\)"
    ):
        dice(logits, torch.zeros(1, 4, 5, dtype=torch.uint8))
    with pytest.raises(ValueError, match=r"label 7 found; 2 classes allow 0 … 1, and 255 for unlabelled"):
        dice(logits, torch.full((1, 4, 4), 7, dtype=torch.uint8))
    with pytest.raises(ValueError, match=r"2 classes need 2 weights, not \(3,\)"):
        cross_entropy(logits, torch.zeros(1, 4, 4, dtype=torch.uint8), torch.ones(3))


def overlapping(space: tuple[int, ...], regions: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Logits, and bit masks in which regions overlap; a fifth is unlabelled."""
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(2, regions, *space, generator=generator, dtype=torch.float64)
    label = torch.randint(0, 1 << regions, (2, *space), generator=generator, dtype=torch.uint8)
    label[torch.rand(label.shape, generator=generator) < 0.2] = 255
    return logits, label


def naive_regions(logits: Tensor, label: Tensor, weights: list[float] | None = None) -> tuple[float, float]:
    """Binary cross-entropy and Dice loss of every region, pixel by pixel."""
    regions = logits.shape[1]
    nll = asked = 0.0
    overlap, predicted, truth = [0.0] * regions, [0.0] * regions, [0] * regions
    for index in itertools.product(*(range(n) for n in label.shape)):
        if int(label[index]) == 255:
            continue
        for k in range(regions):
            p = 1 / (1 + math.exp(-float(logits[(index[0], k, *index[1:])])))
            inside = bool(int(label[index]) & 1 << k)
            w = 1.0 if weights is None else weights[k]
            nll, asked = nll - (w * math.log(p) if inside else math.log(1 - p)), asked + 1
            overlap[k] += p * inside
            truth[k] += inside
            predicted[k] += p
    scores = [(2 * overlap[k] + 1e-5) / (predicted[k] + truth[k] + 1e-5) for k in range(regions) if truth[k]]
    return (nll / asked if asked else 0.0), (1 - sum(scores) / len(scores) if scores else 0.0)


@pytest.mark.parametrize("space", SHAPES)
@pytest.mark.parametrize("regions", [1, 3, 7])
def test_regions_equal_the_naive_loop(space: tuple[int, ...], regions: int) -> None:
    logits, label = overlapping(space, regions)
    ce, soft = naive_regions(logits, label)
    assert float(region_cross_entropy(logits, label)) == pytest.approx(ce, rel=1e-11, abs=1e-12)
    assert float(region_dice(logits, label)) == pytest.approx(soft, rel=1e-11, abs=1e-12)
    both = make_loss("ce + 0.5*dice", regions, regions=True)(logits, label)
    assert float(both) == pytest.approx(ce + 0.5 * soft, rel=1e-11)


def test_weights_of_regions_are_those_of_their_own_pixels() -> None:
    logits, label = overlapping((5, 6), 3)
    weights = [0.5, 2.0, 4.0]
    ours = make_loss("ce", 3, weights, regions=True)(logits, label)
    assert float(ours) == pytest.approx(naive_regions(logits, label, weights)[0], rel=1e-11)
    label[label == 255] = 0
    target = torch.stack([(label >> k & 1).double() for k in range(3)], 1)
    pos_weight = torch.tensor(weights, dtype=torch.float64)[:, None, None]
    torchs = torch.nn.functional.binary_cross_entropy_with_logits(logits, target, pos_weight=pos_weight)
    torch.testing.assert_close(make_loss("ce", 3, weights, regions=True)(logits, label), torchs)


@pytest.mark.parametrize("expression", ["ce", "dice", "0.3*ce + 2*dice"])
@pytest.mark.parametrize("weights", [None, [0.5, 2.0, 1.0]])
def test_gradient_of_regions_is_the_numerical_one(expression: str, weights: list[float] | None) -> None:
    logits, label = overlapping((3, 4), 3)
    loss = make_loss(expression, 3, weights, regions=True)
    assert torch.autograd.gradcheck(lambda x: loss(x, label), (logits.requires_grad_(),))


def test_ignored_pixels_of_regions_get_no_gradient_and_nothing_labelled_costs_nothing() -> None:
    logits, label = overlapping((5, 6), 3)
    logits.requires_grad_()
    loss = make_loss("ce + dice", 3, regions=True)
    loss(logits, label).backward()
    assert logits.grad is not None
    assert float(logits.grad.abs().amax(1)[label == 255].max()) == 0
    assert float(logits.grad.abs().amax(1)[label != 255].min()) > 0
    half = logits.detach().to(torch.bfloat16).requires_grad_()
    nothing = loss(half, torch.full_like(label, 255))
    nothing.backward()
    assert half.grad is not None
    assert (float(nothing.detach()), float(half.grad.abs().max())) == (0, 0)


def test_regions_in_bf16_and_int64_cost_the_same() -> None:
    logits, label = overlapping((16, 17), 4)
    loss = make_loss("ce + dice", 4, regions=True)
    half = logits.to(torch.bfloat16).contiguous(memory_format=torch.channels_last).requires_grad_()
    exact = half.detach().float().requires_grad_()
    a, b = loss(half, label), loss(exact, label.long())
    torch.testing.assert_close(a, b)
    a.backward()
    b.backward()
    assert half.grad is not None
    assert exact.grad is not None
    torch.testing.assert_close(half.grad, exact.grad.to(torch.bfloat16))


def test_a_sure_region_costs_nothing_and_a_wrong_one_stays_finite() -> None:
    logits = torch.full((1, 2, 4, 4), 200.0, requires_grad=True)
    loss = make_loss("ce + dice", 2, regions=True)
    assert float(loss(logits, torch.full((1, 4, 4), 3, dtype=torch.uint8)).detach()) == pytest.approx(0, abs=1e-6)
    wrong = loss(logits, torch.zeros(1, 4, 4, dtype=torch.uint8))
    assert float(wrong.detach()) == pytest.approx(200, rel=1e-3)


def test_bit_masks_that_do_not_fit_are_refused() -> None:
    label = torch.full((1, 4, 4), 8, dtype=torch.uint8)
    with pytest.raises(ValueError, match="label 8 found; the bit masks of 3 regions are 0 … 7, and 255 for unlabelled"):
        region_dice(torch.zeros(1, 3, 4, 4), label)
    with pytest.raises(ValueError, match="holds 7 regions and the unlabelled pixels, not 8 regions"):
        region_dice(torch.zeros(1, 8, 4, 4), label)
