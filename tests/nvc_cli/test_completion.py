"""Shell completion: what it offers, through click and in a real bash, and that it imports nothing slow."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.shell_completion import ShellComplete, get_completion_class

from models.weights import shipped
from nvc_cli.anchors import ANCHORS
from nvc_cli.main import COMMANDS, main

ROOT = Path(__file__).parent.parent.parent
SHELLS = ("bash", "zsh", "fish")


def complete(*words: str) -> list[tuple[str, str]]:
    """The types and values that are offered for the last of the words behind `nvc`."""
    *before, incomplete = words
    return [(item.type, item.value) for item in ShellComplete(main, {}, "nvc", "_NVC_COMPLETE").get_completions(before, incomplete)]


def plain(*words: str) -> list[str]:
    return [value for kind, value in complete(*words) if kind == "plain"]


@pytest.fixture(scope="module")
def nvc(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment with the command `nvc`, as pip would install it."""
    folder = tmp_path_factory.mktemp("bin")
    script = folder / "nvc"
    script.write_text(f"#!{sys.executable}\nfrom nvc_cli.main import main\n\nmain()\n")
    script.chmod(0o755)
    return {**os.environ, "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}


def test_commands_with_their_help() -> None:
    assert plain("") == list(COMMANDS)
    assert plain("de") == ["decode", "demo"]
    items = ShellComplete(main, {}, "nvc", "_NVC_COMPLETE").get_completions([], "enc")
    assert [(item.value, item.help) for item in items] == [("encode", COMMANDS["encode"])]
    assert {"--help", "--version"} <= set(plain("--"))


@pytest.mark.parametrize("command", COMMANDS)
def test_options_of_every_command(command: str) -> None:
    assert "--help" in plain(command, "-")


def test_options_that_are_set_are_not_offered_again() -> None:
    assert "--qp" in plain("encode", "in.mkv", "--")
    assert "--qp" not in plain("encode", "in.mkv", "--qp", "3", "--")
    assert plain("encode", "--no-s") == ["--no-scenecut"]


def test_choices() -> None:
    assert plain("encode", "--filter", "") == ["auto", "on", "off"]
    assert plain("encode", "--filter", "o") == ["on", "off"]
    assert plain("decode", "--device", "c") == ["cpu", "cuda"]
    assert plain("train", "--model", "") == ["tiny", "base"]


@pytest.mark.parametrize("words", [("encode", "--model"), ("decode", "--model"), ("compare", "--model"), ("demo", "--model"), ("train", "--from")])
def test_models_behind_files(words: tuple[str, ...]) -> None:
    assert complete(*words, "") == [("file", ""), *(("plain", name) for name in shipped())]
    assert complete(*words, "ti") == [("file", "ti"), *(("plain", name) for name in shipped() if name.startswith("ti"))]
    assert complete(*words, "./my") == [("file", "./my")]


def test_files_and_folders() -> None:
    for words in (["encode"], ["encode", "in.mkv", "-o"], ["encode", "--recon"], ["decode"], ["decode", "-o"], ["info"], ["compare"], ["train", "--log"]):
        assert complete(*words, "some") == [("file", "some")], words
    for words in (["train"], ["compare", "-o"], ["demo", "--output"]):
        assert complete(*words, "some") == [("dir", "some")], words


def test_anchors_one_after_the_other() -> None:
    names = [anchor.name for anchor in ANCHORS]
    assert plain("compare", "--anchors", "") == names
    assert plain("compare", "--anchors", f"{names[0]},") == [f"{names[0]},{name}" for name in names[1:]]


def test_nothing_for_what_is_no_command() -> None:
    assert complete("nonsense", "") == complete("")
    assert complete("encode", "--frames", "") == []


def test_completion_imports_nothing_slow() -> None:
    code = (
        "import sys; from click.shell_completion import ShellComplete; from nvc_cli.main import COMMANDS, main\n"
        "shell = ShellComplete(main, {}, 'nvc', '_NVC_COMPLETE')\n"
        "shell.get_completions([], '')\n"
        "assert not {f'nvc_cli.{name}' for name in COMMANDS} & set(sys.modules)\n"
        "for name in COMMANDS:\n"
        "    for before, incomplete in (([], ''), ([], '--'), (['--model'], ''), (['--qp', '3', 'x', '-o', 'y'], '-')):\n"
        "        shell.get_completions([name, *before], incomplete)\n"
        "sys.exit(' '.join({'torch', 'av', 'scipy', 'matplotlib', 'PIL', 'safetensors'} & set(sys.modules)) or 0)"
    )
    result = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True, cwd=ROOT)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("shell", SHELLS)
def test_every_shell_has_a_script_and_answers(shell: str, nvc: dict[str, str]) -> None:
    kind = get_completion_class(shell)
    assert kind is not None
    completion = kind(main, {}, "nvc", "_NVC_COMPLETE")
    if shell != "bash":  # whose version is asked for first
        assert f"_NVC_COMPLETE={shell}_complete" in completion.source()
    words = {"COMP_WORDS": "nvc encode --filter o", "COMP_CWORD": "o" if shell == "fish" else "3", "_NVC_COMPLETE": f"{shell}_complete"}
    result = subprocess.run(["nvc"], env={**nvc, **words}, check=False, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert [part for part in result.stdout.replace(",", "\n").split("\n") if part in ("on", "off")] == ["on", "off"]


BASH = """
eval "$(_NVC_COMPLETE=bash_source nvc)"
compopt() { echo "compopt $1 $2"; }  # bash takes it only while it completes
COMP_WORDS=("$@")
COMP_CWORD=$(($# - 1))
$(complete -p nvc | sed 's/.*-F \\([^ ]*\\) .*/\\1/') nvc
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["de"], ["decode", "demo"]),
        (["encode", "--filter", "o"], ["on", "off"]),
        (["encode", "--model", "ti"], ["compopt -o default", *(name for name in shipped() if name.startswith("ti"))]),
        (["decode", "some"], ["compopt -o default", ""]),
        (["demo", "-o", ""], ["compopt -o dirnames", ""]),
    ],
)
def test_bash(words: list[str], offered: list[str], nvc: dict[str, str]) -> None:
    result = subprocess.run(["bash", "--norc", "-c", BASH, "bash", "nvc", *words], env=nvc, check=False, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert result.stdout.split("\n")[:-1] == offered, result.stderr
