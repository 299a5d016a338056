"""Sentence-level beam search: the finer-grained search that stage-level search is compared with.

A sentence ends with ``.``, ``?`` or ``!`` and white space after it, at a line's end, or with the
turn; a number such as 3.14 ends none. The stages are written as they come and read at the end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from reasoning.drafts import Draft
from reasoning.parsing import ParseFault, parse_stages
from reasoning.prompts import question_text
from reasoning.protocols import Continuation, ContinuationRequest, StopReason
from reasoning.search.notebook import Notebook
from reasoning.search.result import SearchResult
from reasoning.search.whole import greedy
from reasoning.seeds import derive_seed
from reasoning.selectors import Selector

SENTENCE_ENDS = (". ", "? ", "! ", ".\n", "?\n", "!\n", "\n\n")


@dataclass(frozen=True, kw_only=True)
class _Text:
    """An answer as far as it is written."""

    id: str = ""
    raw: str = ""
    logprob: float = 0.0
    tokens: int = 0
    is_over: bool = False
    """Whether the model ended its turn, or its tokens are used up."""

    @property
    def draft(self) -> Draft:
        mean = self.logprob / max(1, self.tokens)
        return Draft(id=self.id, text=self.raw.strip(), mean_logprob=mean, logprob=self.logprob)


async def answer_by_sentences(book: Notebook, selector: Selector) -> SearchResult:
    """The answer at the end of the best sentences; a fault when it cannot be read as four stages."""
    text = _Text()
    number = 0
    while not text.is_over:
        number += 1
        alone = book.limit_reached() or number > book.config.max_sentences
        candidates = await _draw(book, text, number, alone=alone)
        if not candidates:
            break
        text = await _best(book, selector, number, candidates)
    parsed = parse_stages(text.raw) if text.id else ParseFault.aborted(None)
    if isinstance(parsed, ParseFault):
        last = text.id or next(reversed(book.candidates))
        book.candidates[last] = replace(book.candidates[last], fault=parsed.kind.value)
        return book.failed(text=text.raw, last=last, fault=parsed.code)
    return book.answered(
        conclusion=parsed.conclusion, stages=parsed, text=text.raw, chosen=text.id, score_kind=selector.score_kind
    )


async def _draw(book: Notebook, text: _Text, number: int, *, alone: bool) -> list[_Text]:
    """The next sentences; ``alone``: the rest of the answer, once, by the most probable tokens."""
    config = book.config
    sampling = greedy(config.sampling) if alone else config.sampling
    room = config.sampling.max_new_tokens - text.tokens
    # The index tells rounds apart: a sentence has seeds of its own.
    seeds = tuple(
        derive_seed(config.seed, book.question.id, None, index, number, purpose="sentence")
        for index in range(1 if alone else config.samples)
    )
    request = ContinuationRequest(
        prompt=question_text(book.question),
        image=book.question.image,
        prefix=text.raw,
        stops=() if alone else SENTENCE_ENDS,
        seeds=seeds,
        sampling=replace(sampling, max_new_tokens=room),
        history=book.question.history,
    )
    [reply] = await book.draw([request])
    return [found for said in reply.continuations if (found := _read(book, text, number, said, room)) is not None]


def _read(book: Notebook, text: _Text, number: int, said: Continuation, room: int) -> _Text | None:
    """The text with a sentence more; None for one that the engine gave up on."""
    fault = "aborted" if said.stop is StopReason.ABORTED else None
    name = book.note(number, None, text.id or None, said, said.text, fault)
    if fault is not None:
        return None
    return _Text(
        id=name,
        # The space behind a sentence belongs to the next word's token.
        raw=(text.raw + said.text).removesuffix(" "),
        logprob=text.logprob + said.logprob,
        tokens=text.tokens + said.tokens,
        # A sentence without a token would come again and again.
        is_over=said.stop is not StopReason.TAG or said.tokens >= room or not said.text,
    )


async def _best(book: Notebook, selector: Selector, number: int, candidates: Sequence[_Text]) -> _Text:
    first: dict[str, _Text] = {}
    for candidate in candidates:
        first.setdefault(candidate.raw, candidate)
    seed = derive_seed(book.config.seed, book.question.id, None, number, purpose="pairs")
    selection = await book.select(selector, None, [found.draft for found in first.values()], 1, seed)
    book.settle(selection)
    return next(found for found in first.values() if found.id == selection.kept[0])
