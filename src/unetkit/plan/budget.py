"""Time and memory: a few steps are timed on this machine, and the arithmetic and the size of the network follow."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass

import torch

from unetkit.core.device import find_device
from unetkit.core.events import Decided, Event
from unetkit.core.machine import cores, free_memory, processor
from unetkit.losses.expression import Loss, make_loss
from unetkit.nets.build import UNet, build, centred
from unetkit.nets.spec import NetSpec
from unetkit.plan.parts import Layout, MachinePlan, Precision

# Share of the budget that timing may take.
TIMING_SHARE = 0.04
# Share of the free memory that one step may hold.
STEP_SHARE = 0.5
# Seconds after which the timing of one network is cut short.
SLOW = 3.0
# Steps of a race at most; who takes so many times as long as the fastest is out of it.
MOST_TURNS, HOPELESS = 20, 1.6


@dataclass(frozen=True)
class Arithmetic:
    """How a step is computed."""

    device: str
    precision: Precision
    layout: Layout
    threads: int


def seconds_per_step(
    spec: NetSpec,
    patch: Sequence[int],
    batch: int,
    arithmetic: Arithmetic,
    loss: Loss | None = None,
    seconds: float = 0.6,
) -> float:
    """Time of the fastest of a few training steps (forward, loss, backward, update) on random data, after a warm-up.
    Without a loss it is cross-entropy and Dice.

    The fastest, because it is what other work on the machine disturbs least.
    """
    return race([Trial(spec, patch, batch, arithmetic, loss)], seconds)[0]


def race(trials: Sequence[Trial], seconds: float = 0.6) -> list[float]:
    """Seconds of the fastest step of each, taken by turns, so that other work on the machine disturbs all alike.

    `seconds`: for each of them, at least; who is hopelessly behind takes part no more.
    """
    best, begin = [math.inf] * len(trials), time.perf_counter()
    for trial in trials:
        trial.step()  # the warm-up
    for turn in range(MOST_TURNS):
        running = [k for k in range(len(trials)) if best[k] < HOPELESS * min(best) or turn < 2]
        for k in running:
            best[k] = min(best[k], trials[k].step())
        # of steps that take seconds each, few will do
        spent = (time.perf_counter() - begin) / len(running)
        if turn + 1 >= (1 if spent > SLOW else 3) and spent >= seconds:
            break
    return best


class Trial:
    """A network that is trained on random data, to see how long a step takes."""

    def __init__(
        self, spec: NetSpec, patch: Sequence[int], batch: int, arithmetic: Arithmetic, loss: Loss | None = None
    ) -> None:
        self.arithmetic, self.device = arithmetic, torch.device(arithmetic.device)
        torch.set_num_threads(arithmetic.threads)
        self.net = place(build(spec, seed=0), arithmetic).train()
        self.loss = make_loss("ce + dice", spec.classes) if loss is None else loss
        fused = self.device.type in ("cpu", "cuda")
        self.optimiser = torch.optim.AdamW(self.net.parameters(), lr=1e-4, fused=fused)
        generator = torch.Generator().manual_seed(0)
        shape = (batch, spec.in_channels, *patch)
        image = torch.randn(shape, generator=generator)
        if spec.vocabulary:
            image = torch.randint(spec.vocabulary, shape, generator=generator).float()
        self.image = image.to(self.device, memory_format=memory_format(arithmetic, spec.ndim))
        self.label = torch.randint(spec.classes, (batch, *patch), generator=generator).to(self.device)

    def step(self) -> float:
        """Seconds of one step."""
        start = time.perf_counter()
        with autocast(self.arithmetic):
            output = self.net(self.image)
        logits, *coarse = [output] if isinstance(output, torch.Tensor) else output
        value = self.loss(logits, centred(self.label, logits.shape[2:]))
        # of deep supervision the other results: their own loss costs little beside the network
        torch.autograd.backward(value + sum(c.float().mean() for c in coarse))
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter() - start


def memory_format(arithmetic: Arithmetic, ndim: int) -> torch.memory_format:
    """The memory layout of images and weights. Signals have but one."""
    if arithmetic.layout == "contiguous" or ndim == 1:
        return torch.contiguous_format
    return torch.channels_last if ndim == 2 else torch.channels_last_3d


def place(net: UNet, arithmetic: Arithmetic) -> UNet:
    """The network on the device and in the layout of the arithmetic (in place)."""
    layout = memory_format(arithmetic, net.spec.ndim)
    return net.to(torch.device(arithmetic.device), memory_format=layout)  # type: ignore[call-overload, no-any-return]


def placed(image_BCX: torch.Tensor, arithmetic: Arithmetic) -> torch.Tensor:
    """A batch of images on the device and in the layout of the arithmetic."""
    return image_BCX.to(arithmetic.device, memory_format=memory_format(arithmetic, image_BCX.ndim - 2))


def autocast(arithmetic: Arithmetic) -> contextlib.AbstractContextManager[object]:
    """The context in which a forward pass has the arithmetic's precision."""
    if arithmetic.precision == "fp32":
        return contextlib.nullcontext()
    return torch.autocast(torch.device(arithmetic.device).type, torch.bfloat16)


