"""Every character of Python source gets the class of its token: a 1-D U-Net as a syntax highlighter that only looks.

    python examples/tag_python.py --minutes 5

`tokenize` knows the answers by reading from the first character on. The network learns them from most files of the
standard library, in windows of 4096 characters, and is scored on files that it never saw. Names, numbers and operators
need a few characters around them. Whether a line stands inside a triple-quoted string may be decided a thousand
characters earlier, and that is what the coarse levels are for: four reductions by four let every answer depend on
almost two thousand characters on either side.

What it cannot do: it knows no grammar and cannot count. A quote that is opened further away than it sees has to be
guessed from what the text looks like; code inside a long docstring, or prose outside one, misleads it. Soft keywords
are names here, and an f-string is one string, in every version of Python.
"""

from __future__ import annotations

import argparse
import io
import keyword
import sys
import tokenize
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from python_text import CHARACTERS, Source, divide, encode, python_files

import unetkit as uk

CLASSES = ("space", "name", "keyword", "number", "string", "comment", "operator")
SPACE, NAME, KEYWORD, NUMBER, STRING, COMMENT, OPERATOR = range(len(CLASSES))
KINDS = {tokenize.NUMBER: NUMBER, tokenize.STRING: STRING, tokenize.COMMENT: COMMENT, tokenize.OP: OPERATOR}

LETTERS = "n(ame) k(eyword) d(igit) s(tring) c(omment) o(perator)"  # how they are shown without colours

SETTINGS = {
    "net.vocabulary": CHARACTERS,  # the input is characters, embedded before the first level
    "net.channels": [48, 96, 128, 160, 192],
    "net.kernels": 5,
    "net.strides": 4,
    "sampling.patch": [4096],
    "sampling.batch": 8,
    "sampling.oversample": 0.0,  # windows from anywhere: the score counts every character alike
    "loss.terms": "ce",
    "optim.lr": 3e-3,
}

Tags = NDArray[np.uint8]


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--run", type=Path, default=Path("runs/tag_python"), help="run folder: an interrupted run goes on"
    )
    parser.add_argument("--load", type=Path, metavar="RUN", help="a finished run folder: nothing is trained")
    parser.add_argument("--minutes", type=float, default=5.0, help="for training; tagging and scoring come on top")
    parser.add_argument("--steps", type=int, help="so many steps, however long they take, in place of the minutes")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="Python files of another folder than the standard library")
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", help="a setting of the plan")
    parser.add_argument("--colour", choices=("auto", "always", "never"), default="auto")
    arguments = parser.parse_args(argv)

    tagged = tag_all(python_files(arguments.folder))
    learnt, held_out = ({source: tagged[source] for source in part} for part in divide(tagged))
    if arguments.load:
        run = uk.open_run(arguments.load)
    else:
        samples = [uk.Sample(encode(s.text), tags, id=s.name, split=s.part) for s, tags in learnt.items()]
        request = uk.Request(
            minutes=None if arguments.steps else arguments.minutes,
            steps=arguments.steps,
            seed=arguments.seed,
            classes=CLASSES,
            background="none",
            settings=SETTINGS | dict(item.split("=", 1) for item in arguments.set),
        )
        run = uk.train(samples, arguments.run, request, listen=tell)
        if not run.finished:
            sys.exit("stopped; the same command goes on")
    predicted = {source: run.predict(encode(source.text)).astype(np.uint8) for source in held_out}
    report(learnt, held_out, predicted)
    coloured = arguments.colour == "always" or (arguments.colour == "auto" and sys.stdout.isatty())
    show(held_out, predicted, coloured)


def tag_all(sources: Sequence[Source]) -> dict[Source, Tags]:
    """The tags of every file that `tokenize` accepts."""
    tagged = {}
    for source in sources:
        try:
            tagged[source] = tag(source.text)
        except (tokenize.TokenError, SyntaxError) as error:
            print(f"{source.name} is left out: {error}")
    return tagged


def tag(text: str) -> Tags:
    """(L,) for each character the class of the token that it belongs to; what lies between tokens is space.

    Raises TokenError or SyntaxError for text that is no Python.
    """
    tags = np.full(len(text), SPACE, np.uint8)
    line_starts = np.cumsum([0, *(len(line) + 1 for line in text.split("\n"))])
    opened = []  # from 3.12 on an f-string is many tokens; here it is one string in every version
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        (row, column), (end_row, end_column) = token.start, token.end
        if row >= len(line_starts):
            continue  # the end, on a line of its own: nothing to tag
        place = slice(line_starts[row - 1] + column, line_starts[end_row - 1] + end_column)
        kind = tokenize.tok_name[token.type]
        if kind == "ERRORTOKEN":
            raise SyntaxError(f"line {row}: {token.string!r} is no token")
        if kind.endswith("STRING_START"):
            opened.append(place.start)
        elif kind.endswith("STRING_END"):
            tags[opened.pop() : place.stop] = STRING
        elif token.type == tokenize.NAME:
            tags[place] = KEYWORD if keyword.iskeyword(token.string) else NAME
        elif token.type in KINDS:
            tags[place] = KINDS[token.type]
    return tags


