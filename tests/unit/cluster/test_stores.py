"""Stores: one behaviour on a local disk and in an object store (a real S3 server, started here)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
from moto.server import ThreadedMotoServer

from cluster.storage import Commit, RunFolder, read_commits, write_commit
from cluster.stores import ObjectStore, Store, absolute, join, open_store
from reasoning.errors import InputError, OutputMismatchError


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """The options of a URI into the empty bucket ``vqa``."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "hush",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }.items():
            patch.setenv(name, value)
        server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        server.start()
        host, port = server.get_host_and_port()
        boto3.client("s3", endpoint_url=f"http://{host}:{port}").create_bucket(Bucket="vqa")
        yield f"endpoint_override={host}:{port}&scheme=http"
        server.stop()


@pytest.fixture(params=["local", "s3"])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "local":
        return str(tmp_path / "root")
    return f"s3://vqa/{tmp_path.name}?{request.getfixturevalue('s3')}"


def test_files_are_written_listed_read_and_removed(where: str) -> None:
    store: Store = open_store(where)
    assert (store.names(), store.exists("a/b.txt")) == ([], False)
    store.write("a/b.txt", b"one")
    store.write("a/b.txt", b"two")
    store.write("a/ü ä.txt", b"")
    store.write("c.txt", b"x" * 100_000)
    assert store.names() == ["a/b.txt", "a/ü ä.txt", "c.txt"]
    assert store.names("a") == ["a/b.txt", "a/ü ä.txt"]
    assert open_store(store.uri).read("a/b.txt") == b"two"
    with store.open_file("c.txt") as file:
        file.seek(99_990)
        assert file.read() == b"x" * 10
    assert (store.exists("c.txt"), store.exists("a"), store.exists("nothing")) == (True, False, False)
    with pytest.raises(FileNotFoundError):
        store.read("nothing")
    store.write("squeezed.gz", b"as it is")
    assert open_store(store.uri).read("squeezed.gz") == b"as it is"
    for name in ("c.txt", "squeezed.gz", "nothing"):
        store.remove(name)
    assert store.names() == ["a/b.txt", "a/ü ä.txt"]


def test_a_run_is_taken_over_and_its_old_workers_may_not_commit(where: str) -> None:
    with RunFolder(where, kind="k", identity={"a": 1}) as first:
        first.commit(Commit(key="x", files=("x.bin",), counts={"rows": 1}))
    with RunFolder(where, kind="k", identity={"a": 1}) as second:
        with pytest.raises(OutputMismatchError, match="taken over"):
            write_commit(where, Commit(key="y", files=(), counts={}), lease=first.lease)
        second.commit(Commit(key="z", files=("z.bin",), counts={"rows": 1}, supersedes=("x",), generation=1))
        assert [commit.key for commit in read_commits(where)] == ["z"]
        for name in ("d/x.bin", "d/z.bin"):
            second.store.write(name, b"")
        assert second.remove_uncommitted(("d",)) == ["d/x.bin", "d/z.bin"]
        second.record(result={"rows": 1})
    assert [commit.key for commit in read_commits(where)] == ["z"]
    with (
        pytest.raises(OutputMismatchError, match="a = 1; this one has a = 2"),
        RunFolder(where, kind="k", identity={"a": 2}),
    ):
        pass


def test_an_address_that_holds_a_key_is_refused_and_not_quoted(s3: str) -> None:
    with pytest.raises(InputError) as caught:
        open_store(f"s3://user:hush-hush@vqa/run?{s3}")
    assert "hush-hush" not in str(caught.value)
    with pytest.raises(InputError, match="no file system"):
        open_store("gopher://b/run")


def test_names_are_joined_before_the_options_of_an_address(tmp_path: Path) -> None:
    assert join("s3://b/run?scheme=http", "calls") == "s3://b/run/calls?scheme=http"
    assert join("runs/a/", "calls") == "runs/a/calls"
    assert absolute("s3://b/run?x=1") == "s3://b/run?x=1"
    assert absolute(tmp_path / "a" / ".." / "b") == str((tmp_path / "b").resolve())


def test_reading_from_an_object_store_goes_through_pyarrow(s3: str) -> None:
    assert isinstance(open_store(f"s3://vqa/run?{s3}"), ObjectStore)
