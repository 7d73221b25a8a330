"""All that a figure of `nvc compare` depends on besides the clip itself: figures are set side by side only where this is the same."""

from __future__ import annotations

import hashlib
import os
import platform
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from nvc_cli import __version__
from nvc_cli.errors import NvcError
from nvc_cli.ffmpeg import find_program
from nvc_cli.ffmpeg import version as program_version
from nvc_cli.measure import Settings

Conditions = dict[str, Any]


def conditions(settings: Settings, clips: list[str]) -> Conditions:
    """What was asked for, the program that does it, and the machine; plain values, which JSON can hold.

    NvcError if the model, an encoder or the metric that is asked for is not there.
    """
    programs = {program_version(p) for p in (a.program() for a in settings.anchors) if p}
    if settings.vmaf:
        programs.add(program_version(find_program("filter", "libvmaf", "leave --vmaf away")))
    return {
        "clips_asked": clips,
        "frames": settings.frames,
        "qps": list(settings.qps),
        "model": settings.model,
        "weights": _weights(settings.model) if settings.qps else None,
        "filter": settings.filter,
        "decision": settings.decision,
        "effort": settings.effort,
        "references": settings.references,
        "enhance": settings.enhance,
        "vmaf": settings.vmaf,
        "threads": settings.threads,
        "anchors": {a.name: a.summary for a in settings.anchors},
        "anchor_settings": {a.name: f"{a.settings} {a.scale}={','.join(map(str, a.qualities))}" for a in settings.anchors},
        "versions": _versions() | ({"ffmpeg": ", ".join(sorted(programs))} if programs else {}),
        "machine": {"processor": _processor(), "cores": os.cpu_count(), "system": f"{platform.system()} {platform.machine()}"},
    }


def differences(before: Any, now: Any, name: str = "") -> Iterator[str]:
    """What differs between two sets of conditions, in words."""
    if isinstance(before, dict) and isinstance(now, dict):
        for key in dict.fromkeys([*before, *now]):
            yield from differences(before.get(key), now.get(key), f"{name} {key}".strip())
    elif before != now:
        yield f"{name} {_brief(before)}, now {_brief(now)}"


def _brief(value: Any) -> str:
    if value is None:
        return "none"
    text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _weights(model: str) -> str:
    """SHA-256 of the weights file, beginning."""
    from models.weights import WeightsError, locate

    try:
        return hashlib.sha256(locate(model).read_bytes()).hexdigest()[:16]
    except WeightsError as error:
        raise NvcError(str(error)) from None
    except OSError as error:
        raise NvcError(f"cannot read {model}: {(error.strerror or str(error)).lower()}; give the path of a weights file") from None


def _versions() -> dict[str, str]:
    import av

    codec = ".".join(map(str, av.library_versions["libavcodec"]))
    return {
        "nvc": __version__,
        "program": _program_hash(),
        "python": platform.python_version(),
        **{name: _version(name) for name in ("torch", "numba", "numpy")},
        "av": f"{_version('av')} with libavcodec {codec}",
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:  # a processor codes without PyTorch
        return "none"


def _program_hash() -> str:
    """SHA-256 of all Python files of the program, beginning: between releases, too, figures of two programs are not mixed."""
    digest, root = hashlib.sha256(), Path(__file__).parents[1]
    for file in sorted(file for package in ("models", "nvc_cli") for file in (root / package).rglob("*.py")):
        digest.update(f"{file.relative_to(root)}\0".encode() + file.read_bytes())
    return digest.hexdigest()[:16]


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or "unknown"
