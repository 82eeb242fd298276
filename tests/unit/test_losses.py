"""What every loss promises: numerical gradients, nothing from ignored pixels, edges (nothing labelled, empty, full,
tiny), any type and layout of the logits; sums with weights; and the texts of refusals."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from unetkit.core.errors import PlanError
from unetkit.losses import LOSSES, Term, make_loss, parse_loss

SHAPES = [(7,), (5, 6), (3, 4, 5)]
NAMES = pytest.mark.parametrize("name", LOSSES)
KINDS = pytest.mark.parametrize("regions", [False, True])
KNOWN = f"the losses are {', '.join(LOSSES)} (`unetkit plan --losses` explains them)"


def example(space: tuple[int, ...], regions: bool = False, classes: int = 3, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Logits (2, K, *space) in float64 and a label, of which a fifth is ignored."""
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(2, classes, *space, generator=generator, dtype=torch.float64)
    most = 1 << classes if regions else classes
    label = torch.randint(0, most, (2, *space), generator=generator, dtype=torch.uint8)
    label[torch.rand(label.shape, generator=generator) < 0.2] = 255
    return logits, label


def value_and_gradient(loss, logits: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[no-untyped-def]
    logits = logits.detach().clone().requires_grad_()
    value = loss(logits, label)
    (gradient,) = torch.autograd.grad(value, logits)
    return value.detach(), gradient


VARIANTS = [
    *LOSSES, "0.3*ce + 2*dice", "ce(smoothing=0.2)", "focal(gamma=0.5)", "dice(image=true, squared=true)",
    "jaccard(image=true, absent=true)", "focal_tversky(gamma=2)", "gdice(image=true)", "lovasz(image=true)",
]  # fmt: skip


@KINDS
@pytest.mark.parametrize("expression", VARIANTS)
@pytest.mark.parametrize("weights", [None, [0.5, 2.0, 1.0]])
def test_gradient_is_the_numerical_one(expression: str, weights: list[float] | None, regions: bool) -> None:
    logits, label = example((3, 4), regions)
    loss = make_loss(expression, 3, weights, regions=regions)
    assert torch.autograd.gradcheck(lambda x: loss(x, label), (logits.requires_grad_(),))


@KINDS
@NAMES
def test_ignored_pixels_are_as_if_they_were_not_there(name: str, regions: bool) -> None:
    logits, label = example((6, 7), regions)
    loss = make_loss(name, 3, regions=regions)
    value, gradient = value_and_gradient(loss, logits, label)
    assert float(gradient.abs().amax(1)[label == 255].max()) == 0
    assert float(gradient.abs().max()) > 0
    if name != "hausdorff":  # whose prediction is known there too, and so is its border
        changed = torch.where((label == 255)[:, None], logits.flip(1) + 1, logits)
        torch.testing.assert_close(loss(changed, label), value)


@KINDS
@NAMES
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_nothing_labelled_gives_zero_and_no_gradient(name: str, regions: bool, dtype: torch.dtype) -> None:
    for space in SHAPES:
        logits = example(space, regions)[0].to(dtype)
        label = torch.full((2, *space), 255, dtype=torch.uint8)
        value, gradient = value_and_gradient(make_loss(name, 3, regions=regions), logits, label)
        assert (float(value), float(gradient.abs().max())) == (0, 0)


@KINDS
@NAMES
def test_empty_full_and_tiny_targets_have_a_loss_and_a_gradient(name: str, regions: bool) -> None:
    """As the coarsest results of deep supervision have them: down to a single pixel."""
    loss = make_loss(name, 2, regions=regions)
    for space in [(1,), (1, 1), (2, 1), (1, 1, 1), (4,), (3, 3), (2, 3, 2)]:
        logits = torch.randn(1, 2, *space, generator=torch.Generator().manual_seed(0))
        for value in range(4 if regions else 2):
            label = torch.full((1, *space), value, dtype=torch.uint8)
            for scale in (1, 100):
                found, gradient = value_and_gradient(loss, scale * logits, label)
                assert bool(torch.isfinite(found)), (space, value)
                assert bool(torch.isfinite(gradient).all()), (space, value)


@KINDS
@NAMES
def test_right_and_sure_is_best(name: str, regions: bool) -> None:
    """Training moves from the wrong answer to the right one; right and sure costs nothing (of boundary: the least)."""
    label = torch.zeros(1, 12, 12, dtype=torch.uint8)
    label[:, 3:9, 5:8] = 1
    classes = 1 if regions else 2
    t = (torch.stack([label == k for k in range(2)], 1) if not regions else (label == 1)[:, None]).double()
    loss = make_loss(name, classes, regions=regions)
    right, half, wrong = (float(loss(k * (2 * t - 1), label)) for k in (30, 0, -30))
    assert right < half < wrong
    if name != "boundary":
        assert right == pytest.approx(0, abs=0.1 if name == "cldice" else 1e-4)
    logits = torch.zeros_like(t)
    for _ in range(60):
        logits = logits - torch.sign(value_and_gradient(loss, logits, label)[1])
    assert float(loss(logits, label)) < right + 0.2 * (half - right)


@KINDS
@NAMES
def test_bf16_and_any_layout_cost_what_float32_costs(name: str, regions: bool) -> None:
    logits, label = example((16, 17), regions)
    half = logits.to(torch.bfloat16)
    loss = make_loss(name, 3, regions=regions)
    exact, exact_gradient = value_and_gradient(loss, half.float(), label)
    for given in (half, half.contiguous(memory_format=torch.channels_last)):
        value, gradient = value_and_gradient(loss, given, label.long())
        assert (value.dtype, gradient.dtype) == (torch.float32, torch.bfloat16)
        torch.testing.assert_close(value, exact)
        torch.testing.assert_close(gradient, exact_gradient.to(torch.bfloat16))


@KINDS
@NAMES
def test_mirrors_turns_and_the_order_of_images_change_nothing(name: str, regions: bool) -> None:
    logits, label = example((5, 6), regions)
    loss = make_loss(name, 3, regions=regions)
    expected = loss(logits, label)
    torch.testing.assert_close(loss(logits.flip(3), label.flip(2)), expected)
    torch.testing.assert_close(loss(logits.transpose(2, 3), label.transpose(1, 2)), expected)
    torch.testing.assert_close(loss(logits.flip(0), label.flip(0)), expected)
    plane = loss(logits[:, :, None], label[:, None])
    if name != "cldice":  # whose skeleton looks beyond the plane
        torch.testing.assert_close(plane, expected)


@NAMES
def test_the_order_of_classes_and_of_regions_changes_nothing(name: str) -> None:
    logits, label = example((5, 6))
    swapped = torch.where(label == 1, 2, torch.where(label == 2, 1, label)).to(torch.uint8)
    loss = make_loss(name, 3)
    torch.testing.assert_close(loss(logits[:, [0, 2, 1]], swapped), loss(logits, label))
    logits, label = example((5, 6), True)
    swapped = torch.where(label == 255, 255, label & 4 | (label & 1) << 1 | (label & 2) >> 1).to(torch.uint8)
    loss = make_loss(name, 3, regions=True)
    torch.testing.assert_close(loss(logits[:, [1, 0, 2]], swapped), loss(logits, label))


@NAMES
def test_a_structure_may_lie_anywhere(name: str) -> None:
    logits = torch.zeros(1, 2, 24, 24, dtype=torch.float64)
    label = torch.zeros(1, 24, 24, dtype=torch.uint8)
    logits[:, 1] = -40  # sure where nothing is: how much of that is seen plays no part
    logits[:, 1, 6:10, 7:14], label[:, 7:12, 6:12], label[:, 14:16, 6:12] = 1.5, 1, 1
    loss = make_loss("border_ce(sigma=0.5)" if name == "border_ce" else name, 2)
    moved = loss(logits.roll((3, -2), (2, 3)), label.roll((3, -2), (1, 2)))
    torch.testing.assert_close(moved, loss(logits, label))


def test_one_class_for_each_pixel_and_a_sum_of_one_region_agree() -> None:
    """Two classes of softmax are one sigmoid of their difference: what is binary is the same either way."""
    logits, label = example((8, 9), classes=2)
    one = logits[:, 1:] - logits[:, :1]
    for name in ("ce", "ce(smoothing=0.1)", "focal", "dice(background=false)", "boundary", "cldice"):
        bare = name.split("(")[0] if "background" in name else name
        ours = make_loss(bare, 1, regions=True)(one, label)
        torch.testing.assert_close(make_loss(name, 2)(logits, label), ours, msg=name)


def test_classes_weights_smoothing_and_positive_weight_are_those_of_torch() -> None:
    logits, label = example((5, 6))
    w = torch.tensor([0.5, 2.0, 1.0], dtype=torch.float64)
    for smoothing in (0.0, 0.1):
        theirs = torch.nn.functional.cross_entropy(logits, label.long(), w, ignore_index=255, label_smoothing=smoothing)
        ours = make_loss(f"ce(smoothing={smoothing})", 3, w.tolist())(logits, label)
        torch.testing.assert_close(ours, theirs)
    two = make_loss("ce(positive=4)", 2)(logits[:, :2], torch.where(label == 2, 1, label))
    torch.testing.assert_close(two, make_loss("ce", 2, [1, 4])(logits[:, :2], torch.where(label == 2, 1, label)))
    logits, label = example((5, 6), regions=True)
    label[label == 255] = 0
    target = torch.stack([(label >> k & 1).double() for k in range(3)], 1)
    theirs = torch.nn.functional.binary_cross_entropy_with_logits(logits, target, pos_weight=4 * w[:, None, None])
    torch.testing.assert_close(make_loss("ce(positive=4)", 3, w.tolist(), regions=True)(logits, label), theirs)


def test_focal_without_focus_is_cross_entropy() -> None:
    for regions in (False, True):
        logits, label = example((5, 6), regions)
        for weights in (None, [0.5, 2.0, 1.0]):
            ours = make_loss("focal(gamma=0)", 3, weights, regions=regions)(logits, label)
            torch.testing.assert_close(ours, make_loss("ce", 3, weights, regions=regions)(logits, label))


def test_a_coarse_result_measures_in_pixels_of_the_full_grid() -> None:
    """What deep supervision sees: half as many pixels, each twice as long."""
    generator = torch.Generator().manual_seed(1)
    coarse = torch.randn(1, 2, 6, 7, generator=generator, dtype=torch.float64)
    label = (torch.rand(1, 6, 7, generator=generator) > 0.6).to(torch.uint8)
    for name in ("hausdorff(alpha=1)", "border_ce(balance=false)"):
        loss = make_loss(name, 2)
        apart = make_loss(name.replace("balance=false", "balance=false, sigma=2.5"), 2)(coarse, label)
        scaled = loss(coarse, label, 1.0, (2, 2))
        torch.testing.assert_close(scaled, 2 * apart if "hausdorff" in name else apart)


def test_cells_that_a_border_class_parts_are_two() -> None:
    """Instances that touch: 1 is inside, 2 the border; between them the weight is that of a narrow gap."""
    label = torch.zeros(1, 9, 21, dtype=torch.uint8)
    label[:, 2:7, 3:18] = 1
    label[:, 2:7, 10:11] = 2
    logits = 10 * torch.nn.functional.one_hot(label.long(), 3).movedim(-1, 1).float()
    logits[:, 0, 2:7, 10] = 15.0  # wrong in the border alone
    parted, joined = (make_loss("border_ce(balance=false)", 3, cells=c)(logits, label) for c in ((1,), ()))
    assert float(parted) > 2 * float(joined)


def test_sums_in_an_expression() -> None:
    logits, label = example((5, 6))
    ce, dice, one = (make_loss(n, 3)(logits, label) for n in ("ce", "dice", "tversky(alpha=0.7, beta=0.3)"))
    both = make_loss("0.5*ce + 1e+1 * dice+tversky( alpha = 7e-1,beta=3e-1 )", 3)(logits, label)
    torch.testing.assert_close(both, 0.5 * ce + 10 * dice + one)
    assert parse_loss(" ce+ 0.25 *dice() ") == (Term(1.0, "ce"), Term(0.25, "dice"))
    assert parse_loss("cldice(iterations=4, image=True, ramp=0.5)") == (
        Term(1.0, "cldice", (("iterations", 4), ("image", True)), 0.5),
    )


def test_a_weight_may_grow_over_the_budget() -> None:
    logits, label = example((5, 6))
    loss = make_loss("dice + 0.1*boundary(ramp=0.5)", 3)
    dice, boundary = (make_loss(name, 3)(logits, label) for name in ("dice", "boundary"))
    for fraction, share in ((0.0, 0.0), (0.25, 0.5), (0.5, 1.0), (1.0, 1.0)):
        torch.testing.assert_close(loss(logits, label, fraction), dice + 0.1 * share * boundary)
    torch.testing.assert_close(loss(logits, label), dice + 0.1 * boundary)


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("ce + dise", f"there is no loss 'dise'; {KNOWN}; did you mean 'dice'?"),
        ("bce", f"there is no loss 'bce'; {KNOWN}; did you mean 'ce'?"),
        (
            "ce + ",
            "cannot read the term ''; write a sum like 'ce + dice' or '0.5*ce + tversky(alpha=0.7, beta=0.3)'; "
            + KNOWN,
        ),
        (
            "dice(smooth=1",
            "cannot read the term 'dice(smooth=1'; write a sum like 'ce + dice' or "
            "'0.5*ce + tversky(alpha=0.7, beta=0.3)'; " + KNOWN,
        ),
        ("x*ce", "the weight 'x' is not a positive number"),
        ("-1*ce", "the weight '-1' is not a positive number"),
        ("nan*ce", "the weight 'nan' is not a positive number"),
        ("0*ce + dice", "the weight '0' is not a positive number"),
        (
            "tversky(alfa=0.7)",
            "tversky has no parameter 'alfa'; it takes alpha, beta, image, background, absent, smooth, ramp; "
            "did you mean 'alpha'?",
        ),
        (
            "tversky(0.7)",
            "cannot read '0.7' in the brackets of tversky; write parameters as NAME=VALUE, such as tversky(alpha=0.3)",
        ),
        ("tversky(alpha=1, alpha=2)", "alpha is given twice in the brackets of tversky"),
        ("tversky(alpha=-1)", "alpha of tversky is a number of at least 0, not '-1'"),
        ("ce(smoothing=2)", "smoothing of ce is a number from 0 to 1, not '2'"),
        ("ce(smoothing=some)", "smoothing of ce is a number from 0 to 1, not 'some'"),
        ("focal(alpha=2)", "alpha of focal is a number from 0 to 1, or none, not '2'"),
        ("dice(image=1)", "image of dice is true or false, not '1'"),
        ("cldice(iterations=2.5)", "iterations of cldice is a whole number from 0 to 50, not '2.5'"),
    ],
)
def test_an_unreadable_expression_is_refused(expression: str, message: str) -> None:
    with pytest.raises(PlanError) as caught:
        make_loss(expression, 2)
    assert str(caught.value) == f"loss {expression!r}: {message}"


