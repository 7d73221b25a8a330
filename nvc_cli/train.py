"""`nvc train`: a folder of videos into weights."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from nvc_cli.completion import folders, models
from nvc_cli.errors import NvcError
from nvc_cli.files import check_target
from nvc_cli.runtime import choose_device, runtime_options

if TYPE_CHECKING:
    from models.parallel import Group
    from models.training import Settings, Trainer
    from models.weights import Contents


@click.command()
@click.argument("folder", type=click.Path(path_type=Path), shell_complete=folders)
@click.option("-o", "--output", "target", required=True, type=click.Path(path_type=Path), metavar="OUT.safetensors",
              help="Where the weights go; the model card goes to OUT.md beside it.")  # fmt: skip
@click.option("--model", type=click.Choice(["tiny", "base"]), default="tiny", show_default=True,
              help="Size of the networks; base wants a GPU.")  # fmt: skip
@click.option("--from", "begin", metavar="NAME|FILE", shell_complete=models, help="Weights to begin with: a model of the package or a .safetensors file; those of tiny can grow into base.")  # fmt: skip
@click.option("--minutes", type=click.FloatRange(0, min_open=True), default=60.0, show_default=True, help="Length of the whole schedule.")
@click.option("--pause", type=click.FloatRange(0), default=None, metavar="M", help="Stop after M minutes of this run; the same command goes on.")
@click.option("--stages", default="", metavar="A,B,...", help="Only these stages: intra, pairs, short, medium, long, exact, motion, enhancer.  [default: all]")
@click.option("--checkpoint", type=click.Path(path_type=Path), metavar="FILE", help="What training goes on from.  [default: OUT.ckpt]")
@click.option("--compile/--no-compile", "compiled", default=True, show_default=True,
              help="Compile element-wise functions: a minute or two once, then about a fifth faster.")  # fmt: skip
@click.option("--rate", type=click.FloatRange(0, min_open=True), default=1.0, show_default=True,
              help="Learning rates in parts of the schedule's; about 0.5 to go on from trained weights.")  # fmt: skip
@click.option("--batch", type=click.IntRange(1), metavar="N", help="Chains of frames in a batch at most; about 4 to train base where there is no GPU.  [default: the schedule's]")
@click.option("--chain", type=click.IntRange(3), metavar="N", help="Frames in a chain at most, 3 or more; shorter ones take less memory.  [default: the schedule's]")
@click.option("--seed", type=int, default=1, show_default=True, help="Of a new training's random numbers.")
@click.option("--log", "log_file", type=click.Path(path_type=Path), metavar="FILE", help="Append the log to a file, too.")
@click.option("-y", "--overwrite", is_flag=True, help="Overwrite an OUT that no checkpoint belongs to.")
@runtime_options
@click.pass_context
def command(
    ctx: click.Context,
    folder: Path,
    target: Path,
    model: str,
    begin: str | None,
    minutes: float,
    pause: float | None,
    stages: str,
    checkpoint: Path | None,
    compiled: bool,
    rate: float,
    batch: int | None,
    chain: int | None,
    seed: int,
    log_file: Path | None,
    overwrite: bool,
    device: str,
    threads: int | None,
) -> None:
    """Train a model on a folder of videos.

    All videos below FOLDER are decoded into memory. Weights, model card and checkpoint are written every few minutes,
    at the end, and on Ctrl-C. The same command goes on from the checkpoint, with a larger --minutes also after the end
    of the schedule; delete the checkpoint to start anew. Use the weights with `nvc encode --model OUT.safetensors`.

    On several GPUs, or machines: `torchrun --nproc-per-node N -m -- nvc_cli train ...`, where each process learns from crops of its own.
    """
    if target.suffix != ".safetensors":
        raise click.BadParameter(f"{str(target)!r} does not end in .safetensors", param_hint="-o")
    checkpoint = checkpoint or target.with_suffix(".ckpt")
    resuming = checkpoint.exists()
    check_target(target, overwrite or resuming)
    check_target(checkpoint, True)
    if not folder.is_dir():
        raise NvcError(f"{folder}: there is no such folder; give a folder of videos")
    place = choose_device(device, threads)

    with ExitStack() as stack:
        from models.parallel import joined
        from models.training import Settings

        stack.enter_context(_disk_errors())
        try:
            group = stack.enter_context(joined(place))
        except ValueError as error:
            raise NvcError(str(error)) from error
        log = stack.enter_context(_log(log_file)) if group.first else _silent

        chosen = tuple(name.strip() for name in stages.split(",") if name.strip())
        settings = Settings(model, minutes, pause, checkpoint, place, chosen, compiled, rate, seed, batch, chain)
        try:
            trainer, publish = _prepare(settings, folder, target, begin, log, group)
        except ValueError as error:  # the models say in one sentence what does not fit
            raise NvcError(str(error)) from error
        if resuming:
            log(f"going on from {checkpoint}: {trainer.progress.seconds / 60:.1f} of {minutes:g} minutes are done")
            if begin:
                log("--from is for the start of a training; what the checkpoint holds is newer")
        if group.size > 1:
            log(f"{group.size} processes train together")
        if trainer.finished:
            if group.first:
                publish(trainer)
            log(f"nothing left to do: the schedule of {minutes:g} minutes has ended, its weights are in {target}; a larger --minutes goes on")
            return
        with _signals(group.first) as caught:
            trainer.run(stop=lambda: bool(caught))
        state = "the schedule has ended" if trainer.finished else "stopped, and the same command goes on"
        log(f"{state}: {trainer.progress.seconds / 60:.1f} of {minutes:g} minutes are done, weights are in {target}")
    if caught:
        ctx.exit(128 + caught[0])


def _prepare(
    settings: Settings, folder: Path, target: Path, begin: str | None, log: Callable[[str], None], group: Group
) -> tuple[Trainer, Callable[[Trainer], None]]:
    """A trainer on the videos of a folder, and what writes its weights and card."""
    from models import card, weights
    from models.clips import Clips
    from models.machine import device_name
    from models.training import Trainer

    stages = settings.schedule  # a wrong name is told before the videos are read
    clips = Clips(folder, settings.device, _progress_bar if group.first else None)
    log(f"{folder}: {clips.summary}")
    costs = card.complexity(settings.preset)

    initial = _initial(begin) if begin else None

    def publish(trainer: Trainer) -> None:
        weights.save(trainer.finished_codec(), target, trainer.originals)
        history = card.History(
            folder=folder.resolve().name,
            clips=len(clips.clips),
            frames=clips.frames,
            stages=stages,
            progress=trainer.progress,
            minutes=settings.minutes,
            device=device_name(settings.device),
            began=begin,
        )
        card.write_card(target.with_suffix(".md"), settings.preset, costs, history)

    return Trainer(settings, clips, log, initial, publish, group), publish


def _initial(name: str) -> Contents:
    """The weights to begin with."""
    from models.weights import WeightsError, locate, read

    try:
        return read(locate(name))
    except WeightsError as error:
        raise NvcError(str(error)) from error


@contextmanager
def _disk_errors() -> Iterator[None]:
    """Errors of the disk as those of the command line."""
    try:
        yield
    except OSError as error:
        name = f"{error.filename}: " if error.filename else ""
        raise NvcError(f"{name}{(error.strerror or str(error)).lower()}; make room or choose another place, and go on from the checkpoint") from error


@contextmanager
def _log(path: Path | None) -> Iterator[Callable[[str], None]]:
    """What writes a line to stderr, and to a file if one is given."""
    with ExitStack() as stack:
        file = None
        if path:
            try:
                file = stack.enter_context(path.open("a", encoding="utf-8", buffering=1))
            except OSError as error:
                raise NvcError(f"cannot write {path}: {(error.strerror or str(error)).lower()}; choose another place for --log") from None

        def log(line: str) -> None:
            click.echo(line, err=True)
            if file:
                file.write(line + "\n")

        yield log


def _silent(line: str) -> None:
    """The log of all processes but the first."""


@contextmanager
def _signals(tell: bool) -> Iterator[list[int]]:
    """A list that gets the number of the signal by which the process is asked to end, which people are told; a second signal ends it at once."""
    caught: list[int] = []
    before: dict[int, signal._HANDLER] = {}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def catch(number: int, _frame: object) -> None:
        caught.append(number)
        restore()
        if tell:
            click.echo("stopping after this step; once more to stop at once", err=True)

    for number in (signal.SIGINT, signal.SIGTERM):
        before[number] = signal.signal(number, catch)
    try:
        yield caught
    finally:
        restore()


def _progress_bar(clips: Iterable, count: int) -> Iterable:
    from tqdm import tqdm

    return tqdm(clips, total=count, desc="reading clips", unit="clip", disable=None)
