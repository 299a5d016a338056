"""How a question is to be answered: the strategy, its width, its selector, its sampling."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import ClassVar

from reasoning.errors import ConfigError
from reasoning.protocols import Sampling


class Strategy(StrEnum):
    DIRECT = "direct"
    """One greedy answer without stages, for a model trained on answers alone."""
    GREEDY = "greedy"
    """One four-stage answer, most probable tokens."""
    SELF_CONSISTENCY = "self_consistency"
    """N whole answers; the conclusion most of them give."""
    BEST_OF_N = "best_of_n"
    """N whole answers; the selector picks one."""
    STAGE_BEAM = "stage_beam"
    """N candidates a stage; the selector keeps ``width`` of them and the next stage goes on from there."""


class SelectorKind(StrEnum):
    JUDGE_LOGPROB = "judge_logprob"
    """Self-judge: probabilities of "1" and "2", asked in both orders."""
    JUDGE_TEXT = "judge_text"
    """Self-judge: a written verdict, as published."""
    LIKELIHOOD = "likelihood"
    """Mean log-probability a token under the generator."""
    VOTE = "vote"
    """Whole answers only: the conclusion most of them give; ties go to the likelier."""


class PromptStyle(StrEnum):
    STANDARD = "standard"
    """Judge prompts for models that follow instructions."""
    COMPACT = "compact"
    """The shortest judge prompts, for small models trained on them."""


@dataclass(frozen=True, kw_only=True)
class SearchConfig:
    """One way to answer a question."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    strategy: Strategy = Strategy.STAGE_BEAM
    """What is searched, see Strategy."""
    samples: int = 4
    """N: candidates a stage (stage beam) or whole answers (best-of-N, self-consistency)."""
    width: int = 1
    """Stage beam: candidates kept after each stage but the last. 1 is the published search."""
    selector: SelectorKind = SelectorKind.JUDGE_LOGPROB
    """Who picks among candidates."""
    prompt_style: PromptStyle = PromptStyle.STANDARD
    """Wording of the judge's prompts."""
    judge_both_orders: bool = True
    """Judges: ask each comparison in both orders, a split counts as a tie. False asks one order, as published."""
    check_reasoning: bool = False
    """Stage beam with a judge: check each reasoning against its caption first, without the picture, as published."""
    sampling: Sampling = field(default_factory=Sampling)
    """How candidates are drawn. ``direct`` and ``greedy`` use only max_new_tokens."""
    repair_attempts: int = 1
    """How often a stage's unusable candidates (no closing tag, wrong tags) are drawn anew."""
    seed: int = 0
    """Every seed of the search derives from it and the question's id."""

    def __post_init__(self) -> None:
        if self.samples < 1:
            raise ConfigError(f"SearchConfig.samples must be at least 1, got {self.samples}; 1 means no search")
        if not 1 <= self.width <= self.samples:
            raise ConfigError(f"SearchConfig.width must lie in [1, samples={self.samples}], got {self.width}")
        if self.repair_attempts < 0:
            raise ConfigError(f"SearchConfig.repair_attempts must not be negative, got {self.repair_attempts}")
        if self.selector is SelectorKind.VOTE and self.strategy is Strategy.STAGE_BEAM:
            raise ConfigError(
                "SearchConfig.selector 'vote' counts whole answers; with stage_beam take another selector"
            )


def paper_search(samples: int = 4, seed: int = 0) -> SearchConfig:
    """The published stage-level beam search (arXiv 2411.10440), without its faults.

    Written verdicts, one order, reasonings checked against the caption, temperature 0.6, top_p 0.9.
    An unreadable verdict still is no vote, and unusable candidates are drawn anew.
    """
    return SearchConfig(
        samples=samples,
        selector=SelectorKind.JUDGE_TEXT,
        judge_both_orders=False,
        check_reasoning=True,
        seed=seed,
    )
