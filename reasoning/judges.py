"""A judge that compares two candidates: by the probabilities of "1" and "2", or by a written verdict.

It only asks and reads; which candidates meet, and what a tie means for them, is the selector's matter.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from reasoning.ledger import Ledger, Usage
from reasoning.prompts import (
    JUDGE_OPTIONS,
    JUDGE_PREFIX,
    hint_stages,
    judge_prompt,
    reasoning_check_prompt,
)
from reasoning.protocols import ChoiceRequest, ContinuationRequest, Engine, Sampling, StopReason
from reasoning.records import Question
from reasoning.search.config import PromptStyle, UnreadableVerdict
from reasoning.stages import Stage
from reasoning.trace import Comparison, Verdict
from reasoning.verdicts import parse_correctness, parse_verdict


class JudgeMode(StrEnum):
    LOGPROB = "logprob"
    """One forward pass an order: which of "1" and "2" follows "I choose response "."""
    TEXT = "text"
    """The judge writes its reason and its verdict, as published."""


@dataclass(frozen=True, kw_only=True)
class Contender:
    """A candidate as the judge sees it: its text and the stages written before it."""

    text: str
    prior: Mapping[Stage, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Opinion:
    """What the judge said of one pair, in the pair's own order."""

    verdict: Verdict
    p_first: float | None = None
    """Probability that the first is better, the mean over the orders asked; None for free text."""
    is_swap_consistent: bool | None = None
    """Whether both orders named the same winner; None when they were not both asked and read."""
    reply: str = ""
    unread: int = 0
    """Replies in which no verdict could be read."""

    @property
    def share_of_first(self) -> float | None:
        """How much of a win it is for the first, in [0, 1]; None when it could not be read."""
        return self.p_first if self.p_first is not None else _SHARES[self.verdict]


_SHARES = {Verdict.FIRST: 1.0, Verdict.SECOND: 0.0, Verdict.TIE: 0.5, Verdict.UNREADABLE: None}


