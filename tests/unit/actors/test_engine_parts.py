"""Sampling, the prefix tree and the image store by themselves."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.engines.image_store import EncodedImage, ImageStore
from actors.engines.prefix_tree import PrefixTree
from actors.engines.sampling import Settings, Uniforms, draw

CPU = torch.device("cpu")


def test_uniforms_repeat_with_the_seed() -> None:
    first, second, other = Uniforms(5), Uniforms(5), Uniforms(6)
    numbers = [first.next() for _ in range(600)]
    assert numbers == [second.next() for _ in range(600)]
    assert numbers != [other.next() for _ in range(600)]
    assert Uniforms(2**80 + 5).next() == numbers[0]


def test_greedy_takes_the_most_probable_and_tells_its_logprob() -> None:
    logits = torch.tensor([[0.0, 2.0, 1.0]])
    tokens, logprobs = draw(logits, Settings.of([(0.0, 1.0)], CPU), [])
    assert tokens.tolist() == [1]
    assert logprobs.tolist() == pytest.approx(logits.log_softmax(-1)[:, 1].tolist())


@pytest.mark.parametrize("size", [5, 300])
def test_draws_follow_the_distribution_within_the_nucleus(size: int) -> None:
    logits = torch.randn(1, size, generator=torch.Generator().manual_seed(1)) * 2
    probabilities = (logits[0] / 0.7).softmax(-1)
    order = probabilities.argsort(descending=True)
    kept = order[: int((probabilities[order].cumsum(0) < 0.8).sum()) + 1]
    rows, source = 20_000, Uniforms(3)
    tokens, _ = draw(
        logits.expand(rows, -1), Settings.of([(0.7, 0.8)] * rows, CPU), [source.next() for _ in range(rows)]
    )
    counts = torch.bincount(tokens, minlength=size) / rows
    expected = torch.zeros(size)
    expected[kept] = probabilities[kept] / probabilities[kept].sum()
    assert set(tokens.tolist()) <= set(kept.tolist())
    assert torch.allclose(counts, expected, atol=0.015)


def test_mixed_rows_draw_as_they_do_alone() -> None:
    logits = torch.randn(6, 400, generator=torch.Generator().manual_seed(2))
    pairs = [(0.0, 1.0), (0.6, 0.9), (1.0, 1.0), (2.0, 0.99), (0.1, 0.2), (1.0, 0.5)]
    numbers = [0.5, 0.1, 0.999999, 0.7, 0.0, 0.3]
    together, _ = draw(logits, Settings.of(pairs, CPU), numbers)
    for row, (pair, number) in enumerate(zip(pairs, numbers, strict=True)):
        alone, _ = draw(logits[row : row + 1], Settings.of([pair], CPU), [number])
        assert together[row] == alone[0]


def segment_of(ids: np.ndarray, start: int = 0) -> torch.Tensor:
    """Keys and values that tell which id they belong to."""
    return torch.tensor(ids[start:], dtype=torch.float32).reshape(1, 1, 1, -1, 1).expand(2, 2, 3, -1, 4).clone()


sequences = st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=12), min_size=1, max_size=30)


@given(sequences, st.sampled_from([0, 2000, 10**9]))
@settings(deadline=None, max_examples=60)
def test_the_tree_gives_back_what_belongs_to_the_ids(lists: list[list[int]], room: int) -> None:
    tree = PrefixTree(room)
    known: set[tuple[int, ...]] = set()
    for values in lists:
        ids = np.array(values, dtype=np.int64)
        length, segments = tree.match("image", ids)
        longest = max((n for n in range(len(ids) + 1) if tuple(values[:n]) in known), default=0)
        assert length <= longest
        if room == 10**9:
            assert length == longest
        if segments:
            assert torch.equal(torch.cat(segments, dim=3), segment_of(ids[:length]))
        tree.insert("image", ids, length, segment_of(ids, length))
        known |= {tuple(values[:n]) for n in range(len(values) + 1)}
        assert tree.bytes <= room
        assert tree.match("another", ids)[0] == 0


def test_the_least_recently_used_prefix_goes_first() -> None:
    ids = [np.array([n, n, n], dtype=np.int64) for n in range(3)]
    size = segment_of(ids[0]).nbytes
    tree = PrefixTree(size * 5 // 2)
    for n in (0, 1):
        tree.insert("image", ids[n], 0, segment_of(ids[n]))
    tree.match("image", ids[0])
    tree.insert("image", ids[2], 0, segment_of(ids[2]))
    assert [tree.match("image", i)[0] for i in ids] == [3, 0, 3]


def test_a_gap_between_tree_and_segment_is_an_error() -> None:
    ids = np.array([1, 2, 3], dtype=np.int64)
    with pytest.raises(ValueError, match="segment begins at 1"):
        PrefixTree(10**6).insert("image", ids, 1, segment_of(ids, 1))


def test_the_image_store_keeps_to_its_bytes() -> None:
    image = EncodedImage(state=torch.zeros(10), tiles=(1,))
    store = ImageStore(100)
    for key in "abc":
        store.put(key, image)
        store.get("a")
    assert store.bytes == 80
    assert [store.get(key) is not None for key in "abc"] == [True, False, True]