def tell(event: uk.events.Event) -> None:
    """Print what matters of the events of training: warnings, and every validation."""
    if isinstance(event, uk.events.Validated):
        dice = "" if event.dice is None else f", Dice {event.dice:.4f}"
        print(f"step {event.step}, {event.seconds:.0f} s: loss {event.loss:.4f}{dice}", flush=True)
    elif isinstance(event, uk.events.Warned):
        print(event.message, flush=True)


def report(learnt: Mapping[Source, Tags], held_out: Mapping[Source, Tags], predicted: Mapping[Source, Tags]) -> None:
    """Accuracy over all held-out characters, what guessing reaches, and each class's precision, recall and F1."""
    truth_N = np.concatenate(list(held_out.values()))
    found_N = np.concatenate([predicted[source] for source in held_out])
    ids_N = np.concatenate([encode(source.text) for source in held_out])
    # how often each character has each class in the files that were learnt from
    seen_VK = np.zeros((CHARACTERS, len(CLASSES)), np.int64)
    for source, tags in learnt.items():
        np.add.at(seen_VK, (encode(source.text), tags), 1)
    most = int(seen_VK.sum(0).argmax())
    print(f"\nheld-out characters with the right class: {np.mean(found_N == truth_N):.2%}")
    print(f"  if all were '{CLASSES[most]}', the commonest class:   {np.mean(truth_N == most):.2%}")
    print(f"  each character's commonest class, no context:  {np.mean(seen_VK.argmax(1)[ids_N] == truth_N):.2%}")
    right = {source: float(np.mean(predicted[source] == tags)) for source, tags in held_out.items() if len(tags) > 1000}
    if right:
        worst = min(right, key=right.__getitem__)
        print(f"  the worst file of more than 1000 characters, {worst.name}: {right[worst]:.2%}")
    print()
    print("class     precision  recall      F1   share")
    for k, name in enumerate(CLASSES):
        both = np.sum((found_N == k) & (truth_N == k))
        claimed, there = np.sum(found_N == k), np.sum(truth_N == k)
        ratios = (both / max(claimed, 1), both / max(there, 1), 2 * both / max(claimed + there, 1))
        print(f"{name:9}" + "".join(f"{ratio:10.2%}" for ratio in (*ratios, there / len(truth_N))))


def show(held_out: Mapping[Source, Tags], predicted: Mapping[Source, Tags], coloured: bool, lines: int = 14) -> None:
    """A stretch of a held-out file as the network sees it: the first with all classes, from the middle of a file on."""
    for source, tags in held_out.items():
        starts = [0, *(place + 1 for place, character in enumerate(source.text) if character == "\n")]
        for first in range(len(starts) // 2, len(starts) - lines, lines):
            place = slice(starts[first], starts[first + lines])
            if len(np.unique(tags[place])) == len(CLASSES):
                print(f"\n{source.name} from line {first + 1} (held out); wrong: ", end="")
                print("on red\n" if coloured else f"! below; else {LETTERS}\n")
                paint = in_colour if coloured else in_letters
                print(paint(source.text[place], tags[place], predicted[source][place]))
                return


def in_colour(text: str, truth: Tags, found: Tags) -> str:
    """The text in the colours of its predicted classes, as terminals understand them."""
    styles = ("0", "0", "1;34", "35", "32", "90", "33")  # in the order of CLASSES
    shown, before = "", ""
    for character, right, k in zip(text, truth, found, strict=True):
        style = styles[k] + (";41" if right != k else "")
        shown += (f"\x1b[0;{style}m" if style != before else "") + character
        before = style
    return shown + "\x1b[0m"


def in_letters(text: str, truth: Tags, found: Tags) -> str:
    """Every line of the text, and below it a letter for each predicted class."""
    marks = "".join(
        "\n" if character == "\n" else " nkdsco"[k] if right == k else "!"
        for character, right, k in zip(text, truth, found, strict=True)
    )
    pairs = zip(text.splitlines(), marks.splitlines(), strict=True)
    return "\n".join(f"{line}\n{below}" if below.strip() else line for line, below in pairs)


if __name__ == "__main__":
    try:
        main()
    except uk.UnetkitError as error:
        sys.exit(str(error))
