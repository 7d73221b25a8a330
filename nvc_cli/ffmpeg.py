"""A program `ffmpeg`, for the encoders and metrics that the libraries inside PyAV lack: the one that the package
imageio-ffmpeg brings, or the system's own, whichever has what is asked for."""

from __future__ import annotations

import re
import shutil
import subprocess
from functools import lru_cache
from typing import Literal

from nvc_cli.errors import NvcError

Kind = Literal["encoder", "filter"]


def find_program(kind: Kind, name: str, way_out: str) -> str:
    """The path of an ffmpeg that has this encoder or filter, as `ffmpeg -encoders` and `-filters` list them.

    NvcError if none has; `way_out` is what else the user can do, as in "leave vvenc out".
    """
    seen = programs()
    for program in seen:
        if name in listed(program, kind):
            return program
    looked = f"not in {' or '.join(seen)}" if seen else "there is no ffmpeg at all"
    raise NvcError(f"no ffmpeg with the {kind} {name} was found ({looked}); pip install '.[compare]' brings one, or {way_out}")


def programs() -> list[str]:
    """The paths of all ffmpeg that are looked at, the preferred one first."""
    found = [_of_imageio(), shutil.which("ffmpeg")]
    return [program for program in found if program]


def _of_imageio() -> str | None:
    try:
        import imageio_ffmpeg

        return imageio_ffmpeg.get_ffmpeg_exe()
    except (ImportError, RuntimeError):  # not installed, or it has no program for this machine
        return None


@lru_cache
def listed(program: str, kind: Kind) -> frozenset[str]:
    """The names of all encoders or filters that a program has; none if it does not run."""
    lines = _output(program, "-hide_banner", f"-{kind}s").splitlines()
    return frozenset(words[1] for words in map(str.split, lines) if len(words) > 2 and words[1] != "=")


@lru_cache
def version(program: str) -> str:
    """The version that a program says it is, "unknown" if it says none."""
    match = re.match(r"ffmpeg version (\S+)", _output(program, "-version"))
    return match[1] if match else "unknown"


def _output(program: str, *arguments: str) -> str:
    try:
        return subprocess.run([program, *arguments], check=False, capture_output=True, text=True, errors="replace", stdin=subprocess.DEVNULL).stdout
    except OSError:
        return ""
