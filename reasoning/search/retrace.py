"""Stage-wise retracing search (SWIRES): captions and reasonings are drawn anew until two reasonings are good enough.

One summary; then in each round M captions, of which the best N are gone on from, and M reasonings
in all, which join those of earlier rounds. When the second best reasoning scores above the cutoff,
or the rounds are over, the best reasonings each give a conclusion, and the best scored answer wins.
Scores of different scorers cannot be compared: what was written while the scorer was lost ranks by
likelihood among itself, behind all that was scored.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from reasoning.errors import EngineError
from reasoning.ledger import Ledger
from reasoning.scorers import Likelihood, Scorer, Scores
from reasoning.search.beam import answer_of, finish, none_left
from reasoning.search.notebook import Notebook
from reasoning.search.paths import Failure, Path, draw_stage, spread, without_doubles
from reasoning.search.result import SearchResult
from reasoning.search.whole import greedy
from reasoning.stages import STAGES, Stage
from reasoning.trace import StepKind

_SECOND = 2


async def answer_by_retracing(book: Notebook, scorer: Scorer) -> SearchResult:
    """The best scored answer; a stage without a usable candidate in any round tells its first fault."""
    sizes = book.config.retrace
    written, failures = await draw_stage(book, STAGES[0], spread([Path()], 1))
    if not written:
        return none_left(book, failures)
    [summary] = written
    book.keep(summary.id)
    pool = _Ranking()
    best_caption: Path | None = None
    failures = []
    for turn in range(sizes.rounds):
        if book.limit_reached():
            break
        captions, found = await _captions(book, scorer, summary, turn)
        failures += found
        if captions:
            best_caption = best_caption or captions[0]
            reasonings, found = await _reasonings(book, scorer, captions, turn)
            failures += found
            pool.add(reasonings)
        if _is_good_enough([*pool.scored.values(), *pool.doubles], sizes.cutoff):
            break
    ranked = pool.ranked()
    if not ranked:
        return none_left(book, failures) if failures else await finish(book, best_caption or summary, 1)
    return await _conclude(book, scorer, ranked)


@dataclass
class _Ranking:
    """Paths with their scores, and those that only likelihood could be asked about."""

    scored: dict[Path, float] = field(default_factory=dict)
    unscored: dict[Path, float] = field(default_factory=dict)
    doubles: list[float] = field(default_factory=list)
    """Scores of paths that say the same as one of the scored: they go no further, but count for the cutoff."""

    def add(self, other: _Ranking) -> None:
        self.scored |= other.scored
        self.unscored |= other.unscored
        self.doubles += other.doubles

    def ranked(self) -> list[Path]:
        """Best first; ties keep writing order."""
        return [
            *sorted(self.scored, key=lambda path: -self.scored[path]),
            *sorted(self.unscored, key=lambda path: -self.unscored[path]),
        ]


async def _captions(book: Notebook, scorer: Scorer, summary: Path, turn: int) -> tuple[list[Path], list[Failure]]:
    sizes = book.config.retrace
    slots = spread([summary], sizes.captions, first=turn * sizes.captions)
    written, failures = await draw_stage(book, Stage.CAPTION, slots)
    ranking = await _rank(book, scorer, Stage.CAPTION, without_doubles(written))
    return ranking.ranked()[: sizes.kept], failures


async def _reasonings(
    book: Notebook, scorer: Scorer, captions: Sequence[Path], turn: int
) -> tuple[_Ranking, list[Failure]]:
    for caption in captions:
        book.keep(caption.id)
    sizes = book.config.retrace
    written, failures = await draw_stage(
        book, Stage.REASONING, spread(captions, sizes.captions, first=turn * sizes.captions)
    )
    kinds = without_doubles(written)
    ranking = await _rank(book, scorer, Stage.REASONING, kinds)
    by_text = {tuple(path.texts.values()): path for path in kinds}
    for path in written:
        kind = by_text[tuple(path.texts.values())]
        if path is not kind and kind in ranking.scored:
            ranking.doubles.append(ranking.scored[kind])
            book.candidates[path.id] = replace(book.candidates[path.id], score=book.candidates[kind.id].score)
    return ranking, failures


async def _conclude(book: Notebook, scorer: Scorer, ranked: Sequence[Path]) -> SearchResult:
    """A conclusion for each of the best reasonings, by the most probable tokens; the best whole answer wins."""
    finalists = ranked[: 1 if book.limit_reached() else book.config.retrace.finalists]
    for path in finalists:
        book.keep(path.id)
    written, failures = await draw_stage(
        book, Stage.CONCLUSION, spread(finalists, len(finalists)), sampling=greedy(book.config.sampling)
    )
    if not written:
        return none_left(book, failures)
    best = written[0]
    if len(written) > 1:
        best = (await _rank(book, scorer, None, written)).ranked()[0]
    book.keep(best.id)
    return answer_of(book, best, scorer.kind)


async def _rank(book: Notebook, scorer: Scorer, stage: Stage | None, paths: Sequence[Path]) -> _Ranking:
    """The paths with their scores, which are written down; one that got none ranks lowest.

    When the scorer is lost, and with ``judge_fallback``, likelihood ranks them; the trace says so and
    holds no score. Raises EngineError without it.
    """
    drafts = [path.whole(book.question) if stage is None else path.draft(stage) for path in paths]
    begun = book.elapsed()
    try:
        found = await scorer.score(book.question, stage, drafts)
    except EngineError as error:
        if not book.config.judge_fallback:
            raise
        instead = await Likelihood().score(book.question, stage, drafts)
        said = stage.lower() if stage else "answer"
        book.notes.append(f"{said}: the scorer was lost ({error}); took the likeliest instead")
        book.log(StepKind.SELECT, stage, begun, Ledger.of_step())
        return _Ranking(unscored=_numbers(paths, instead.scores))
    book.ledger += found.ledger
    book.comparisons += found.comparisons
    book.log(StepKind.SELECT, stage, begun, found.ledger)
    for path, score in zip(paths, found.scores, strict=True):
        book.candidates[path.id] = replace(book.candidates[path.id], score=score)
    return _Ranking(scored=_numbers(paths, found.scores))


def _numbers(paths: Sequence[Path], scores: Scores) -> dict[Path, float]:
    return {path: -math.inf if score is None else score for path, score in zip(paths, scores, strict=True)}


def _is_good_enough(scores: Sequence[float], cutoff: float) -> bool:
    return len(scores) >= _SECOND and sorted(scores)[-_SECOND] > cutoff
