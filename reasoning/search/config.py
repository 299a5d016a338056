"""How a question is to be answered: the strategy, its width, its selector, its sampling."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, ClassVar

from reasoning.errors import ConfigError
from reasoning.protocols import Sampling
from reasoning.stages import STAGES


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
    SUBTREES = "subtrees"
    """``subtrees`` stage beams of width 1 side by side, N candidates a stage in all; the selector picks among
    their conclusions. Diverse by construction, as diverse verifier tree search is."""
    SENTENCE_BEAM = "sentence_beam"
    """N candidates a sentence of the whole answer; the selector keeps one and the next sentence goes on from there."""
    SWIRES = "swires"
    """Stage-wise retracing: captions and reasonings are drawn anew, up to ``retrace.rounds`` times, until two
    reasonings score above ``retrace.cutoff``."""


class SelectorKind(StrEnum):
    JUDGE_LOGPROB = "judge_logprob"
    """Self-judge: probabilities of "1" and "2", asked in both orders."""
    JUDGE_TEXT = "judge_text"
    """Self-judge: a written verdict, as published."""
    LIKELIHOOD = "likelihood"
    """Mean log-probability a token under the generator."""
    VOTE = "vote"
    """Whole answers only: the conclusion most of them give; ties go to the likelier."""
    SCORE = "score"
    """The highest score by ``scorer``, each candidate by itself."""
    WEIGHTED_VOTE = "weighted_vote"
    """Whole answers only: votes for conclusions, each weighing as much as its ``scorer`` says."""
    PROBABILITY = "probability"
    """The generator's own probability of each text; whole answers that conclude the same add up. Asks no judge."""
    POSTERIOR = "posterior"
    """That probability times the odds of ``scorer``."""


class ScorerKind(StrEnum):
    """What gives a candidate a number of its own."""

    LIKELIHOOD = "likelihood"
    """Mean log-probability a token under the generator; costs nothing."""
    RATING = "rating"
    """Self-judge: the probability of "yes" against "no" when asked whether the candidate is right."""
    ROUND_ROBIN = "round_robin"
    """Self-judge: mean probability of winning against each other candidate, all pairs in one batch."""
    REWARD = "reward"
    """A reward model."""


class PromptStyle(StrEnum):
    STANDARD = "standard"
    """Judge prompts for models that follow instructions."""
    COMPACT = "compact"
    """The shortest judge prompts, for small models trained on them."""


class Pairing(StrEnum):
    """Who meets whom in a knockout; the seed decides, and N candidates take N - 1 comparisons either way."""

    BRACKET = "bracket"
    """All stand in random order, neighbours meet, all pairs of a round in one batch: about log2 N rounds."""
    RANDOM_PAIRS = "random_pairs"
    """As published: two at random, the winner back among the others, one comparison after another: N - 1 rounds."""


class UnreadableVerdict(StrEnum):
    """What a written verdict that cannot be read counts as. It is counted in the trace in any case."""

    NO_VOTE = "no_vote"
    """As nothing: the other order decides, else the candidate written first stays."""
    RESPONSE_2 = "response_2"
    """As published: as a vote for the response shown second."""


