"""Where the networks run: device, threads, and the model by name, with errors a user can act on."""

from __future__ import annotations

import contextlib
import ctypes
import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import click

from nvc_cli.errors import NvcError
from nvc_cli.limits import MAX_PIXELS

if TYPE_CHECKING:
    import torch

    from models.weights import DecoderModel, EncoderModel, Model


def runtime_options(command: Callable) -> Callable:
    """The options --device and --threads."""
    command = click.option("--threads", type=click.IntRange(1), default=None, help="CPU threads. [default: all cores]")(command)
    return click.option(
        "--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True, help="Where to run; auto takes CUDA when there is one."
    )(command)


max_pixels_option = click.option(
    "--max-pixels", type=click.IntRange(1), default=MAX_PIXELS, show_default=True, metavar="N", help="Decode no pictures of more luma samples than this."
)

effort_option = click.option(
    "--effort", type=click.Choice(["fast", "medium", "slow", "placebo"]), default="medium", show_default=True,
    help="How long the encoder thinks: fast takes about half of medium's time, slow three times, placebo five times as long.",
)

profile_option = click.option("--profile", "profiling", is_flag=True, help="Tell at the end where the time went, stage by stage.")


def choose_device(name: str, threads: int | None) -> torch.device:
    """Set the number of threads, and turn `auto`, `cpu` or `cuda` into a device.

    Raises:
        NvcError: CUDA was asked for and there is none.
    """
    import torch

    _prepare_process(threads)
    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise NvcError("--device cuda: PyTorch finds no CUDA device here; use --device cpu, or check the driver")
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    return torch.device("cuda" if name == "cuda" or (name == "auto" and available) else "cpu")


def load_model(name: str, device: torch.device) -> Model:
    """The shipped model of this name, or the one in a .safetensors file.

    Raises:
        NvcError: there is no such model.
    """
    from models.weights import load

    with _loading():
        return load(name, device)


def load_decoder(name: str, device: str, threads: int | None, enhance: bool = False) -> Model | DecoderModel:
    """A model to decode with, as `load_model` takes it, on the device `auto`, `cpu` or `cuda` with so many threads.

    PyTorch is loaded only where there is, or may be, a GPU, and where loops cannot be compiled.

    Raises:
        NvcError: there is no such model or device.
    """
    from models.weights import load_decoder as load

    with _loading():
        place = _place(device, threads)
        return load_model(name, place) if place else load(name, enhance)


def load_encoder(name: str, device: str, threads: int | None) -> Model | EncoderModel:
    """A model to encode with; as `load_decoder`."""
    from models.weights import load_encoder as load

    with _loading():
        place = _place(device, threads)
        return load_model(name, place) if place else load(name)


def _place(device: str, threads: int | None) -> torch.device | None:
    """Where PyTorch is to code, or None for a processor's compiled loops; sets the number of threads. A GPU that nobody asked for is left alone where PyTorch is not installed."""
    from models.compiled.codec import is_compiled

    if device == "cuda" or not is_compiled() or (device == "auto" and _may_have_gpu() and find_spec("torch") is not None):
        place = choose_device(device, threads)
        return place if place.type == "cuda" or not is_compiled() else None
    _prepare_process(threads)
    return None


@contextlib.contextmanager
def _loading() -> Iterator[None]:
    """Errors of loading a model as an NvcError; and a line for people where loops are not compiled yet."""
    from models.kernels import Kernel

    if sys.stderr.isatty():
        Kernel.announce = _announce
    try:
        yield
    except ValueError as error:  # WeightsError among them
        raise NvcError(str(error)) from error


def _announce() -> None:
    click.echo("nvc compiles its loops for this processor, which takes half a minute, once", err=True)


def _may_have_gpu() -> bool:
    """Whether there is a driver for one; only PyTorch knows if it can use it."""
    if Path("/dev/kfd").exists():  # of AMD
        return True
    for name in ("libcuda.so.1", "nvcuda.dll"):
        with contextlib.suppress(OSError):
            ctypes.CDLL(name)
            return True
    return False


def stream_model(name: str, given: str | None) -> str:
    """The model to decode a stream with: the one given, or the one of the package that the stream names. A stream never names a file.

    Raises:
        NvcError: the stream names no model of a package.
    """
    if given is None and name.endswith(".safetensors"):
        raise NvcError(f"the stream names the model {name!r}, which is none of the package; give the file by --model")
    return given or name


def ready_encoder(model: Model | DecoderModel | str, device: torch.device | str | None) -> Model | EncoderModel:
    """What encodes with a model that may be given by name; a named one goes to a CUDA device if there is one, unless told otherwise.

    Raises:
        NvcError: there is no such model, or it was loaded to decode only.
    """
    from models.weights import EncoderModel, Model, in_loops

    if isinstance(model, str):
        if device and not isinstance(device, str) and device.type == "cuda":
            return load_model(model, device)
        return load_encoder(model, device_name(device), None)
    if isinstance(model, Model):
        return in_loops(model)
    if isinstance(model, EncoderModel):
        return model
    raise NvcError(f"the model {model.name} was loaded to decode only; load it with load_encoder")


def device_name(device: torch.device | str | None) -> str:
    """auto, cpu or cuda."""
    return "auto" if device is None else str(device).partition(":")[0]


def _prepare_process(threads: int | None) -> None:
    """Set the number of threads, if one is given, and how memory is kept."""
    from models.kernels.threads import use_threads

    _keep_freed_memory()
    if threads is not None:
        use_threads(threads)


def _keep_freed_memory() -> None:
    """Let glibc keep the large buffers that are freed and taken again for every frame.

    By default it gives them to the system each time, and the page faults on taking them anew cost a large part of a
    frame's time. Elsewhere than on glibc nothing happens.
    """
    trim_threshold, mmap_threshold = -1, -3  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of malloc.h
    if sys.platform.startswith("linux"):
        with contextlib.suppress(OSError, AttributeError):
            libc = ctypes.CDLL(None)
            libc.mallopt(mmap_threshold, 1 << 25)  # it takes no more
            libc.mallopt(trim_threshold, 1 << 30)
