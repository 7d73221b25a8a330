"""VMAF of decoded raw video, by the filter libvmaf of an ffmpeg program."""

from __future__ import annotations

import json
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from nvc_cli.errors import NvcError
from nvc_cli.ffmpeg import find_program

MODELS = {"vmaf": "vmaf_v0.6.1", "neg": "vmaf_v0.6.1neg"}


@dataclass(frozen=True)
class Vmaf:
    """Means over frames, 0 to 100. `neg` is of the model that gives no credit for enhancement of the picture."""

    vmaf: float
    neg: float


def vmaf_program() -> str:
    """The path of an ffmpeg that has libvmaf. NvcError if there is none."""
    return find_program("filter", "libvmaf", "leave --vmaf away")


def sequence_vmaf(reference: Path, decoded: Path, width: int, height: int, threads: int) -> Vmaf:
    """VMAF of a raw 8-bit 4:2:0 clip against another of the same size and length. NvcError if ffmpeg fails."""
    raw = ["-f", "rawvideo", "-pix_fmt", "yuv420p", "-s", f"{width}x{height}", "-r", "25"]
    models = "|".join(rf"version={version}\\:name={name}" for name, version in MODELS.items())
    with tempfile.TemporaryDirectory(prefix="nvc-vmaf-") as folder:
        graph = f"libvmaf=log_fmt=json:log_path=vmaf.json:n_threads={threads}:model={models}"
        inputs = [*raw, "-i", str(decoded.resolve()), *raw, "-i", str(reference.resolve())]
        command = [vmaf_program(), "-hide_banner", "-loglevel", "error", "-nostdin", *inputs, "-lavfi", graph, "-f", "null", "-"]
        result = subprocess.run(command, check=False, cwd=folder, capture_output=True, text=True, errors="replace", stdin=subprocess.DEVNULL)
        log = Path(folder, "vmaf.json")
        if result.returncode or not log.exists():
            words = result.stderr.strip().splitlines() or [f"code {result.returncode}"]
            raise NvcError(f"libvmaf failed ({words[-1]}); leave --vmaf away")
        pooled = json.loads(log.read_text())["pooled_metrics"]
    return Vmaf(**{name: pooled[name]["mean"] for name in MODELS})
