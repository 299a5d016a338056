"""Prices: configured, listed, unknown."""

from __future__ import annotations

import pytest

from actors.governing.limits import LimitsConfig
from actors.prices import check_budget, find_prices
from reasoning.errors import ConfigError

LOOPBACK = "http://127.0.0.1:8000/v1"


def test_configured_prices_need_no_list() -> None:
    prices = find_prices(LOOPBACK, "anything", prompt=2.0, generated=10.0)
    assert prices.is_known
    assert prices.dollars(1000, 500) == pytest.approx(0.007)


def test_listed_by_the_address() -> None:
    prices = find_prices("https://api.openai.com/v1", "gpt-4o-2024-08-06", prompt=None, generated=None)
    assert prices.is_known
    assert "by the address" in prices.source
    assert 0 < prices.prompt < prices.generated


def test_half_configured_is_completed_from_the_list() -> None:
    prices = find_prices("https://api.openai.com/v1", "gpt-4o", prompt=1.25, generated=None)
    assert prices.prompt == 1.25
    assert prices.generated > 1.25


def test_gateway_is_priced_by_the_models_name() -> None:
    prices = find_prices("https://llm.example.org/v1", "gpt-4o", prompt=None, generated=None)
    assert prices.is_known
    assert "by the model's name" in prices.source


@pytest.mark.parametrize(
    ("base_url", "model"), [(LOOPBACK, "gpt-4o"), ("https://api.openai.com/v1", "no-such-model-at-all")]
)
def test_unknown_is_said_and_counts_nothing(base_url: str, model: str) -> None:
    prices = find_prices(base_url, model, prompt=None, generated=None)
    assert not prices.is_known
    assert "unknown" in prices.source
    assert "prompt_dollars_per_million" in prices.source
    assert prices.dollars(10**6, 10**6) == 0


def test_budget_in_dollars_needs_a_price() -> None:
    unknown = find_prices(LOOPBACK, "gpt-4o", prompt=None, generated=None)
    with pytest.raises(ConfigError, match=r"limits\.budget_dollars is 5, but the price of 'gpt-4o'"):
        check_budget(LimitsConfig(budget_dollars=5.0), unknown)
    check_budget(LimitsConfig(budget_tokens=5), unknown)
    check_budget(LimitsConfig(budget_dollars=5.0), find_prices(LOOPBACK, "gpt-4o", prompt=1.0, generated=None))
