"""A finished call is found again, whoever made it and however its process ended."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from request_cache_cases import get_all, put_all, reply
from structlog.testing import capture_logs

from actors.call_database import SqliteCalls
from actors.call_marks import MarkIndex
from actors.call_records import StoredCall, mark_of
from actors.request_cache import GroupedCalls, PaidTotals, StoredReply, open_call_store, paid_totals, stored_keys
from reasoning.errors import ConfigError, InputError

CHILD = """
import asyncio, sys
from actors.request_cache import StoredReply, open_call_store

async def keep(store, number):
    while True:
        text = "x" * 3000
        await store.put(f"{sys.argv[2]}-{number}", StoredReply(text=text, finish_reason="stop", refusal=None,
            prompt_tokens=1, generated_tokens=1, dollars=0.5, seconds=1.0))
        print(f"{sys.argv[2]}-{number}", flush=True)
        number += 8

async def main():
    store = open_call_store(sys.argv[1], writer=sys.argv[2])
    await asyncio.gather(*(keep(store, i) for i in range(8)))

asyncio.run(main())
"""

MID_COMMIT = """
import os, signal, sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("PRAGMA journal_mode = PERSIST")
connection.execute("PRAGMA cache_size = 2")
connection.execute("BEGIN IMMEDIATE")
connection.execute("UPDATE calls SET key = 'gone'")
rows = ((100 + i, "z" * 5000, None, 0) for i in range(200))
connection.executemany("INSERT INTO texts VALUES (?, ?, ?, ?)", rows)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_was_put_is_found_by_the_same_store_and_by_the_next(tmp_path: Path) -> None:
    odd = reply(1, text='line\nand "quotes" \ud83d and \x00', refusal="no", finish_reason="content_filter", dollars=0)

    async def scenario() -> None:
        store = open_call_store(tmp_path, writer="a")
        assert await store.get("k") is None
        await store.put("k", odd)
        assert await store.get("k") == odd
        await store.close()

    asyncio.run(scenario())
    assert get_all(tmp_path, "b", ["k", "other"]) == [odd, None]
    assert stored_keys(tmp_path) == {"k"}


def test_a_store_finds_what_another_writes_after_it_was_opened(tmp_path: Path) -> None:
    async def scenario() -> None:
        first, second = (open_call_store(tmp_path, writer=name) for name in "ab")
        for number in range(20):
            assert await second.get(f"key-{number}") is None
            await first.put(f"key-{number}", reply(number))
            assert await second.get(f"key-{number}") == reply(number)
        await first.close()
        await second.close()

    asyncio.run(scenario())


def test_calls_that_arrive_together_share_a_transaction_and_leave_the_loop_free() -> None:
    class Held:
        linger_s = 0.0

        def __init__(self) -> None:
            self.turns: list[int] = []
            self.go = threading.Event()

        def find(self, keys: list[str]) -> list[StoredReply | None]:
            return [None] * len(keys)

        def append(self, calls: list[StoredCall]) -> None:
            assert self.go.wait(10)
            self.turns.append(len(calls))

        def close(self) -> None: ...

    async def scenario(files: Held) -> None:
        store = GroupedCalls(files)
        first = asyncio.create_task(store.put("0", reply()))
        await asyncio.sleep(0.01)
        others = [asyncio.create_task(store.put(str(i), reply())) for i in range(30)]
        assert await store.get("0") is None  # A look-up does not wait for what is being kept.
        assert not first.done()
        files.go.set()
        await asyncio.gather(first, *others)
        await store.close()

    files = Held()
    asyncio.run(scenario(files))
    assert files.turns == [1, 30]


def test_a_cancelled_put_harms_no_other(tmp_path: Path) -> None:
    async def scenario() -> None:
        store = open_call_store(tmp_path, writer="a")
        tasks = [asyncio.create_task(store.put(f"key-{i}", reply(i))) for i in range(3)]
        await asyncio.sleep(0)
        tasks[1].cancel()
        await asyncio.gather(tasks[0], tasks[2])
        await store.close()

    asyncio.run(scenario())
    assert stored_keys(tmp_path) >= {"key-0", "key-2"}