class PairwiseJudge:
    """Compares pairs of candidates for one stage, or of whole answers, with an engine.

    ``both_orders`` asks each pair twice, the second time swapped: what an order bias adds in one
    order it takes away in the other, and a verdict that flips is a tie. ``unreadable`` says what a
    written reply without a verdict counts as; one that the engine gave up on is no vote. Each method
    is one batch, so one serial step, and returns what it cost; EngineError passes through.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        mode: JudgeMode = JudgeMode.LOGPROB,
        style: PromptStyle = PromptStyle.STANDARD,
        both_orders: bool = True,
        unreadable: UnreadableVerdict = UnreadableVerdict.NO_VOTE,
        max_new_tokens: int = 512,
    ) -> None:
        self.mode = mode
        self._engine = engine
        self._style = style
        self._both_orders = both_orders
        self._unreadable = unreadable
        self._sampling = Sampling(temperature=0.0, top_p=1.0, max_new_tokens=max_new_tokens)

    async def compare(
        self, question: Question, stage: Stage | None, pairs: Sequence[tuple[Contender, Contender]]
    ) -> tuple[list[Opinion], Ledger]:
        """An opinion on each pair, in the order of the pairs."""
        if not pairs:
            return [], Ledger()
        orders = 2 if self._both_orders else 1
        prompts: list[str] = []
        for first, second in pairs:
            prompts.append(self._prompt(question, stage, first, second))
            if self._both_orders:
                prompts.append(self._prompt(question, stage, second, first))
        if self.mode is JudgeMode.LOGPROB:
            shares, usage = await self._choose(question, stage, prompts)
            opinions = [_opinion_of_probabilities(shares[i : i + orders]) for i in range(0, len(shares), orders)]
        else:
            replies, usage = await self._write(question, stage, prompts)
            opinions = [
                _opinion_of_replies(replies[i : i + orders], self._unreadable) for i in range(0, len(replies), orders)
            ]
        return opinions, Ledger.of_judging(usage) + Ledger.of_step()

    async def check_reasonings(
        self, question: Question, contenders: Sequence[Contender]
    ) -> tuple[list[bool | None], Ledger]:
        """Whether each reasoning follows from its caption, asked without the picture; None: undecided."""
        if not contenders:
            return [], Ledger()
        requests = [
            ContinuationRequest(
                prompt=reasoning_check_prompt(question, contender.prior.get(Stage.CAPTION, ""), contender.text),
                image=None,
                prefix="",
                stops=(),
                seeds=(0,),
                sampling=self._sampling,
                stage=Stage.REASONING,
            )
            for contender in contenders
        ]
        replies = await self._engine.generate(requests)
        usage = sum((reply.usage for reply in replies), Usage())
        checks = [
            None if said.stop is StopReason.ABORTED else parse_correctness(said.text)
            for said in (reply.continuations[0] for reply in replies)
        ]
        return checks, Ledger.of_judging(usage) + Ledger.of_step()

    def _prompt(self, question: Question, stage: Stage | None, first: Contender, second: Contender) -> str:
        prior: Mapping[Stage, str] = first.prior
        texts = (first.text, second.text)
        needed = [s for s in hint_stages(stage) if s in first.prior or s in second.prior]
        if any(first.prior.get(s) != second.prior.get(s) for s in needed):
            # Candidates of different parents have no common hint: each brings its own along.
            texts = (_with_prior(first, needed), _with_prior(second, needed))
            prior = {}
        with_reason = self.mode is JudgeMode.TEXT
        return judge_prompt(self._style, question, stage, prior, *texts, with_reason=with_reason)

    async def _choose(
        self, question: Question, stage: Stage | None, prompts: Sequence[str]
    ) -> tuple[list[float | None], Usage]:
        """For each prompt the probability of "1" against "2"; None when neither is a number."""
        requests = [
            ChoiceRequest(
                prompt=prompt,
                image=question.image,
                prefix=JUDGE_PREFIX,
                options=JUDGE_OPTIONS,
                stage=stage,
                history=question.history,
            )
            for prompt in prompts
        ]
        replies = await self._engine.choose(requests)
        usage = sum((reply.usage for reply in replies), Usage())
        return [share_of_first(*reply.logprobs) for reply in replies], usage

    async def _write(
        self, question: Question, stage: Stage | None, prompts: Sequence[str]
    ) -> tuple[list[str | None], Usage]:
        """For each prompt what the judge wrote; None when the engine gave up on it."""
        requests = [
            ContinuationRequest(
                prompt=prompt,
                image=question.image,
                prefix="",
                stops=(),
                seeds=(0,),
                sampling=self._sampling,
                stage=stage,
                history=question.history,
            )
            for prompt in prompts
        ]
        replies = await self._engine.generate(requests)
        usage = sum((reply.usage for reply in replies), Usage())
        said = [reply.continuations[0] for reply in replies]
        return [None if one.stop is StopReason.ABORTED else one.text for one in said], usage


def as_comparison(said: Opinion, stage: Stage | None, first: str, second: str) -> Comparison:
    """An opinion on the candidates with these ids as the trace keeps it."""
    return Comparison(
        stage=stage,
        first=first,
        second=second,
        verdict=said.verdict,
        p_first=said.p_first,
        is_swap_consistent=said.is_swap_consistent,
        reply=said.reply,
        unread=said.unread,
    )


def share_of_first(first: float, second: float) -> float | None:
    """The probability of the first of two log-probabilities against the other; None when neither is a number."""
    if math.isnan(first) or math.isnan(second) or max(first, second) == -math.inf:
        return None
    difference = second - first
    return 0.0 if difference > 700 else 1 / (1 + math.exp(difference))


def _opinion_of_probabilities(asked: Sequence[float | None]) -> Opinion:
    """From the share of "1" as asked and, if asked, with the pair swapped."""
    shares = [share for share in (asked[0], *(None if s is None else 1 - s for s in asked[1:])) if share is not None]
    unread = len(asked) - len(shares)
    if not shares:
        return Opinion(verdict=Verdict.UNREADABLE, unread=unread)
    p_first = sum(shares) / len(shares)
    if all(share > 0.5 for share in shares):
        verdict = Verdict.FIRST
    elif all(share < 0.5 for share in shares):
        verdict = Verdict.SECOND
    else:
        verdict = Verdict.TIE
    return Opinion(
        verdict=verdict,
        p_first=p_first,
        is_swap_consistent=verdict is not Verdict.TIE if len(shares) == 2 else None,
        unread=unread,
    )


def _opinion_of_replies(asked: Sequence[str | None], unreadable: UnreadableVerdict) -> Opinion:
    """From what was written as asked and, if asked, with the pair swapped."""
    verdicts = [Verdict.UNREADABLE if reply is None else parse_verdict(reply) for reply in asked]
    unread = verdicts.count(Verdict.UNREADABLE)
    if unreadable is UnreadableVerdict.RESPONSE_2:
        verdicts = [
            Verdict.SECOND if said is Verdict.UNREADABLE and reply is not None else said
            for said, reply in zip(verdicts, asked, strict=True)
        ]
    verdicts[1:] = [_SWAPPED[verdict] for verdict in verdicts[1:]]
    reply = "\n".join(reply or "" for reply in asked)
    readable = [verdict for verdict in verdicts if verdict is not Verdict.UNREADABLE]
    if not readable:
        return Opinion(verdict=Verdict.UNREADABLE, reply=reply, unread=unread)
    is_split = len(set(readable)) > 1
    return Opinion(
        verdict=Verdict.TIE if is_split else readable[0],
        is_swap_consistent=not is_split if len(readable) == 2 else None,
        reply=reply,
        unread=unread,
    )


def _with_prior(contender: Contender, stages: Sequence[Stage]) -> str:
    return " ".join([*(contender.prior[s] for s in stages if s in contender.prior), contender.text])


_SWAPPED = {
    Verdict.FIRST: Verdict.SECOND,
    Verdict.SECOND: Verdict.FIRST,
    Verdict.TIE: Verdict.TIE,
    Verdict.UNREADABLE: Verdict.UNREADABLE,
}
