import os
import subprocess
import sys
from pathlib import Path

import pytest

from nvc_cli.errors import NvcError
from nvc_cli.files import publish


def test_the_file_appears_at_the_end_and_only_then(tmp_path: Path) -> None:
    target = tmp_path / "out.bin"
    with publish(target) as file:
        file.write(b"whole")
        assert [p.name for p in tmp_path.iterdir()] == [".out.bin.part"]
    assert [p.name for p in tmp_path.iterdir()] == ["out.bin"]
    assert target.read_bytes() == b"whole"


@pytest.mark.parametrize("failure", [ValueError, KeyboardInterrupt])
def test_a_failure_leaves_nothing_behind(tmp_path: Path, failure: type[BaseException]) -> None:
    with pytest.raises(failure), publish(tmp_path / "out.bin") as file:
        file.write(b"half")
        raise failure
    assert list(tmp_path.iterdir()) == []


def test_an_existing_file_is_refused_before_any_work(tmp_path: Path) -> None:
    target = tmp_path / "out.bin"
    target.write_bytes(b"old")
    worked = False
    with pytest.raises(NvcError, match="out.bin exists.*-y"), publish(target):
        worked = True
    assert not worked
    assert target.read_bytes() == b"old"


def test_overwriting_keeps_the_old_file_until_the_new_one_is_whole(tmp_path: Path) -> None:
    target = tmp_path / "out.bin"
    target.write_bytes(b"old")
    with pytest.raises(ValueError), publish(target, overwrite=True) as file:
        file.write(b"half")
        raise ValueError
    assert target.read_bytes() == b"old"
    with publish(target, overwrite=True) as file:
        file.write(b"new")
    assert target.read_bytes() == b"new"


def test_a_file_that_appeared_meanwhile_is_not_overwritten(tmp_path: Path) -> None:
    target = tmp_path / "out.bin"
    with pytest.raises(NvcError, match="exists"), publish(target):
        target.write_bytes(b"faster")
    assert target.read_bytes() == b"faster"
    assert [p.name for p in tmp_path.iterdir()] == ["out.bin"]


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").write_bytes(b"old")
    (tmp_path / "link").symlink_to("real")
    with publish(tmp_path / "link", overwrite=True) as file:
        file.write(b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_bytes() == b"new"


def test_a_folder_and_a_missing_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(NvcError, match="is a folder"), publish(tmp_path, overwrite=True):
        pass
    with pytest.raises(NvcError, match="no folder .*missing.*create it"), publish(tmp_path / "missing" / "out.bin"):
        pass


def test_a_folder_closed_to_us_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def deny(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "replace", deny)
    with pytest.raises(NvcError, match="out.bin: permission denied"), publish(tmp_path / "out.bin"):
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("size", [1, 1 << 22])
def test_a_full_disk_is_an_error_for_the_user(size: int) -> None:
    with pytest.raises(NvcError, match="/dev/full: no space left"), publish("/dev/full") as file:
        file.write(bytes(size))


WRITE_TO_STDOUT = "from nvc_cli.files import publish\nwith publish('-') as f: f.write(b'x' * 10_000_000)"


def test_stdout_gets_the_bytes() -> None:
    done = subprocess.run([sys.executable, "-c", WRITE_TO_STDOUT], capture_output=True, check=True)
    assert done.stdout == b"x" * 10_000_000


def test_a_closed_pipe_goes_through_as_such() -> None:
    with subprocess.Popen([sys.executable, "-c", WRITE_TO_STDOUT], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout and process.stderr
        process.stdout.close()
        assert b"BrokenPipeError" in process.stderr.read()


def test_a_link_in_the_place_of_the_part_file_is_not_followed(tmp_path: Path) -> None:
    """Whoever can write into a folder must not choose what is overwritten elsewhere."""
    other = tmp_path / "other"
    other.write_bytes(b"precious")
    (tmp_path / ".a.part").symlink_to(other)
    with pytest.raises(NvcError, match="cannot write"), publish(tmp_path / "a"):
        pass
    assert other.read_bytes() == b"precious" and not (tmp_path / "a").exists()
