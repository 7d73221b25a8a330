"""The annotations of both packages, as mypy reads them with the settings of pyproject.toml."""

from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def test_mypy_finds_nothing_in_both_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    api = pytest.importorskip("mypy.api")
    monkeypatch.chdir(ROOT)
    found, failed, status = api.run(["--config-file", "pyproject.toml", "--cache-dir", str(tmp_path), "-p", "models", "-p", "nvc_cli"])
    assert status == 0, f"{found}{failed}"
