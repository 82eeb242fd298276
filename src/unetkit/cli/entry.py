"""From words to a command and an exit status; every refusal becomes one message on stderr."""

from __future__ import annotations

import io
import os
import shlex
import sys
from collections.abc import Sequence
from typing import TextIO

from cyclopts import (
    CoercionError,
    CycloptsError,
    MissingArgumentError,
    RepeatArgumentError,
    UnknownCommandError,
    UnknownOptionError,
    UnusedCliTokensError,
)

from unetkit.cli.app import EXAMPLES, app
from unetkit.core.errors import UnetkitError, nearest

DONE, FINDINGS, MENDABLE, INTERRUPTED, READER_GONE = 0, 1, 2, 130, 141
# Commands that leave their work so that the same command goes on with it.
GO_ON = ("train", "predict")


def run(argv: Sequence[str]) -> int:
    """Run one command line; returns the exit status (see `unetkit.cli.main`)."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal without × shows ?, and nothing breaks
    try:
        status = _run(argv)
        sys.stdout.flush()
    except BrokenPipeError:
        _forget(sys.stdout)
        return READER_GONE
    return status


def _run(argv: Sequence[str]) -> int:
    try:
        command, bound, _ = app.parse_args(
            list(argv), exit_on_error=False, print_error=False, help_on_error=False, verbose=False
        )
        status = command(*bound.args, **bound.kwargs)
    except CycloptsError as error:
        return _refuse(explain(error))
    except UnetkitError as error:
        return _refuse(str(error))
    except OSError as error:
        if error.filename is None:  # nothing that a user could look at; a reader that went away is one of these
            raise
        return _refuse(
            f"{error.filename}: {error.strerror}; the system refused it, so check the path and its permissions"
        )
    except MemoryError:
        return _refuse(
            "there is not enough memory; close other programs, or ask for less: --memory, --set sampling.batch=1"
        )
    except KeyboardInterrupt:
        _say(f"stopped; {_again(argv)}")
        return INTERRUPTED
    if status == INTERRUPTED:  # the command said that it stopped
        _say(_again(argv))
    return int(status or DONE)


def explain(error: CycloptsError) -> str:
    """What is wrong with the words of a command line, what is allowed, and the nearest name."""
    verb = " ".join(error.command_chain or ())
    command = f"unetkit {verb}".strip()
    more = f"`{command} --help` shows all"
    if isinstance(error, UnknownCommandError):
        word = (error.unused_tokens or ["?"])[0]
        return f"there is no command '{word}'; the commands are {', '.join(EXAMPLES)}{nearest(word, EXAMPLES)}"
    if isinstance(error, UnknownOptionError):
        word = error.token.keyword or error.token.value
        names = [name for argument in error.argument_collection for name in argument.names]
        return f"{command} has no option {word}; {more}{nearest(word, names)}"
    if isinstance(error, MissingArgumentError) and error.argument is not None:
        name = _name(error)
        if error.keyword is not None:
            return f"{command}: {error.keyword} needs a value; {more}"
        what = (error.argument.parameter.help or "").split(";")[0].rstrip(".")
        return f"{command} needs {name}{f' ({what})' if what else ''}, for example:\n  {EXAMPLES.get(verb, command)}"
    if isinstance(error, UnusedCliTokensError):
        words = " ".join(error.unused_tokens or ())
        return f"{command}: too many words: {words}; quote names that hold spaces; {more}"
    if isinstance(error, RepeatArgumentError):
        return f"{command}: {error.token.keyword} is given twice; give it once"
    if isinstance(error, CoercionError) and error.token is not None and error.argument is not None:
        value, allowed = error.token.value, error.argument.get_choices()
        if allowed:
            choices = [str(choice) for choice in allowed]
            return f"{_name(error)} '{value}' is none of {', '.join(choices)}{nearest(value, choices)}"
        kinds: dict[object, str] = {int: "a whole number", float: "a number"}
        if error.target_type in kinds:
            return f"{_name(error)} '{value}' is not {kinds[error.target_type]}"
    return f"{command}: {error}"


def _name(error: CycloptsError) -> str:
    """How a user writes the option or argument that the error is about."""
    token = getattr(error, "token", None)
    if token is not None and token.keyword:
        return str(token.keyword)
    if error.argument is None:
        return "it"
    short = [name for name in error.argument.names if name.startswith("-") and not name.startswith("--")]
    return short[0] if short else error.argument.name


def _again(argv: Sequence[str]) -> str:
    line = shlex.join(["unetkit", *argv])
    return f"{'to go on' if argv and argv[0] in GO_ON else 'to start again'}:\n  {line}"


def _refuse(message: str) -> int:
    _say(f"error: {message}")
    return MENDABLE


def _say(message: str) -> None:
    sys.stdout.flush()
    print(message, file=sys.stderr)


def _forget(stream: TextIO) -> None:
    """Nobody reads this stream any more: what Python still flushes at its end goes nowhere."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)
