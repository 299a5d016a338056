"""What a teacher's tokens cost: as configured, else from a list that is kept up to date elsewhere.

The list is the one that the package ``genai-prices`` brings along; nothing is fetched.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from actors.endpoint import is_loopback
from actors.governing.limits import LimitsConfig
from reasoning.errors import ConfigError

if TYPE_CHECKING:
    from genai_prices.types import PriceCalculation

_SMALL = 1000
"""Where prices rise with a prompt's length, those of short prompts are taken."""


@dataclass(frozen=True, kw_only=True)
class Prices:
    """Dollars for a million tokens, and where they are from."""

    prompt: float
    generated: float
    source: str
    """In words, for people."""
    is_known: bool
    """False: nobody told, and they stand at 0."""

    def dollars(self, prompt_tokens: int, generated_tokens: int) -> float:
        """What so many tokens cost."""
        return (prompt_tokens * self.prompt + generated_tokens * self.generated) / 1_000_000


def find_prices(base_url: str, model: str, *, prompt: float | None, generated: float | None) -> Prices:
    """The prices that are given, and for those that are None the list's of ``model`` at ``base_url``.

    An address that the list does not know counts as a gateway to whoever sells the model under this
    name; a loopback address does not: what runs there is one's own.
    """
    if prompt is not None and generated is not None:
        return Prices(prompt=prompt, generated=generated, source="as configured", is_known=True)
    listed = _listed(base_url, model)
    if listed is None:
        given = prompt or generated
        return Prices(
            prompt=prompt or 0.0,
            generated=generated or 0.0,
            source=f"the price of {model!r} at {base_url} is unknown and counts as 0; set "
            "prompt_dollars_per_million and generated_dollars_per_million",
            is_known=bool(given),
        )
    price, how = listed
    per_million = 1_000_000 / _SMALL
    return Prices(
        prompt=float(price.input_price) * per_million if prompt is None else prompt,
        generated=float(price.output_price) * per_million if generated is None else generated,
        source=f"{price.model.id} at {price.provider.name}, {how}, from genai-prices {_version()}",
        is_known=True,
    )


def _listed(base_url: str, model: str) -> tuple[PriceCalculation, str] | None:
    from genai_prices import Usage, calc_price

    usage = Usage(input_tokens=_SMALL, output_tokens=_SMALL)
    try:
        return calc_price(usage, model, provider_api_url=base_url), "by the address"
    except LookupError:
        if is_loopback(base_url):
            return None
    try:
        return calc_price(usage, model), "by the model's name"
    except LookupError:
        return None


def _version() -> str:
    from genai_prices import __version__

    return __version__


def check_budget(limits: LimitsConfig, prices: Prices) -> None:
    """Raise ConfigError for a budget in dollars where nobody knows what a call costs."""
    if limits.budget_dollars is not None and not prices.is_known:
        raise ConfigError(
            f"limits.budget_dollars is {limits.budget_dollars:g}, but {prices.source} in teacher, "
            "or set limits.budget_tokens instead"
        )