def test_totals_add_up_over_writers(tmp_path: Path) -> None:
    assert paid_totals(tmp_path) == PaidTotals()
    assert stored_keys(tmp_path) == set()
    put_all(tmp_path, "a", range(3))
    put_all(tmp_path, "b", range(3, 5))
    assert paid_totals(tmp_path) == PaidTotals(calls=5, prompt_tokens=60, generated_tokens=25, dollars=1.25)


def test_killed_in_mid_write_every_call_that_was_confirmed_is_found(tmp_path: Path) -> None:
    children = [
        subprocess.Popen([sys.executable, "-c", CHILD, str(tmp_path), name], stdout=subprocess.PIPE, text=True)
        for name in ("a", "b")
    ]
    confirmed: set[str] = set()
    try:
        for child in children:
            assert child.stdout is not None
            confirmed |= {child.stdout.readline().strip() for _ in range(60)}
    finally:
        for child in children:
            child.kill()
    for child in children:
        # What had left the process before the kill counts too; its last line may be cut.
        confirmed |= {line.strip() for line in child.communicate()[0].splitlines(keepends=True) if line.endswith("\n")}
        assert child.returncode == -signal.SIGKILL
    assert len(confirmed) >= 120
    found = get_all(tmp_path, "c", confirmed)
    assert None not in found
    assert stored_keys(tmp_path) >= confirmed
    assert paid_totals(tmp_path).calls == len(stored_keys(tmp_path))