def choose_arithmetic(
    spec: NetSpec,
    patch: Sequence[int],
    batch: int,
    *,
    device: str,
    precision: str,
    layout: str,
    threads: int,
    repeatable: bool,
) -> Generator[Event, None, tuple[MachinePlan, dict[str, str]]]:
    """Precision and memory layout: what is pinned, else the fastest of a few timed steps.

    With `repeatable` (a budget in steps and a pinned precision) nothing is timed: two runs must decide alike.
    """
    device = find_device(device)
    precisions: tuple[Precision, ...] = ("fp32", "bf16") if precision == "auto" else (_precision(precision),)
    layouts: tuple[Layout, ...] = ("contiguous", "channels_last") if layout == "auto" else (_layout(layout),)
    if spec.ndim == 1:
        layouts = ("contiguous",)
    reasons = {
        "machine.threads": f"this process may use {cores()} processors",
        "machine.device": f"{device}: the fastest device here"
        if device != "cpu"
        else "no GPU was found, or the CPU was asked for",
    }
    if repeatable and precision != "auto":
        chosen = Arithmetic(device, precisions[0], layouts[-1], threads)
        reasons["machine.precision"] = "as asked"
        reasons["machine.layout"] = (
            "as asked"
            if layout != "auto"
            else "not timed: steps and precision are pinned, so that the run can be repeated"
        )
    else:
        possible = [Arithmetic(device, p, m, threads) for p in precisions for m in layouts]
        seconds = race([Trial(spec, patch, batch, a) for a in possible]) if len(possible) > 1 else [0.0]
        timed = dict(zip(possible, seconds, strict=True))
        chosen = min(timed, key=lambda a: timed[a])
        table = ", ".join(f"{a.precision} {a.layout} {s * 1000:.0f} ms" for a, s in timed.items())
        timed_why = f"fastest of timed steps here: {table}" if len(timed) > 1 else "as asked"
        reasons["machine.precision"] = timed_why if precision == "auto" else "as asked"
        timed_with = "timed with the precision" if precision == "auto" and len(timed) > 1 else timed_why
        reasons["machine.layout"] = timed_with if layout == "auto" else "as asked"
    if spec.ndim == 1:
        reasons["machine.layout"] = "signals have one layout"
    yield Decided(what="machine.precision", value=chosen.precision, why=reasons["machine.precision"])
    yield Decided(what="machine.layout", value=chosen.layout, why=reasons["machine.layout"])
    plan = MachinePlan(device=device, precision=chosen.precision, layout=chosen.layout, threads=threads)
    plan = plan.model_copy(update={"processor": processor()})
    return plan, reasons


def _precision(text: str) -> Precision:
    return "bf16" if text == "bf16" else "fp32"


def _layout(text: str) -> Layout:
    return "channels_last" if text == "channels_last" else "contiguous"


def free_bytes(arithmetic: Arithmetic) -> int:
    """Bytes that a step may hold: a share of what is free on its device; prepared images and the rest need theirs."""
    device = torch.device(arithmetic.device)
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else free_memory()
    return int(STEP_SHARE * free)


@dataclass(frozen=True)
class Candidate:
    """A network and a batch, and the fewest steps with which they are worth their cost."""

    spec: NetSpec
    batch: int
    least: int = 0

    def __str__(self) -> str:
        return f"width {self.spec.channels[0]} batch {self.batch}"


@dataclass(frozen=True)
class Capacity:
    """What was chosen, the seconds a step takes (None: not timed), the steps that fit, and why."""

    candidate: Candidate
    step: float | None
    steps: int
    why: str


def choose_capacity(
    candidates: Sequence[Candidate],
    patch: Sequence[int],
    arithmetic: Arithmetic,
    loss: Loss | None = None,
    *,
    seconds: float,
) -> Capacity:
    """The last candidate (costs rise) that completes its least number of steps in `seconds`; the first is always in."""
    chosen, step = candidates[0], seconds_per_step(candidates[0].spec, patch, candidates[0].batch, arithmetic, loss)
    tried = [f"{chosen} {step * 1000:.0f} ms"]
    began = time.perf_counter()
    for candidate in candidates[1:]:
        if time.perf_counter() - began > TIMING_SHARE * seconds:
            break
        needed = seconds_per_step(candidate.spec, patch, candidate.batch, arithmetic, loss)
        tried.append(f"{candidate} {needed * 1000:.0f} ms")
        if seconds / needed < candidate.least:
            tried[-1] += f" (too few of the {candidate.least} steps it needs)"
            break
        chosen, step = candidate, needed
    steps = max(1, int(seconds / step))
    return Capacity(chosen, step, steps, f"{chosen} completes {steps} steps in time; timed here: {', '.join(tried)}")


def candidate_for_steps(candidates: Sequence[Candidate], steps: int) -> Capacity:
    """The candidate for a budget in steps: by their number alone, so that the same command decides alike everywhere."""
    candidate = [c for c in candidates if c.least <= steps][-1]
    return Capacity(candidate, None, steps, f"{candidate} suits {steps} steps; not timed, so that runs can be repeated")


def arithmetic_of(machine: MachinePlan) -> Arithmetic:
    """The arithmetic that a plan has fixed."""
    return Arithmetic(machine.device, machine.precision, machine.layout, machine.threads)
