"""Text with holes is completed, and text made from nothing but holes: a 1-D U-Net as a masked-token denoiser.

    python examples/fill_text.py --minutes 5

The text is Python's own standard library, character by character. In training a random share of each window, between
almost nothing and everything, is replaced by a mask, and the network learns to say what stood there (the absorbing
diffusion of Austin 2021, D3PM; trained as in Chang 2022, MaskGIT). A network that answers at every share of masks can
also write: begin with masks alone, keep the characters it is surest of, ask again.

What is measured, on files never seen. Masks are drawn at random positions; bits are −log2 of the probability that the
network gave to the true character, averaged over the masked ones:

- at 15 % and at 50 % masked: how well small holes and large ones are filled;
- averaged over all shares (the number of masks uniform from 1 to all): an upper bound on the bits per character that
  this model needs to describe the text, window by window, in random order (Hoogeboom 2022, equation 4). It may be
  compared with what a compressor needs, and is the harder task: most of the time most of the text is hidden.

What such a model can do: repair short gaps in code that looks like what it was trained on. What it cannot: a few
minutes on two processors make it no author. What it writes has the look of Python (indentation, keywords, names that
recur in the library) without its sense; brackets need not close, names need not exist, and characters that are chosen
at the same time do not know of each other. It has no idea what code does.
"""

from __future__ import annotations

import argparse
import gzip
import lzma
import math
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from python_text import CHARACTERS, clock, decode, divide, encode, faster_precision, python_files, windows
from torch import Tensor

import unetkit as uk
from unetkit.losses import make_loss
from unetkit.nets import load_weights, save_weights

MASK = CHARACTERS  # one more integer than there are characters
VISIBLE = 255  # a label that counts nowhere

NET = uk.NetSpec(
    ndim=1,
    vocabulary=CHARACTERS + 1,
    classes=CHARACTERS,
    channels=(80, 160, 256),
    kernels=5,
    strides=4,
    block="preactivation",  # residual units: in few steps they reach far more than plain ones
    norm="group",  # batch norm would mix windows with many masks and windows with few
    activation="gelu",
)
WINDOW, BATCH, LEARNING_RATE = 1024, 8, 3e-3


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=5.0, help="for training; reading and measuring come on top")
    parser.add_argument("--steps", type=int, help="so many steps, however long they take, in place of the minutes")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="Python files of another folder than the standard library")
    parser.add_argument("--save", type=Path, default=Path("runs/fill_text.safetensors"), help="where the weights go")
    parser.add_argument("--load", type=Path, metavar="FILE", help="weights of an earlier run: nothing is trained")
    parser.add_argument("--prompt", default="class Reader:\n    def __init__(self, ", help="how generated text begins")
    parser.add_argument("--length", type=int, default=300, help="characters to generate")
    parser.add_argument("--temperature", type=float, default=0.8, help="of generation: 0 always takes the likeliest")
    arguments = parser.parse_args(argv)

    learnt_N, held_out_N = (
        torch.from_numpy(encode("".join(source.text for source in part))).long()
        for part in divide(python_files(arguments.folder))
    )

    net = uk.UNet(classes=NET.classes, like=NET, seed=arguments.seed)
    if arguments.load:
        load_weights(net, arguments.load)
    else:
        train(net, learnt_N, arguments.minutes, arguments.steps, arguments.seed, arguments.save)
    net.eval()
    frequency_K = (torch.bincount(learnt_N, minlength=CHARACTERS) + 1) / (len(learnt_N) + CHARACTERS)
    measure(net, learnt_N, held_out_N, frequency_K, arguments.seed)
    fill_gaps(net, held_out_N, frequency_K, arguments.seed)
    generate(net, arguments.prompt, arguments.length, arguments.temperature, frequency_K, arguments.seed)