@pytest.mark.parametrize(
    ("expression", "options", "message"),
    [
        (
            "dice(background=false)",
            {"regions": True},
            "dice: regions have no background: it is where none of them is; leave background out",
        ),
        (
            "dice(background=false)",
            {"background": None},
            "dice: every class counts here, none is the background; leave background out",
        ),
        ("boundary", {"classes": 1}, "boundary: there is no class but the background; say background=true"),
        ("ce(positive=2)", {}, "ce: of 3 classes none is the positive one; set loss.class_weights"),
        (
            "focal(alpha=0.3)",
            {"background": None},
            "focal: alpha weighs classes against the background, and here every class counts; set loss.class_weights",
        ),
        (
            "border_ce",
            {"background": None},
            "border_ce: every class counts here: say which lies between the cells, such as border_ce(gap=0)",
        ),
        ("border_ce(gap=3)", {}, "border_ce: gap is the number of a class, and they are 0 … 2"),
        (
            "border_ce(gap=0)",
            {"regions": True},
            "border_ce: regions have nothing between them but where they are not; leave gap out",
        ),
    ],
)
def test_what_makes_no_sense_for_such_classes_is_refused(
    expression: str, options: dict[str, object], message: str
) -> None:
    with pytest.raises(PlanError) as caught:
        make_loss(expression, **{"classes": 3, **options})  # type: ignore[arg-type]
    assert str(caught.value) == f"loss {expression!r}: {message}"