@dataclass(frozen=True, kw_only=True)
class ScoreSpread:
    """How a scorer's scores of reasonings lay where a cutoff was fitted."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    scorer: ScorerKind
    """What gave them."""
    count: int
    """How many reasonings."""
    mean: float
    std: float

    def __post_init__(self) -> None:
        if self.count < 1 or not self.std >= 0:
            raise ConfigError(f"ScoreSpread needs a count of 1 or more and no negative std, got {self}")


@dataclass(frozen=True, kw_only=True)
class Retrace:
    """The sizes of a retracing search. As published: 4, 2, 3; the cutoff belongs to model, scorer and data."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    captions: int = 4
    """Captions a round."""
    kept: int = 2
    """Captions of a round that reasonings go on from."""
    rounds: int = 3
    """The most rounds; the published code has 5."""
    finalists: int = 2
    """Reasonings that each give a conclusion; the published code has 3."""
    cutoff: float = 0.5
    """Search ends when the second best reasoning scores more. `stagebeam calibrate` fits it."""
    expected: ScoreSpread | None = None
    """The scores that the cutoff was fitted on; runs warn when theirs differ. A ``calibration`` file sets both."""

    def __post_init__(self) -> None:
        if not 1 <= self.kept <= self.captions:
            raise ConfigError(f"Retrace.kept must lie in [1, captions={self.captions}], got {self.kept}")
        if self.rounds < 1 or self.finalists < 1:
            raise ConfigError(
                f"Retrace.rounds and Retrace.finalists must be at least 1, got {self.rounds} and {self.finalists}"
            )


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
    samples_by_stage: tuple[int, ...] = ()
    """Stage beam, subtrees: four numbers that stand for ``samples`` at each stage, such as (1, 4, 4, 2)."""
    width_by_stage: tuple[int, ...] = ()
    """Stage beam: four numbers that stand for ``width`` at each stage; the last is 1."""
    subtrees: int = 2
    """Subtrees: how many; ``samples`` is shared out evenly among them."""
    max_sentences: int = 64
    """Sentence beam: after so many the best answer so far is finished alone."""
    retrace: Retrace = field(default_factory=Retrace)
    """SWIRES: its sizes."""
    selector: SelectorKind = SelectorKind.LIKELIHOOD
    """Who picks among candidates. The default is what benchmarks/search_quality.md supports; judges cost tokens and
    have to earn them, see docs/search.md."""
    scorer: ScorerKind = ScorerKind.RATING
    """What scores candidates for ``score``, ``weighted_vote``, ``posterior`` and SWIRES."""
    judge_fallback: bool = True
    """When the judge is lost or none of its verdicts can be read: vote on whole answers, take the likeliest
    stage, and say so in the trace. False: the error goes through; unreadable verdicts keep writing order."""
    deadline_s: float | None = None
    """Seconds after which the search stops branching: the best path so far is finished alone. Looked at between
    rounds; a round that runs is not cut short."""
    token_budget: int | None = None
    """Computed tokens after which the same happens."""
    stop_on_agreement: bool = False
    """Whole answers: draw half of the samples first; when these all conclude the same, that is the answer."""
    prompt_style: PromptStyle = PromptStyle.STANDARD
    """Wording of the judge's prompts."""
    judge_both_orders: bool = True
    """Judges: ask each comparison in both orders, a split counts as a tie. False asks one order, as published."""
    pairing: Pairing = Pairing.BRACKET
    """Judges: how candidates are paired, see Pairing."""
    unreadable_verdict: UnreadableVerdict = UnreadableVerdict.NO_VOTE
    """``judge_text``: what a reply without a readable verdict counts as, see UnreadableVerdict."""
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
        self._check_stage_sizes()
        if self.deadline_s is not None and not self.deadline_s > 0:
            raise ConfigError(f"SearchConfig.deadline_s must be above 0, got {self.deadline_s}; null means none")
        if self.token_budget is not None and self.token_budget < 1:
            raise ConfigError(f"SearchConfig.token_budget must be at least 1, got {self.token_budget}; null means none")
        if self.max_sentences < 1:
            raise ConfigError(f"SearchConfig.max_sentences must be at least 1, got {self.max_sentences}")
        if self.repair_attempts < 0:
            raise ConfigError(f"SearchConfig.repair_attempts must not be negative, got {self.repair_attempts}")
        by_vote = self.selector in (SelectorKind.VOTE, SelectorKind.WEIGHTED_VOTE)
        if by_vote and self.strategy in (Strategy.STAGE_BEAM, Strategy.SUBTREES, Strategy.SENTENCE_BEAM):
            raise ConfigError(
                f"SearchConfig.selector {self.selector.value!r} counts whole answers; with "
                f"{self.strategy.value} take another selector"
            )

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Callable[[Any], Any]) -> dict[str, Any]:
        """Where pydantic reads a search, a ``preset`` may stand among its fields, see ``with_preset``."""
        from reasoning.search.presets import with_preset

        # A core schema is a plain dict, so that this package needs no pydantic for it.
        function = {"type": "no-info", "function": with_preset}
        return {"type": "function-before", "function": function, "schema": handler(source)}

    def stage_size(self, place: int) -> tuple[int, int]:
        """Candidates drawn and kept at the stage with number ``place``, from 0; one is kept at the last."""
        samples = self.samples_by_stage[place] if self.samples_by_stage else self.samples
        width = self.width_by_stage[place] if self.width_by_stage else min(self.width, samples)
        return samples, width if place < len(STAGES) - 1 else 1

    def _check_stage_sizes(self) -> None:
        for name, sizes in (("samples_by_stage", self.samples_by_stage), ("width_by_stage", self.width_by_stage)):
            if sizes and (len(sizes) != len(STAGES) or min(sizes) < 1):
                raise ConfigError(
                    f"SearchConfig.{name} must have a number of at least 1 for each of the {len(STAGES)} stages, "
                    f"got {list(sizes)}"
                )
        for place in range(len(STAGES)):
            samples, width = self.stage_size(place)
            if width > samples:
                raise ConfigError(f"SearchConfig.width_by_stage keeps {width} of {samples} at stage {place + 1}")
            if self.strategy is Strategy.SUBTREES and (self.subtrees < 1 or samples % self.subtrees):
                raise ConfigError(
                    f"SearchConfig.subtrees is {self.subtrees}; {samples} samples cannot be shared out evenly"
                )