def train(net: uk.UNet, text_N: Tensor, minutes: float, steps: int | None, seed: int, save: Path) -> None:
    """Mask, predict, compare, update; the weights are written every 200 steps and at the end. Ctrl-C ends it early."""
    optimiser = torch.optim.AdamW(net.parameters(), lr=LEARNING_RATE, weight_decay=0.01)
    generator = torch.Generator().manual_seed(seed)

    cross_entropy = make_loss("ce", CHARACTERS)

    def loss_of_a_batch(precision: torch.dtype) -> Tensor:
        truth_BL = text_N[windows(WINDOW, len(text_N), BATCH, generator)]
        hidden_BL = random_masks(truth_BL.shape[0], truth_BL.shape[1], generator)
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == torch.bfloat16):
            logits_BKL = net(truth_BL.masked_fill(hidden_BL, MASK)[:, None])
        return cross_entropy(logits_BKL, truth_BL.masked_fill(~hidden_BL, VISIBLE))

    precision = faster_precision(lambda dtype: loss_of_a_batch(dtype).backward())
    print(f"{sum(p.numel() for p in net.parameters()):,} parameters, trained in {str(precision)[6:]}", flush=True)
    net.train()
    recent: list[float] = []
    step = 0
    try:
        for step in clock(optimiser, minutes, steps):
            optimiser.zero_grad()
            loss = loss_of_a_batch(precision)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimiser.step()
            recent = [*recent[-99:], loss.item() / math.log(2)]
            if step % 200 == 0:
                print(f"step {step}: {np.mean(recent):.3f} bits per masked character", flush=True)
                save_weights(net, save)
    except KeyboardInterrupt:
        print("stopped early; what follows is measured with the weights as they are")
    save_weights(net, save)
    print(f"{step} steps, {step * BATCH * WINDOW:,} characters; weights in {save}")


def random_masks(count: int, length: int, generator: torch.Generator) -> Tensor:
    """(count, length) bool: each window with its own share of masks, uniform from 0 to 1.

    In three of four windows single characters are masked; in the others runs of eight, as gaps in a text are.
    """
    share_B1 = torch.rand(count, 1, generator=generator)
    run_B1 = torch.tensor([1, 1, 1, 8])[torch.randint(4, (count, 1), generator=generator)]
    offset_B1 = torch.randint(8, (count, 1), generator=generator)
    draws_BL = torch.rand(count, length + 8, generator=generator)
    which_BL = (torch.arange(length) + offset_B1) // run_B1
    return draws_BL.gather(1, which_BL) < share_B1


@torch.no_grad()
def bits(net: uk.UNet, truth_BL: Tensor, masks_B: Tensor, generator: torch.Generator) -> Tensor:
    """(B,) mean −log2 p(true character) over `masks_B` masked positions of each window, drawn at random."""
    order_BL = torch.rand(truth_BL.shape, generator=generator).argsort(dim=1)
    hidden_BL = order_BL < masks_B[:, None]
    logits_BKL = net(truth_BL.masked_fill(hidden_BL, MASK)[:, None])
    nats_BL = torch.nn.functional.cross_entropy(logits_BKL, truth_BL, reduction="none")
    return (nats_BL * hidden_BL).sum(1) / masks_B / math.log(2)