def test_where_every_class_counts_none_is_left_out() -> None:
    logits, label = example((5, 6))
    loss = make_loss("cldice + boundary", 3, background=None)
    torch.testing.assert_close(
        loss(logits, label), make_loss("cldice(background=true)+boundary(background=true)", 3)(logits, label)
    )
    gap = make_loss("border_ce(gap=1)", 3, background=None)(logits, label)
    torch.testing.assert_close(gap, make_loss("border_ce", 3, background=1)(logits, label))


@pytest.mark.parametrize("weights", [[1.0], [1.0, -1.0], [0.0, 0.0], [1.0, math.inf]])
def test_class_weights_that_do_not_fit_are_refused(weights: list[float]) -> None:
    with pytest.raises(PlanError) as caught:
        make_loss("ce", 2, weights)
    assert str(caught.value) == f"class weights {weights}: 2 classes need 2 numbers, none negative and not all 0"


def test_shapes_and_labels_that_do_not_fit_are_refused() -> None:
    logits, dice = torch.zeros(1, 2, 4, 4), make_loss("dice", 2)
    with pytest.raises(
        ValueError, match=r"logits \(1, 2, 4, 4\) need a label of shape \(B, \*space\), not \(1, 4, 5\)"
    ):
        dice(logits, torch.zeros(1, 4, 5, dtype=torch.uint8))
    with pytest.raises(ValueError, match=r"logits \(1, 2, 4, 4\): this loss is one of 3 classes"):
        make_loss("lovasz", 3)(logits, torch.zeros(1, 4, 4, dtype=torch.uint8))
    for name in ("dice", "hausdorff"):
        with pytest.raises(ValueError, match=r"label 7 found; 2 classes allow 0 … 1, and 255 for unlabelled"):
            make_loss(name, 2)(logits, torch.full((1, 4, 4), 7, dtype=torch.uint8))
    with pytest.raises(ValueError, match="label 8 found; the bit masks of 3 regions are 0 … 7, and 255 for unlabelled"):
        make_loss("dice", 3, regions=True)(torch.zeros(1, 3, 4, 4), torch.full((1, 4, 4), 8, dtype=torch.uint8))
    with pytest.raises(ValueError, match="holds 7 regions and the unlabelled pixels, not 8 regions"):
        make_loss("dice", 8, regions=True)(torch.zeros(1, 8, 4, 4), torch.zeros(1, 4, 4, dtype=torch.uint8))


