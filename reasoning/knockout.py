"""The published selection: candidates meet in pairs, losers leave."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

from reasoning.drafts import Draft, distinct
from reasoning.judges import Contender, JudgeMode, Opinion, PairwiseJudge, as_comparison
from reasoning.ledger import Ledger
from reasoning.records import Question
from reasoning.search.config import Pairing
from reasoning.selectors import Selection
from reasoning.stages import Stage
from reasoning.trace import Comparison, Verdict


class Knockout:
    """Random pairs from a seed, losers leave, until ``keep`` are left.

    Of drafts that say the same only the first takes part. N drafts take N - ``keep`` comparisons: as
    a bracket in about log2(N / ``keep``) rounds, each one batch; as random pairs one after another.
    A tie goes to the one that the mean probability favours, else to the one written first; an
    unreadable verdict to the one written first. With ``check_reasoning``, reasonings are checked
    against their captions once at the start, and a pair of which exactly one failed is not compared.
    """

    def __init__(
        self, judge: PairwiseJudge, *, check_reasoning: bool = False, pairing: Pairing = Pairing.BRACKET
    ) -> None:
        self._judge = judge
        self._pairing = pairing
        self._check_reasoning = check_reasoning

    @property
    def score_kind(self) -> str:
        """Mean probability of winning over a draft's comparisons; for written verdicts its wins."""
        return "win_probability" if self._judge.mode is JudgeMode.LOGPROB else "wins"

    async def select(
        self, question: Question, stage: Stage | None, drafts: Sequence[Draft], keep: int, seed: int
    ) -> Selection:
        standing = distinct(drafts)
        if len(standing) <= keep:
            return Selection(kept=tuple(draft.id for draft in standing))
        checks, ledger = await self._checks(question, stage, standing)
        place = {draft.id: number for number, draft in enumerate(drafts)}
        chance = random.Random(seed)
        chance.shuffle(standing)
        comparisons: list[Comparison] = []
        while len(standing) > keep:
            if self._pairing is Pairing.RANDOM_PAIRS:
                # The winner of the last comparison may be drawn again at once.
                chance.shuffle(standing)
            most = 1 if self._pairing is Pairing.RANDOM_PAIRS else len(standing) // 2
            games = min(most, len(standing) - keep)
            pairs = [(standing[2 * i], standing[2 * i + 1]) for i in range(games)]
            byes = standing[2 * games :]
            opinions, cost = await self._opinions(question, stage, pairs, checks)
            ledger += cost
            comparisons += [
                as_comparison(said, stage, first.id, second.id)
                for (first, second), said in zip(pairs, opinions, strict=True)
            ]
            winners = [_winner(*pair, said, place) for pair, said in zip(pairs, opinions, strict=True)]
            # Who sat out plays first in the next round.
            standing = [*byes, *winners]
        scores = self._scores(comparisons, place)
        kept = sorted(standing, key=lambda draft: (-scores.get(draft.id, 0.0), place[draft.id]))
        return Selection(
            kept=tuple(draft.id for draft in kept), scores=scores, comparisons=tuple(comparisons), ledger=ledger
        )

    async def _checks(
        self, question: Question, stage: Stage | None, drafts: Sequence[Draft]
    ) -> tuple[dict[str, bool | None], Ledger]:
        if stage is not Stage.REASONING or not self._check_reasoning:
            return {}, Ledger()
        checks, ledger = await self._judge.check_reasonings(question, [_contender(draft) for draft in drafts])
        return dict(zip((draft.id for draft in drafts), checks, strict=True)), ledger

    async def _opinions(
        self,
        question: Question,
        stage: Stage | None,
        pairs: Sequence[tuple[Draft, Draft]],
        checks: Mapping[str, bool | None],
    ) -> tuple[list[Opinion], Ledger]:
        """One for each pair; those that the check decides are not put before the judge."""
        decided = [_decided(checks.get(first.id), checks.get(second.id)) for first, second in pairs]
        open_pairs = [
            (_contender(first), _contender(second))
            for (first, second), said in zip(pairs, decided, strict=True)
            if said is None
        ]
        judged, ledger = await self._judge.compare(question, stage, open_pairs)
        remaining = iter(judged)
        return [said or next(remaining) for said in decided], ledger

    def _scores(self, comparisons: Sequence[Comparison], place: Mapping[str, int]) -> dict[str, float]:
        shares: dict[str, list[float]] = {}
        for met in comparisons:
            if self._judge.mode is JudgeMode.LOGPROB:
                first = met.p_first if met.p_first is not None else _WIN_OF_FIRST[met.verdict]
                second = 1 - first
            else:
                first = float(met.verdict is Verdict.FIRST)
                second = float(met.verdict is Verdict.SECOND)
            shares.setdefault(met.first, []).append(first)
            shares.setdefault(met.second, []).append(second)
        if self._judge.mode is JudgeMode.LOGPROB:
            return {name: sum(values) / len(values) for name, values in shares.items()}
        return {name: sum(values) for name, values in shares.items()}


_WIN_OF_FIRST = {Verdict.FIRST: 1.0, Verdict.SECOND: 0.0, Verdict.TIE: 0.5, Verdict.UNREADABLE: 0.5}


def _contender(draft: Draft) -> Contender:
    return Contender(text=draft.text, prior=draft.prior)


def _decided(first: bool | None, second: bool | None) -> Opinion | None:
    """The opinion that two reasoning checks make needless: exactly one is correct, the other is not."""
    if first is None or second is None or first is second:
        return None
    verdict = Verdict.FIRST if first else Verdict.SECOND
    return Opinion(verdict=verdict, reply="the other reasoning does not follow from its caption")


def _winner(first: Draft, second: Draft, said: Opinion, place: Mapping[str, int]) -> Draft:
    if said.verdict is Verdict.FIRST:
        return first
    if said.verdict is Verdict.SECOND:
        return second
    if said.verdict is Verdict.TIE and said.p_first is not None and said.p_first != 0.5:
        return first if said.p_first > 0.5 else second
    return first if place[first.id] < place[second.id] else second