def measure(net: uk.UNet, learnt_N: Tensor, held_out_N: Tensor, frequency_K: Tensor, seed: int) -> None:
    """Print the bits per character of the heading, beside what knows less: nothing, frequencies, compressors."""
    length = min(WINDOW, len(held_out_N))
    text_WL = held_out_N[: len(held_out_N) // length * length].view(-1, length)
    generator = torch.Generator().manual_seed(seed)
    # numbers of masks spread evenly over 1 … length, in random order over the windows
    spread_W = (torch.randperm(len(text_WL), generator=generator) + torch.rand(1, generator=generator)) / len(text_WL)
    amounts = {
        "15 % masked": torch.full((len(text_WL),), max(1, round(0.15 * length))),
        "50 % masked": torch.full((len(text_WL),), max(1, round(0.5 * length))),
        "any share masked (upper bound)": (spread_W * length).long() + 1,
    }
    print(f"\nbits per character on held-out files ({len(text_WL)} windows of {length})")
    for name, masks_W in amounts.items():
        parts = zip(text_WL.split(BATCH), masks_W.split(BATCH), strict=True)
        bits_W = torch.cat([bits(net, text_BL, masks_B, generator) for text_BL, masks_B in parts])
        print(f"  the network, {name:32} {bits_W.mean():.3f}")
    print(f"  {f'all {CHARACTERS} characters alike':45} {math.log2(CHARACTERS):.3f}")
    print(f"  {'how often each occurs in what was learnt from':45} {-frequency_K.log2()[text_WL].mean():.3f}")
    learnt, text = learnt_N.byte().numpy().tobytes(), text_WL.byte().numpy().tobytes()
    print(f"  {'gzip of the held-out text alone':45} {8 * len(gzip.compress(text)) / len(text):.3f}")
    print(f"  {'lzma of the held-out text alone':45} {8 * len(lzma.compress(text)) / len(text):.3f}")
    more = len(lzma.compress(learnt + text)) - len(lzma.compress(learnt))
    print(f"  {'lzma that has read what was learnt from':45} {8 * more / len(text):.3f}")


@torch.no_grad()
def unmask(net: uk.UNet, ids_L: Tensor, temperature: float, frequency_K: Tensor, generator: torch.Generator) -> Tensor:
    """Fill the masks of a text one by one, always where the network is surest of what it drew.

    How sure counts beyond (the root of) how often the character occurs anyway: by probability alone, blanks come first
    wherever nothing is known, and an empty page stays empty.
    """
    ids_L = ids_L.clone()
    while bool((hidden_L := ids_L == MASK).any()):
        logits_LK = net(ids_L[None, None])[0].T[hidden_L]
        if temperature > 0:
            probabilities_LK = torch.softmax(logits_LK / temperature, dim=1)
            drawn_L = torch.multinomial(probabilities_LK, 1, generator=generator)[:, 0]
        else:
            drawn_L = logits_LK.argmax(1)
        sure_L = torch.log_softmax(logits_LK, dim=1).gather(1, drawn_L[:, None])[:, 0]
        best = int((sure_L - 0.5 * frequency_K.log()[drawn_L]).argmax())
        ids_L[hidden_L.nonzero()[best, 0]] = drawn_L[best]
    return ids_L


def fill_gaps(
    net: uk.UNet, held_out_N: Tensor, frequency_K: Tensor, seed: int, gaps: int = 12, longest: int = 8
) -> None:
    """Hide some runs of characters in a stretch of held-out text, and show it, its filling, and the truth."""
    generator = torch.Generator().manual_seed(seed)
    length = min(WINDOW, len(held_out_N))
    start = int(torch.randint(len(held_out_N) - length + 1, (1,), generator=generator))
    truth_L = held_out_N[start : start + length]
    shown = slice(length // 4, length // 4 + length // 2)  # what is around it is seen, but not printed
    hidden_L = torch.zeros(length, dtype=torch.bool)
    for place in torch.randint(shown.start, shown.stop, (gaps,), generator=generator).tolist():
        hidden_L[place : min(place + int(torch.randint(2, longest + 1, (1,), generator=generator)), shown.stop)] = True
    filled_L = unmask(net, truth_L.masked_fill(hidden_L, MASK), 0.0, frequency_K, generator)
    right = int((filled_L == truth_L)[hidden_L].sum())
    print(f"\nheld-out text with {gaps} gaps: {right} of {int(hidden_L.sum())} hidden characters filled as they were\n")
    for name, ids_L in (("with gaps", truth_L.masked_fill(hidden_L, MASK)), ("filled", filled_L), ("truth", truth_L)):
        print(f"--- {name} ---\n{decode(ids_L[shown].numpy())}")


def generate(net: uk.UNet, prompt: str, length: int, temperature: float, frequency_K: Tensor, seed: int) -> None:
    """Print a text that begins with the prompt and is otherwise the network's own."""
    generator = torch.Generator().manual_seed(seed)
    begin = torch.from_numpy(encode(prompt)).long()
    ids_L = torch.cat([begin, torch.full((length,), MASK)])
    text = decode(unmask(net, ids_L, temperature, frequency_K, generator).numpy())
    print(f"\ngenerated at temperature {temperature:g}, after the prompt {prompt!r}:\n\n{text}")


if __name__ == "__main__":
    try:
        main()
    except uk.UnetkitError as error:
        sys.exit(str(error))