@KINDS
@pytest.mark.parametrize("expression", ["ce", "dice", "ce + dice"])
def test_the_gradient_by_hand_is_that_of_torch(expression: str, regions: bool) -> None:
    """In float32, on images large enough for rounding to add up."""
    logits, label = example((64, 65), regions)
    logits = logits.float()
    loss = make_loss(expression, 3, regions=regions)
    valid = (label != 255)[:, None].float()
    t = torch.stack([(label >> k & 1 if regions else label == k) * (label != 255) for k in range(3)], 1).float()

    def plain(x: Tensor, _: Tensor) -> Tensor:
        p = x.sigmoid() if regions else x.softmax(1)
        fractions = (2 * (p * t).sum((0, 2, 3)) + 1e-5) / ((p * valid).sum((0, 2, 3)) + t.sum((0, 2, 3)) + 1e-5)
        binary = torch.nn.functional.binary_cross_entropy_with_logits(x, t, reduction="none") * valid
        ce = binary.sum() / (3 * valid.sum())
        if not regions:
            ce = torch.nn.functional.cross_entropy(x, label.long(), ignore_index=255)
        terms = {"ce": ce, "dice": 1 - fractions.mean()}
        return torch.stack([terms[name] for name in expression.split(" + ")]).sum()

    ours, theirs = value_and_gradient(loss, logits, label), value_and_gradient(plain, logits, label)
    torch.testing.assert_close(ours[0], theirs[0])
    torch.testing.assert_close(ours[1], theirs[1], rtol=1e-4, atol=1e-7)


def test_a_sure_region_costs_nothing_and_a_wrong_one_stays_finite() -> None:
    logits = torch.full((1, 2, 4, 4), 200.0)
    loss = make_loss("ce + dice", 2, regions=True)
    assert float(loss(logits, torch.full((1, 4, 4), 3, dtype=torch.uint8))) == pytest.approx(0, abs=1e-6)
    assert float(loss(logits, torch.zeros(1, 4, 4, dtype=torch.uint8))) == pytest.approx(200, rel=1e-3)
