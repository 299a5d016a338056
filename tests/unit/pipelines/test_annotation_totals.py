"""What shards add up to."""

from __future__ import annotations

import pytest
from annotation_cases import QUESTION, accepted_row

from pipelines.annotation_totals import Totals, count_rows


def test_counts_add_up_by_reason() -> None:
    refused = {**accepted_row(QUESTION), "is_accepted": False, "reason": "refusal", "attempts": 3}
    counts = count_rows([{**accepted_row(QUESTION), "attempts": 2}, refused, refused])
    assert (counts["rows"], counts["accepted"], counts["rejected.refusal"]) == (3, 1, 2)
    assert (counts["repaired"], counts["further_attempts"]) == (1, 5)
    totals = Totals.of([counts, counts])
    assert totals.rejected() == {"refusal": 4}
    totals.add(counts, sign=-1)
    assert totals.values == counts


def test_percentiles_are_right_to_within_a_tenth_however_rows_lie_in_shards() -> None:
    seconds = [0.01 * i for i in range(1, 1001)]
    rows = [{**accepted_row(QUESTION), "call_seconds": seconds[start : start + 10]} for start in range(0, 1000, 10)]
    found = Totals.of(count_rows(rows[start : start + 7]) for start in range(0, 100, 7)).latency_s()
    assert found == {
        "p50": pytest.approx(5.0, rel=0.1),
        "p90": pytest.approx(9.0, rel=0.1),
        "p99": pytest.approx(9.9, rel=0.1),
    }


def test_no_call_has_no_latency() -> None:
    assert Totals.of([count_rows([{**accepted_row(QUESTION), "call_seconds": []}])]).latency_s() == {}


def test_dollars_keep_their_small_change() -> None:
    rows = [{**accepted_row(QUESTION), "dollars": 0.000_001_5}] * 1000
    assert Totals.of([count_rows(rows)]).dollars == pytest.approx(0.0015)
