"""Drawing the next token of many rows at once.

A row's draw depends on its own logits, settings and random number alone, never on the rows beside
it, so that a seed gives the same text in any batch (up to rounding of the logits).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

# Most nuclei are small: only rows whose nucleus is larger pay for sorting the whole vocabulary.
_FIRST_LOOK = 64
_DRAWS_AT_ONCE = 256
_SEED_MASK = (1 << 63) - 1


class Uniforms:
    """An endless row of numbers in [0, 1) that a seed determines."""

    def __init__(self, seed: int) -> None:
        self._generator = torch.Generator().manual_seed(seed & _SEED_MASK)
        self._ready: list[float] = []

    def next(self) -> float:
        if not self._ready:
            drawn: list[float] = torch.rand(_DRAWS_AT_ONCE, generator=self._generator).tolist()
            self._ready = drawn[::-1]
        return self._ready.pop()


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Sampling settings of a batch, each ``[rows]`` on the logits' device."""

    temperature: torch.Tensor
    top_p: torch.Tensor
    is_all_greedy: bool

    @classmethod
    def of(cls, pairs: list[tuple[float, float]], device: torch.device) -> Settings:
        """From (temperature, top_p) of each row."""
        values = torch.tensor(pairs, dtype=torch.float32, device=device)
        return cls(
            temperature=values[:, 0],
            top_p=values[:, 1],
            is_all_greedy=all(temperature == 0 for temperature, _ in pairs),
        )


def draw(logits: torch.Tensor, settings: Settings, uniforms: list[float]) -> tuple[torch.Tensor, torch.Tensor]:
    """The next token of each row and its log-probability at temperature 1, both ``[rows]``.

    ``logits`` is ``[rows, vocabulary]`` in float32. Temperature 0 takes the most probable token.
    """
    greedy = logits.argmax(-1)
    if settings.is_all_greedy:
        tokens = greedy
    else:
        numbers = torch.tensor(uniforms, dtype=torch.float32, device=logits.device)
        # Rows at temperature 0 are computed along and thrown away: 1 keeps their division sound.
        temperature = torch.where(settings.temperature > 0, settings.temperature, 1.0)
        probabilities = (logits / temperature[:, None]).softmax(-1)
        sampled = _nucleus(probabilities, settings.top_p, numbers)
        tokens = torch.where(settings.temperature > 0, sampled, greedy)
    chosen = logits.gather(-1, tokens[:, None])[:, 0]
    return tokens, chosen - logits.logsumexp(-1)


def _nucleus(probabilities: torch.Tensor, top_p: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
    """One token a row from the smallest set with probability ``top_p``, by inversion.

    Where the most probable token is that set, nothing is looked for: so it is in most steps of a
    trained model, and finding the largest of a row takes a tenth of the time of finding the first 64.
    """
    highest, tokens = probabilities.max(-1)
    open_rows = (highest < top_p).nonzero()[:, 0]
    if len(open_rows):
        tokens[open_rows] = _inverted(probabilities[open_rows], top_p[open_rows], numbers[open_rows])
    return tokens


def _inverted(probabilities: torch.Tensor, top_p: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
    look = min(_FIRST_LOOK, probabilities.shape[-1])
    values, order = probabilities.topk(look, dim=-1)
    sums = values.cumsum(-1)
    picks, is_settled = _invert(values, sums, top_p, numbers)
    tokens = order.gather(-1, picks[:, None])[:, 0]
    if look < probabilities.shape[-1] and not bool(is_settled.all()):
        rest = (~is_settled).nonzero()[:, 0]
        values, order = probabilities[rest].sort(dim=-1, descending=True, stable=True)
        picks, _ = _invert(values, values.cumsum(-1), top_p[rest], numbers[rest])
        tokens[rest] = order.gather(-1, picks[:, None])[:, 0]
    return tokens


def _invert(
    values: torch.Tensor, sums: torch.Tensor, top_p: torch.Tensor, numbers: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Where in the descending ``values`` each number falls, and whether their nucleus lies within them."""
    limit = top_p[:, None]
    size = (sums - values < limit).sum(-1).clamp(min=1)
    last = size - 1
    mass = sums.gather(-1, last[:, None])
    is_settled = (sums[:, -1:] >= limit)[:, 0]
    picks = (sums <= numbers[:, None] * mass).sum(-1)
    return torch.minimum(picks, last), is_settled
