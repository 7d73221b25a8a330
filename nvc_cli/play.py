"""`nvc play`: an .nvc stream through a video player."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from fractions import Fraction
from pathlib import Path

import click

from nvc_cli.completion import files
from nvc_cli.decode import Time
from nvc_cli.decode import command as decode
from nvc_cli.errors import NvcError
from nvc_cli.runtime import max_pixels_option, runtime_options

PLAYERS = {"ffplay": ("-v", "error", "-autoexit", "-"), "mpv": ("--no-terminal", "-")}
"""Players that are looked for, in this order, with what they must be told to play their standard input."""


@click.command()
@click.argument("source", metavar="IN.nvc", shell_complete=files)
@click.argument("words", metavar="[-- WORD...]", nargs=-1)
@click.option("--enhance", is_flag=True, help="Apply the out-of-loop filter: better pictures, in more time.")
@click.option("--start", type=Time(), default="0", metavar="T", help="Begin at this time: seconds, or [HH:]MM:SS.")
@click.option("--with", "program", default=None, metavar="PROGRAM", help=f"The player.  [default: the first there is of {', '.join(PLAYERS)}]")
@click.option("--model", default=None, metavar="FILE", help="Weights for streams of models that are not in the package.")
@max_pixels_option
@runtime_options
@click.pass_context
def command(
    ctx: click.Context,
    source: str,
    words: tuple[str, ...],
    enhance: bool,
    start: Fraction,
    program: str | None,
    model: str | None,
    max_pixels: int,
    device: str,
    threads: int | None,
) -> None:
    """Show an .nvc stream in ffplay or mpv, as it is decoded; IN.nvc may be - for a stream that arrives through a pipe.

    Words after -- go to the player. Pictures only: for sound, decode into a container. Closing the player ends it all.
    """
    name, path = _find(program)
    player = subprocess.Popen([path, *words, *PLAYERS.get(Path(name).name, ("-",))], stdin=subprocess.PIPE)
    assert player.stdin
    try:
        with contextlib.suppress(BrokenPipeError):  # the player was closed
            target = f"/dev/fd/{player.stdin.fileno()}"
            ctx.invoke(
                decode, source=source, target=target, enhance=enhance, start=start, model=model, max_pixels=max_pixels, device=device, threads=threads
            )
        player.stdin.close()
        if code := player.wait():
            raise NvcError(f"{name} ended with code {code}; its own messages say why, or try another player by --with")
    finally:
        with contextlib.suppress(BrokenPipeError):
            player.stdin.close()
        player.wait()


def _find(program: str | None) -> tuple[str, str]:
    """The name of a player, and where it is. NvcError if it is not there."""
    for name in [program] if program else PLAYERS:
        if path := shutil.which(name):
            return name, path
    if program:
        raise NvcError(f"there is no program {program}; give another player by --with")
    raise NvcError("there is no player here; install ffmpeg (for ffplay) or mpv, or name another by --with, or decode into a file with nvc decode")
