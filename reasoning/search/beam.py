"""Stage-level beam search: candidates for a stage, the selector keeps some, the next stage goes on from them.

With width 1 this is the published search. ``SUBTREES`` runs several such searches of width 1 beside
one another, in the same batches, and picks among their conclusions at the end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from reasoning.ledger import Ledger
from reasoning.search.notebook import Notebook
from reasoning.search.paths import Failure, Path, draw_stage, spread, without_doubles
from reasoning.search.result import SearchResult
from reasoning.search.whole import greedy
from reasoning.seeds import derive_seed
from reasoning.selectors import Selection, Selector
from reasoning.stages import STAGES, FourStages, Stage


async def answer_by_stages(book: Notebook, selector: Selector) -> SearchResult:
    """The answer at the end of the best path.

    When a stage has no usable candidate left after its repairs, the result tells the fault of the
    first one. Beyond the search's limits the best path alone is finished, unjudged.
    """
    paths = [Path()]
    for place, stage in enumerate(STAGES):
        if book.limit_reached():
            return await finish(book, paths[0], place)
        samples, width = book.config.stage_size(place)
        written, failures = await draw_stage(book, stage, spread(paths, samples))
        if not written:
            return none_left(book, failures)
        distinct = without_doubles(written)
        selection = await _select(book, selector, stage, distinct, width)
        book.settle(selection)
        by_id = {path.id: path for path in distinct}
        paths = [by_id[name] for name in selection.kept]
    return answer_of(book, paths[0], selector.score_kind)


async def answer_by_subtrees(book: Notebook, selector: Selector) -> SearchResult:
    """The best conclusion of ``subtrees`` independent searches; a subtree without a usable candidate is given up."""
    trees: list[list[Path]] = [[Path()] for _ in range(book.config.subtrees)]
    for place, stage in enumerate(STAGES):
        if book.limit_reached():
            return await finish(book, max((tree[0] for tree in trees), key=lambda path: path.mean_logprob), place)
        samples = book.config.stage_size(place)[0] // book.config.subtrees
        slots = [slot for i, tree in enumerate(trees) for slot in spread(tree, samples, first=i * samples)]
        written, failures = await draw_stage(book, stage, slots)
        if not written:
            return none_left(book, failures)
        grown: dict[int, list[Path]] = {}
        for path in written:
            grown.setdefault(path.index // samples, []).append(path)
        trees = await _select_in_each(book, selector, stage, [without_doubles(paths) for paths in grown.values()])
    finished = [tree[0] for tree in trees]
    seed = derive_seed(book.config.seed, book.question.id, None, purpose="pairs")
    drafts = [path.whole(book.question) for path in finished]
    selection = await book.select(selector, None, drafts, 1, seed)
    book.settle(selection)
    chosen = next(path for path in finished if path.id == selection.kept[0])
    return answer_of(book, chosen, selector.score_kind)


async def finish(book: Notebook, path: Path, place: int) -> SearchResult:
    """The best path so far, written to its end by the most probable tokens: one candidate a stage."""
    for stage in STAGES[place:]:
        written, failures = await draw_stage(book, stage, spread([path], 1), sampling=greedy(book.config.sampling))
        if not written:
            return none_left(book, failures)
        [path] = written
        book.keep(path.id)
    return answer_of(book, path, "none")


def answer_of(book: Notebook, path: Path, score_kind: str) -> SearchResult:
    """The result whose answer is a finished path."""
    stages = FourStages.from_mapping(path.texts)
    return book.answered(
        conclusion=stages.conclusion, stages=stages, text=path.raw, chosen=path.id, score_kind=score_kind
    )


def none_left(book: Notebook, failures: Sequence[Failure]) -> SearchResult:
    """The result of a stage without a usable candidate."""
    first = failures[0]
    return book.failed(text=first.text, last=first.id, fault=first.fault.code)


async def _select(
    book: Notebook, selector: Selector, stage: Stage, paths: Sequence[Path], keep: int, tree: int = 0
) -> Selection:
    seed = derive_seed(book.config.seed, book.question.id, stage, tree, purpose="pairs")
    return await book.select(selector, stage, [path.draft(stage) for path in paths], keep, seed)


async def _select_in_each(
    book: Notebook, selector: Selector, stage: Stage, trees: Sequence[Sequence[Path]]
) -> list[list[Path]]:
    """The best path of each tree. The selectors run at the same time, so their steps are not added up."""
    selections = await asyncio.gather(
        *(_select(book, selector, stage, paths, 1, number) for number, paths in enumerate(trees))
    )
    cost = Ledger.alongside([selection.ledger for selection in selections])
    for selection in selections:
        book.settle(selection, with_cost=False)
    book.ledger += cost
    return [
        [path for path in paths if path.id == selection.kept[0]]
        for paths, selection in zip(trees, selections, strict=True)
    ]
