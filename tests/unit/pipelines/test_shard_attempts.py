"""Marks of attempts: who counts as dead, when rows are done one at a time, what is left behind."""

from __future__ import annotations

from pathlib import Path

from cluster.stores import LocalStore
from pipelines.shard_attempts import CAREFUL_AFTER, FOLDER, ShardAttempts


def begun(store: LocalStore, key: str = "s") -> ShardAttempts:
    attempts = ShardAttempts(store, key)
    attempts.begin()
    return attempts


def test_only_attempts_that_did_not_end_make_the_next_one_careful(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    for _ in range(CAREFUL_AFTER):
        begun(store).call_off()
    for _ in range(CAREFUL_AFTER):
        assert not begun(store).is_careful
    assert begun(store).is_careful
    assert not begun(store, "other").is_careful


def test_a_row_counts_as_deadly_by_the_workers_that_died_with_it_alone(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    first = begun(store)
    first.put_down(first.take("harmless"))
    first.take("deadly/ümlaut")
    begun(store).take("deadly/ümlaut")
    last = begun(store)
    assert (last.deaths_with("deadly/ümlaut"), last.deaths_with("harmless")) == (2, 0)


def test_a_committed_shard_leaves_no_marks(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    begun(store).take("row")
    kept = begun(store, "other")
    begun(store).end()
    assert store.names(f"{FOLDER}/s") == []
    assert len(store.names(f"{FOLDER}/other")) == 1
    kept.end()