def test_a_commit_that_a_kill_cut_in_two_is_put_back(tmp_path: Path) -> None:
    put_all(tmp_path, "a", range(50))
    file = tmp_path / "a.sqlite"
    before = file.read_bytes()
    killed = subprocess.run([sys.executable, "-c", MID_COMMIT, str(file)], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert file.read_bytes() != before, "nothing was written before the kill: there is nothing to put back"
    assert get_all(tmp_path, "b", [f"key-{i}" for i in range(50)]) == [reply(i) for i in range(50)]


def test_concurrent_writers_and_readers_lose_nothing(tmp_path: Path) -> None:
    async def write(writer: str, numbers: range) -> None:
        store = open_call_store(tmp_path, writer=writer)
        for number in numbers:
            await store.put(f"key-{number}", reply(number))
            assert await store.get(f"key-{(number * 7) % 90}") in (None, reply((number * 7) % 90))
        await store.close()

    threads = [
        threading.Thread(target=lambda n=n: asyncio.run(write(f"w{n}", range(n * 30, n * 30 + 30)))) for n in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert get_all(tmp_path, "reader", [f"key-{i}" for i in range(90)]) == [reply(i) for i in range(90)]


def test_two_stores_of_one_name_corrupt_nothing(tmp_path: Path) -> None:
    async def scenario() -> None:
        stores = [open_call_store(tmp_path, writer="same") for _ in range(2)]
        puts = [stores[i % 2].put(f"key-{i}", reply(i)) for i in range(40)]
        await asyncio.gather(*puts)
        for store in stores:
            await store.close()

    asyncio.run(scenario())
    assert get_all(tmp_path, "b", [f"key-{i}" for i in range(40)]) == [reply(i) for i in range(40)]


def test_many_calls_and_many_old_files(tmp_path: Path) -> None:
    for writer in range(20):
        calls = [(f"key-{writer * 1000 + i}", reply(i)) for i in range(1000)]
        files = SqliteCalls(tmp_path, f"w{writer}")
        files.append(calls)
        files.close()
    keys = [f"key-{i * 397 % 20_000}" for i in range(100)]
    found = get_all(tmp_path, "new", [*keys, "unknown"])
    assert found == [*(reply(int(key[4:]) % 1000) for key in keys), None]
    assert paid_totals(tmp_path).calls == 20_000


def test_unknown_key_reads_no_settled_file(tmp_path: Path) -> None:
    put_all(tmp_path, "old", range(5))
    file = tmp_path / "old.sqlite"
    os.utime(file, (1_000_000_000, 1_000_000_000))
    files = SqliteCalls(tmp_path, "new")
    # A lock that would make any reading of it wait: not even tried.
    with sqlite3.connect(file, isolation_level=None) as held:
        held.execute("BEGIN EXCLUSIVE")
        assert files.find(["unknown"] * 3) == [None] * 3
        held.execute("ROLLBACK")
    held.close()
    assert files.find(["key-4"]) == [reply(4)]
    files.close()


@pytest.mark.parametrize("damage", ["garbage", "empty", "cut", "torn page"])
def test_damaged_file_is_reported_once_and_its_rest_counts(tmp_path: Path, damage: str) -> None:
    files = SqliteCalls(tmp_path, "bad")
    files.append([(f"key-{i}", reply(i, text="x" * 500)) for i in range(400)])
    files.close()
    put_all(tmp_path, "good", range(1000, 1003))
    file = tmp_path / "bad.sqlite"
    data = file.read_bytes()
    pages = [data[i : i + 4096] for i in range(0, len(data), 4096)]
    match damage:
        case "garbage":
            file.write_bytes(b"no database at all" * 99)
        case "empty":
            file.write_bytes(b"")
        case "cut":
            file.write_bytes(data[: len(data) * 2 // 3 + 100])
        case "torn page":
            # Leaf pages of tables begin with 13; the first of them after the schema's is one of calls.
            torn = [i for i, page in enumerate(pages) if i > 2 and page[0] == 13][1]
            file.write_bytes(b"".join([*pages[:torn], b"\xff" * 4096, *pages[torn + 1 :]]))
    with capture_logs() as logs:
        found = get_all(tmp_path, "new", [f"key-{i}" for i in [*range(400), 1000, 1001, 1002, "unknown"]])
    assert found[400:] == [reply(1000), reply(1001), reply(1002), None]
    readable = [r for r in found[:400] if r is not None]
    assert all(r.text == "x" * 500 for r in readable)
    assert (len(readable) > 50) == (damage in ("cut", "torn page"))
    assert len(readable) < 400
    assert [log["path"] for log in logs] == ([] if damage == "empty" else [str(file)])
    with capture_logs():
        assert paid_totals(tmp_path).calls >= 3 + len(readable)
        assert stored_keys(tmp_path) >= {"key-1000", "key-1001", "key-1002"}


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "calls").write_text("a file where the folder should be")
    with pytest.raises(InputError, match="calls"):
        open_call_store(tmp_path / "calls", writer="a")
    file = tmp_path / "run" / "a.sqlite"
    file.mkdir(parents=True)
    with pytest.raises(InputError, match=r"a\.sqlite"):
        put_all(tmp_path / "run", "a", range(3))


@pytest.mark.parametrize("writer", ["", "a/b", "../a", ".hidden", "a\0b"])
def test_writer_must_be_a_plain_name(tmp_path: Path, writer: str) -> None:
    with pytest.raises(ConfigError, match="plain file name"):
        open_call_store(tmp_path, writer=writer)


def test_closed_store_says_so(tmp_path: Path) -> None:
    async def scenario() -> None:
        store = open_call_store(tmp_path, writer="a")
        await store.close()
        await store.close()
        with pytest.raises(InputError, match="closed"):
            await store.get("k")

    asyncio.run(scenario())


def test_marks_find_their_places_however_many_there_are() -> None:
    index = MarkIndex()
    marks = [mark_of(str(i)) for i in range(30_000)]
    for start in range(0, 20_000, 100):
        index.add(marks[start : start + 100], 1, range(start, start + 100))
    index.add(marks[20_000:], 2, range(10_000))
    index.add(marks[:1], 3, [7])
    assert len(index) == 30_001
    assert index.places(marks[0]) == [(1, 0), (3, 7)]
    assert index.places(marks[19_999]) == [(1, 19_999)]
    assert index.places(marks[29_999]) == [(2, 9_999)]
    assert index.places(mark_of("unknown")) == []
