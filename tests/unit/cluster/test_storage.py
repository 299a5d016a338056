"""What a run folder promises: whole files, one owner, one configuration, no file without a marker."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from cluster.storage import (
    Commit,
    RunFolder,
    atomic_file,
    config_hash,
    find_commit,
    first_difference,
    read_commits,
    read_json,
    read_run,
    write_commit,
    write_json_atomic,
)
from reasoning.errors import InputError, OutputMismatchError

IDENTITY = {"teacher": {"model": "m", "temperature": 0.5}, "limit": None}


def open_run(path: Path, identity: dict[str, object] | None = None) -> RunFolder:
    return RunFolder(path, kind="annotate", identity=IDENTITY if identity is None else identity)


def test_failed_write_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json_atomic(path, {"x": 1})

    def fail_half_way() -> None:
        with atomic_file(path) as temporary:
            temporary.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_half_way()
    assert read_json(path) == {"x": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_config_hash_does_not_depend_on_order() -> None:
    assert config_hash({"a": 1, "b": [2]}) == config_hash({"b": [2], "a": 1})
    assert config_hash({"a": 1}) != config_hash({"a": 2})


def test_same_run_opens_its_folder_again(tmp_path: Path) -> None:
    with open_run(tmp_path / "out") as first:
        first_hash = first.config_hash
    with open_run(tmp_path / "out") as second:
        assert second.config_hash == first_hash
        assert second.lease != first.lease
    assert read_run(tmp_path / "out", kind="annotate")["identity"] == IDENTITY


def test_other_config_is_refused_and_the_field_named(tmp_path: Path) -> None:
    with open_run(tmp_path / "out"):
        pass
    other = {"teacher": {"model": "m", "temperature": 0.7}, "limit": None}
    with pytest.raises(OutputMismatchError, match=r"teacher\.temperature = 0\.5.*teacher\.temperature = 0\.7"):
        open_run(tmp_path / "out", other).__enter__()


def test_other_kind_of_run_and_foreign_folder_are_refused(tmp_path: Path) -> None:
    with RunFolder(tmp_path / "out", kind="export", identity={}):
        pass
    with pytest.raises(OutputMismatchError, match="kind 'export'"):
        open_run(tmp_path / "out").__enter__()
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.txt").touch()
    with pytest.raises(OutputMismatchError, match=r"thesis\.txt"):
        open_run(tmp_path / "home").__enter__()


def test_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").touch()
    with pytest.raises(InputError, match="cannot be made a folder"):
        open_run(tmp_path / "out").__enter__()


def test_folder_has_one_owner_at_a_time(tmp_path: Path) -> None:
    with open_run(tmp_path / "out"), pytest.raises(InputError, match="another process"):
        open_run(tmp_path / "out").__enter__()


def test_lock_of_a_killed_owner_is_free(tmp_path: Path) -> None:
    code = (
        "import sys, os, signal; from pathlib import Path; from cluster.storage import RunFolder\n"
        f"RunFolder(Path(sys.argv[1]), kind='annotate', identity={IDENTITY!r}).__enter__()\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "out")], check=False)
    with open_run(tmp_path / "out") as run:
        assert run.commits() == []


def test_only_files_without_a_marker_are_removed(tmp_path: Path) -> None:
    with open_run(tmp_path / "out") as run:
        accepted = run.path / "accepted"
        accepted.mkdir()
        for name in ("kept.parquet", "lost.parquet", ".partial-x-y.parquet"):
            (accepted / name).write_text(name)
        run.commit(Commit(key="kept", files=("accepted/kept.parquet",), counts={"rows": 1}))
        assert run.remove_uncommitted(("accepted",)) == ["accepted/lost.parquet"]
        assert [p.name for p in accepted.iterdir()] == ["kept.parquet"]


def test_worker_of_an_earlier_owner_cannot_commit(tmp_path: Path) -> None:
    with open_run(tmp_path / "out") as earlier:
        stale = earlier.lease
    commit = Commit(key="k", files=(), counts={})
    with open_run(tmp_path / "out") as run:
        with pytest.raises(OutputMismatchError, match="taken over"):
            write_commit(run.path, commit, lease=stale)
        assert find_commit(run.path, "k") is None
        write_commit(run.path, commit, lease=run.lease)
        assert read_commits(run.path) == [commit]


def test_reading_a_folder_that_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no run folder"):
        read_run(tmp_path, kind="annotate")


def test_first_difference_names_the_path() -> None:
    assert first_difference({"a": {"b": 1}}, {"a": {"b": 2}}) == ("a.b", 1, 2)
    assert first_difference({"a": 1}, {"a": 1, "c": 3}) == ("c", None, 3)
    assert first_difference({"a": [1]}, {"a": [1]}) is None
