"""The request cache in an object store, against a local S3-compatible server."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

import pytest
from moto.server import ThreadedMotoServer
from request_cache_cases import get_all, put_all, reply
from structlog.testing import capture_logs

from actors.call_segments import SegmentCalls
from actors.request_cache import PaidTotals, open_call_store, paid_totals, stored_keys
from cluster.stores import ObjectStore, Store, open_store
from reasoning.errors import InputError

NewBucket = Callable[[], str]


@pytest.fixture(scope="module")
def bucket() -> Iterator[NewBucket]:
    """Addresses of empty places in one bucket of a server of our own."""
    from pyarrow import fs

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    port = server.get_host_and_port()[1]
    patch = pytest.MonkeyPatch()
    patch.setenv("AWS_ACCESS_KEY_ID", "test")
    patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    system = fs.S3FileSystem(
        endpoint_override=f"127.0.0.1:{port}", scheme="http", region="us-east-1", allow_bucket_creation=True
    )
    system.create_dir("bucket")
    numbers = iter(range(1000))
    try:
        yield lambda: f"s3://bucket/run{next(numbers)}?endpoint_override=127.0.0.1:{port}&scheme=http&region=us-east-1"
    finally:
        server.stop()
        patch.undo()


def names(where: str) -> list[str]:
    return open_store(where).names()


def test_what_was_put_is_found_by_the_same_store_and_by_the_next(bucket: NewBucket) -> None:
    where = bucket()
    odd = reply(1, text='line\nand "quotes" \ud83d and \x00', refusal="no")

    async def scenario() -> None:
        store = open_call_store(where, writer="a")
        other = open_call_store(where, writer="b")
        assert await store.get("k") is None
        await store.put("k", odd)
        assert await store.get("k") == odd
        assert await other.get("k") == odd
        assert await other.get("unknown") is None
        await store.close()
        await other.close()

    asyncio.run(scenario())
    assert get_all(where, "c", ["k", "unknown"]) == [odd, None]


def test_calls_that_finish_together_are_one_object_that_is_there_when_put_returns(bucket: NewBucket) -> None:
    where = bucket()

    async def scenario() -> None:
        store = open_call_store(where, writer="a")
        await asyncio.gather(*(store.put(f"key-{i}", reply(i)) for i in range(40)))
        assert len(names(where)) == 1
        assert stored_keys(where) == {f"key-{i}" for i in range(40)}
        await store.close()

    asyncio.run(scenario())
    assert paid_totals(where) == PaidTotals(calls=40, prompt_tokens=1180, generated_tokens=200, dollars=10.0)


def test_two_stores_of_one_name_overwrite_nothing(bucket: NewBucket) -> None:
    where = bucket()
    put_all(where, "same", range(3))
    put_all(where, "same", range(3, 6))
    assert stored_keys(where) == {f"key-{i}" for i in range(6)}


def test_empty_place_has_nothing(bucket: NewBucket) -> None:
    where = bucket()
    assert stored_keys(where) == set()
    assert paid_totals(where) == PaidTotals()


def test_small_objects_are_melted_and_nothing_counts_twice(bucket: NewBucket) -> None:
    where = bucket()
    writer = SegmentCalls(open_store(where), "a")
    reader = SegmentCalls(open_store(where), "b")
    for number in range(70):
        writer.append([(f"key-{number}", reply(number)), (f"other-{number}", reply(number))])
        if number % 9 == 0:
            assert reader.find([f"key-{number}"]) == [reply(number)]
    writer.close()
    assert len(names(where)) < 40, "two melted objects and what was left"
    wanted = [f"{kind}-{i}" for i in range(70) for kind in ("key", "other")]
    assert reader.find(wanted) == [reply(i) for i in range(70) for _ in range(2)]
    reader.close()
    assert get_all(where, "c", wanted) == [reply(i) for i in range(70) for _ in range(2)]
    assert paid_totals(where).calls == 140


def test_a_kill_between_melting_and_removing_counts_nothing_twice(bucket: NewBucket) -> None:
    where = bucket()

    class NeverRemoves(ObjectStore):
        def remove(self, name: str) -> None:
            raise OSError("killed here")

    store = open_store(where)
    store.__class__ = NeverRemoves
    with capture_logs() as logs:
        writer = SegmentCalls(store, "a")
        for number in range(32):
            writer.append([(f"key-{number}", reply(number))])
        writer.close()
    assert [log["error"] for log in logs] == ["killed here"]
    assert len(names(where)) == 33
    assert paid_totals(where).calls == 32
    assert get_all(where, "b", ["key-0", "key-31"]) == [reply(0), reply(31)]


def test_an_object_that_is_melted_while_it_is_read_is_read_where_it_went(bucket: NewBucket) -> None:
    where = bucket()
    writer = SegmentCalls(open_store(where), "a")
    for number in range(31):
        writer.append([(f"key-{number}", reply(number))])
    reads: list[str] = []

    class Late(ObjectStore):
        def read(self, name: str) -> bytes:
            if not reads:
                reads.append(name)
                writer.append([("key-31", reply(31))])
                writer.close()  # Waits until all is melted.
            return super().read(name)

    store = open_store(where)
    store.__class__ = Late
    reader = SegmentCalls(store, "b")
    assert len(names(where)) == 1
    assert reader.find([f"key-{i}" for i in range(32)]) == [reply(i) for i in range(32)]
    reader.close()


@pytest.mark.parametrize("damage", ["garbage", "empty", "cut"])
def test_damaged_object_is_reported_once_and_the_rest_counts(bucket: NewBucket, damage: str) -> None:
    where = bucket()
    put_all(where, "bad", range(3000))
    put_all(where, "good", range(5000, 5003))
    store: Store = open_store(where)
    name = max((name for name in store.names() if name.startswith("bad/")), key=lambda name: len(store.read(name)))
    data = store.read(name)
    store.write(name, {"garbage": b"no zstd at all", "empty": b"", "cut": data[: len(data) // 2]}[damage])
    with capture_logs() as logs:
        found = get_all(where, "new", [f"key-{i}" for i in [*range(3000), 5000, 5001, 5002, 9999]])
    assert found[3000:] == [reply(5000), reply(5001), reply(5002), None]
    assert None in found[:3000]
    assert [log["object"].endswith(name) for log in logs] == [True]


def test_unreachable_store_is_an_error_of_ours() -> None:
    where = "s3://bucket/run?endpoint_override=127.0.0.1:1&scheme=http&region=us-east-1"
    with pytest.raises(InputError, match="cannot be listed"):
        open_call_store(where, writer="a")
