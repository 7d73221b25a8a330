"""examples/cluster.py: encoding with Dask, where it is installed."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from nvc_cli.frame import Frame, VideoInfo
from nvc_cli.main import main
from nvc_cli.video import open_writer

distributed = pytest.importorskip("distributed")

ROOT = Path(__file__).parents[1]


def test_two_workers_write_what_nvc_encode_does(weights_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from examples.cluster import main as encode

    monkeypatch.setenv("PYTHONPATH", str(ROOT))  # of the workers
    source, out = tmp_path / "clip.y4m", tmp_path / "out.nvc"
    noise = np.random.default_rng(0).integers(0, 255, (32, 60), np.uint8)
    with open_writer(str(source), VideoInfo(48, 32, Fraction(25))) as writer:
        for t in range(5):
            writer.write(Frame(noise[:, t : t + 48], noise[::2, t : t + 24], noise[::2, t : t + 24]))
    options = ["--keyint", "2", "--model", str(weights_file), "--threads", "1"]
    result = CliRunner().invoke(main, ["encode", str(source), "-o", str(tmp_path / "whole.nvc"), *options])
    assert result.exit_code == 0, result.stderr

    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        result = CliRunner().invoke(encode, [str(source), "-o", str(out), "--scheduler", cluster.scheduler_address, *options])
    assert result.exit_code == 0, (result.stderr, result.exception)
    assert out.read_bytes() == (tmp_path / "whole.nvc").read_bytes()
