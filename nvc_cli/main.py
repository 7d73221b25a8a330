"""The `nvc` command: finds the subcommands without importing them, and turns errors into messages and exit codes.

Exit codes: 0 done, 1 an error that one line on stderr names, 2 wrong usage, 130 interrupted from the keyboard, 143 asked to end.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import sys
from collections.abc import Callable, Iterator
from typing import Any

import click
from click.shell_completion import CompletionItem

from nvc_cli import __version__
from nvc_cli.errors import NvcError

COMMANDS = {
    "encode": "Compress a video into an .nvc stream.",
    "decode": "Turn an .nvc stream back into a video.",
    "concat": "Join .nvc streams into one, without decoding them.",
    "play": "Show an .nvc stream in a video player.",
    "info": "Show what an .nvc stream holds, frame by frame.",
    "compare": "Measure nvc against other codecs on your videos.",
    "demo": "Encode, decode and check the clip that comes with nvc.",
    "train": "Train a model on a folder of videos.",
}


class Interrupted(KeyboardInterrupt):
    """What Ctrl-C raises. One of Python's own kind that passes an `exec` is taken for unhandled at the end of `python -m`, whoever has handled it."""


NEEDED_BY_SOME = {"torch": "torch", "scipy": "scipy", "PIL": "pillow"}
"""Modules that a processor codes without, and the packages that have them."""


class LazyGroup(click.Group):
    """A group whose command X is the object `command` in nvc_cli/X.py, imported only when it runs."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        return importlib.import_module(f"nvc_cli.{cmd_name}").command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        commands = [CompletionItem(name, help=text) for name, text in COMMANDS.items() if name.startswith(incomplete)]
        return [*commands, *click.Command.shell_complete(self, ctx, incomplete)]  # that of click.Group would import all commands

    def invoke(self, ctx: click.Context) -> Any:
        _share_cores()
        try:
            with _ending_on_request():
                result = super().invoke(ctx)
                sys.stdout.flush()
            return result
        except NvcError as error:
            click.echo(f"nvc: {error}", err=True)
            ctx.exit(1)
        except ModuleNotFoundError as error:
            package = NEEDED_BY_SOME.get((error.name or "").partition(".")[0])
            if package is None:
                raise
            click.echo(f"nvc: this needs the package {package}, which is not installed; install it with `pip install {package}`", err=True)
            ctx.exit(1)
        except (MemoryError, RuntimeError) as error:
            if not (reason := _want_of_memory(error)):
                raise
            click.echo(f"nvc: {reason}", err=True)
            ctx.exit(1)
        except BrokenPipeError:  # whoever reads our output has had enough
            _silence_stdout()
            ctx.exit(1)
        except KeyboardInterrupt:
            ctx.exit(130)


def _share_cores() -> None:
    """Let the threads of PyTorch's OpenMP wait for each other for some microseconds only, not milliseconds, on cores that compiled loops want."""
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "50000")


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="nvc")
def main() -> None:
    """A neural video codec: compress videos into .nvc streams, and back.

    `nvc COMMAND --help` explains a command. Where a file is asked for, - is standard input or output.
    """


@contextlib.contextmanager
def _ending_on_request() -> Iterator[None]:
    """End as on any error when the system asks for it by SIGTERM, or a person by Ctrl-C, so that part files are removed."""

    def end(number: int, _frame: object) -> None:
        sys.exit(128 + number)

    def interrupt(_number: int, _frame: object) -> None:
        raise Interrupted

    handlers: dict[int, Callable[[int, object], None]] = {signal.SIGTERM: end}
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # not ignored, as where a shell starts something in the background
        handlers[signal.SIGINT] = interrupt
    try:
        before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    except ValueError:  # not the main thread
        yield
        return
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _want_of_memory(error: MemoryError | RuntimeError) -> str | None:
    """A sentence for an error that means that memory is short, None for any other."""
    torch = sys.modules.get("torch")
    if torch and isinstance(error, torch.OutOfMemoryError):
        return "the memory of the GPU does not suffice for pictures of this size; use --device cpu, or end what else runs on it"
    if isinstance(error, MemoryError) or "not enough memory" in str(error) or "can't allocate memory" in str(error):
        return "memory does not suffice for pictures of this size; end what else runs, use fewer --jobs, or take smaller pictures"
    return None


def _silence_stdout() -> None:
    """Point standard output to nowhere, so that flushing its rest at exit does not fail again."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
