"""What the shell offers for the values of options and arguments: files, folders, names. Nothing here imports what codes video."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from importlib.util import find_spec
from pathlib import Path

import click
from click.shell_completion import CompletionItem

Completer = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


def files(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Files of any kind."""
    return [CompletionItem(incomplete, type="file")]


def folders(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Folders."""
    return [CompletionItem(incomplete, type="dir")]


def models(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Models of the package, and files."""
    # Bash's function forgets what came before a file, so that files come first. It offers them where no name fits.
    names = (CompletionItem(name) for name in _shipped() if name.startswith(incomplete))
    return [*files(ctx, param, incomplete), *names]


def listed(names: Iterable[str]) -> Completer:
    """The last of names that commas separate; those that are there already are not offered again."""
    known = tuple(names)

    def complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        before, comma, last = incomplete.rpartition(",")
        return [CompletionItem(before + comma + name) for name in known if name.startswith(last) and name not in before.split(",")]

    return complete


def _shipped() -> list[str]:
    """As `models.weights.shipped`, which has to import PyTorch."""
    package = find_spec("models")
    folders = (package.submodule_search_locations or []) if package else []
    return sorted(path.stem for folder in folders for path in Path(folder).glob("weights/*.safetensors"))
