"""The command group: lazy commands, exit codes, one-line errors, closed pipes."""

from __future__ import annotations

import os
import subprocess
import sys
import types
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from nvc_cli import __version__
from nvc_cli.errors import NvcError
from nvc_cli.frame import Color
from nvc_cli.main import COMMANDS, main
from nvc_cli.stream import Header, Packet, StreamWriter

ROOT = Path(__file__).parents[2]
NVC = [sys.executable, "-m", "nvc_cli"]


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> Callable[[BaseException], None]:
    """Replaces `nvc demo` by a command that raises."""

    def replace(error: BaseException) -> None:
        @click.command()
        def command() -> None:
            raise error

        module = types.ModuleType("nvc_cli.demo")
        module.command = command
        monkeypatch.setitem(sys.modules, "nvc_cli.demo", module)

    return replace


def test_help_names_every_command() -> None:
    for flag in ("--help", "-h"):
        result = invoke(flag)
        assert result.exit_code == 0
        for name, text in COMMANDS.items():
            assert f"  {name}" in result.stdout
            assert text in result.stdout


def test_help_imports_no_command() -> None:
    heavy = {"numpy", "torch", "av", *(f"nvc_cli.{name}" for name in COMMANDS)}
    code = (
        "import sys; from nvc_cli.main import main; main(['--help'], standalone_mode=False); "
        f"sys.exit(' '.join({heavy} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout and result.stderr.strip() == ""


def test_version() -> None:
    result = invoke("--version")
    assert (result.exit_code, result.stdout) == (0, f"nvc, version {__version__}\n")


@pytest.mark.parametrize("arguments", [["nonsense"], ["--nonsense"], ["info"], ["info", "a", "b"], ["info", "--nonsense"]])
def test_wrong_usage_exits_2(arguments: list[str]) -> None:
    result = invoke(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "Usage:" in result.stderr


def test_an_nvc_error_is_one_line(stub: Callable[[BaseException], None]) -> None:
    stub(NvcError("a.mp4 is wrong; use b.mp4"))
    result = invoke("demo")
    assert (result.exit_code, result.stdout, result.stderr) == (1, "", "nvc: a.mp4 is wrong; use b.mp4\n")


def test_other_errors_are_faults_of_ours_and_stay_visible(stub: Callable[[BaseException], None]) -> None:
    stub(ValueError("a bug"))
    assert isinstance(invoke("demo").exception, ValueError)


def test_interruption_is_quiet(stub: Callable[[BaseException], None]) -> None:
    stub(KeyboardInterrupt())
    result = invoke("demo")
    assert (result.exit_code, result.stdout, result.stderr) == (130, "", "")


def test_an_interruption_inside_exec_is_handled_all_the_same(tmp_path: Path) -> None:
    """Python itself would end `python -m` by the signal then, as where a class of data is made by Python's library."""
    (tmp_path / "interrupted.py").write_text(
        "import signal, nvc_cli.info, nvc_cli.main\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "nvc_cli.info.command.callback = lambda **_: exec('import os; os.kill(os.getpid(), signal.SIGINT)')\n"
        "nvc_cli.main.main()\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])}
    result = subprocess.run([sys.executable, "-m", "interrupted", "info", "-"], env=environment, capture_output=True)
    assert (result.returncode, result.stdout, result.stderr) == (130, b"", b"")


def test_a_closed_pipe_is_quiet(stub: Callable[[BaseException], None]) -> None:
    stub(BrokenPipeError())
    result = invoke("demo")
    assert (result.exit_code, result.stdout, result.stderr) == (1, "", "")


def test_a_reader_that_leaves_early_causes_no_traceback(tmp_path: Path) -> None:
    path = tmp_path / "long.nvc"
    header = Header(16, 16, Fraction(30), Color(2, 2, 2, False), Fraction(1), "yuv420p", "tiny", bytes(8))
    with path.open("wb") as file, StreamWriter(file, header) as writer:
        for _ in range(5000):  # more lines than a pipe holds
            writer.write(Packet(True, 0, False, False, False, bytes(7) + b"\x01", 0))
    with subprocess.Popen([*NVC, "info", str(path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stderr is not None
        assert process.stdout.readline().startswith(str(path).encode())
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(20) == 1


def test_run_as_a_module() -> None:
    assert subprocess.run([*NVC, "--version"], capture_output=True).returncode == 0
    result = subprocess.run([*NVC, "info", "missing.nvc"], capture_output=True, text=True)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith("nvc: missing.nvc cannot be opened (")
    result = subprocess.run([*NVC, "info", "-"], input=b"", capture_output=True)
    assert (result.returncode, len(result.stderr.splitlines())) == (1, 1)


def test_what_is_not_installed_is_named(tmp_path: Path) -> None:
    """A processor codes without PyTorch; whoever left it out is told what needs it."""
    code = f"import sys; sys.modules['torch'] = None; from nvc_cli.main import main; main(['encode', '-', '-o', {str(tmp_path / 'a.nvc')!r}, '--device', 'cuda'])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, input="YUV4MPEG2 W16 H16 F25:1\nFRAME\n" + 384 * "a")
    assert (result.returncode, result.stderr) == (1, "nvc: this needs the package torch, which is not installed; install it with `pip install torch`\n")
