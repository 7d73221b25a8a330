"""What is installed is all that there is."""

from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def test_every_package_is_installed() -> None:
    tomllib = pytest.importorskip("tomllib")
    told = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    found = {".".join(path.parent.relative_to(ROOT).parts) for top in ("nvc_cli", "models") for path in (ROOT / top).rglob("__init__.py")}
    assert found | set(told["package-dir"]) == set(told["packages"])
