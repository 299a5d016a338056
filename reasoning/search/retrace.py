"""Stage-wise retracing search (SWIRES): captions and reasonings are drawn anew until two reasonings are good enough.

One summary; then in each round M captions, of which the best N are gone on from, and M reasonings
in all, which join those of earlier rounds. When the second best reasoning scores above the cutoff,
or the rounds are over, the best reasonings each give a conclusion, and the best scored answer wins.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from reasoning.scorers import Scorer
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
    pool: dict[Path, float] = {}
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
            pool |= reasonings
        if _is_good_enough(list(pool.values()), sizes.cutoff):
            break
    if not pool:
        return none_left(book, failures) if failures else await finish(book, best_caption or summary, 1)
    ranked = sorted(pool, key=lambda path: -pool[path])
    return await _conclude(book, scorer, ranked)


async def _captions(book: Notebook, scorer: Scorer, summary: Path, turn: int) -> tuple[list[Path], list[Failure]]:
    sizes = book.config.retrace
    slots = spread([summary], sizes.captions, first=turn * sizes.captions)
    written, failures = await draw_stage(book, Stage.CAPTION, slots)
    scores = await _scores(book, scorer, Stage.CAPTION, without_doubles(written))
    return sorted(scores, key=lambda path: -scores[path])[: sizes.kept], failures


async def _reasonings(
    book: Notebook, scorer: Scorer, captions: Sequence[Path], turn: int
) -> tuple[dict[Path, float], list[Failure]]:
    for caption in captions:
        book.keep(caption.id)
    sizes = book.config.retrace
    written, failures = await draw_stage(
        book, Stage.REASONING, spread(captions, sizes.captions, first=turn * sizes.captions)
    )
    return await _scores(book, scorer, Stage.REASONING, without_doubles(written)), failures


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
    scores = {written[0]: 0.0}
    if len(written) > 1:
        scores = await _scores(book, scorer, None, written)
    best = max(scores, key=lambda path: scores[path])
    book.keep(best.id)
    return answer_of(book, best, scorer.kind)


async def _scores(book: Notebook, scorer: Scorer, stage: Stage | None, paths: Sequence[Path]) -> dict[Path, float]:
    """The paths with their scores, which are written down; one that got none ranks lowest."""
    drafts = [path.whole(book.question) if stage is None else path.draft(stage) for path in paths]
    begun = book.elapsed()
    scores, cost = await scorer.score(book.question, stage, drafts)
    book.ledger += cost
    book.log(StepKind.SELECT, stage, begun, cost)
    for path, score in zip(paths, scores, strict=True):
        book.candidates[path.id] = replace(book.candidates[path.id], score=score)
    return {path: -math.inf if score is None else score for path, score in zip(paths, scores, strict=True)}


def _is_good_enough(scores: Sequence[float], cutoff: float) -> bool:
    return len(scores) >= _SECOND and sorted(scores)[-_SECOND] > cutoff
