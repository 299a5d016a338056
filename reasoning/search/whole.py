"""Strategies that write whole answers in one step: direct, greedy, self-consistency, best-of-N."""

from __future__ import annotations

from dataclasses import dataclass, replace

from reasoning.drafts import Draft
from reasoning.grading import canonical
from reasoning.parsing import FaultKind, ParseFault, parse_stages
from reasoning.prompts import question_text
from reasoning.protocols import Continuation, ContinuationRequest, Sampling, StopReason
from reasoning.search.notebook import Notebook
from reasoning.search.result import Ending, SearchResult
from reasoning.seeds import derive_seed
from reasoning.selectors import MostVotes, Selector
from reasoning.stages import FourStages

_FEWEST_TO_AGREE = 2


@dataclass(frozen=True, kw_only=True)
class _Answer:
    """A usable whole answer."""

    id: str
    text: str
    stages: FourStages
    logprob: float
    mean_logprob: float
    key: str
    """What its conclusion means."""


@dataclass(frozen=True, kw_only=True)
class _Failure:
    """An unusable one."""

    id: str
    text: str
    fault: ParseFault


async def answer_directly(book: Notebook) -> SearchResult:
    """One greedy answer without stages; all that was written is the conclusion.

    A model that writes the four stages all the same is taken at its conclusion.
    """
    [said] = await _write(book, question_text(book.question), samples=1, sampling=greedy(book.config.sampling))
    text = said.text.strip()
    if said.stop is StopReason.ABORTED or not text:
        fault = FaultKind.ABORTED if said.stop is StopReason.ABORTED else FaultKind.EMPTY
        name = book.note(1, None, None, said, said.text, fault)
        return book.failed(text=said.text, last=name, fault=fault.value)
    name = book.note(1, None, None, said, text, None)
    book.candidates[name] = replace(book.candidates[name], is_kept=True)
    parsed = parse_stages(text)
    stages = parsed if isinstance(parsed, FourStages) else None
    return book.answered(
        conclusion=stages.conclusion if stages else text,
        stages=stages,
        text=said.text,
        chosen=name,
        score_kind="none",
    )


async def answer_whole(book: Notebook, selector: Selector, *, samples: int, sampling: Sampling) -> SearchResult:
    """``samples`` four-stage answers, of which ``selector`` picks one; unusable ones cannot be picked.

    When all are unusable the result tells the fault of the first.
    """
    read = await _read_waves(book, samples, sampling)
    usable = {answer.id: answer for answer in read if isinstance(answer, _Answer)}
    if not usable:
        first = next(failure for failure in read if isinstance(failure, _Failure))
        return book.failed(text=first.text, last=first.id, fault=first.fault.code)
    drafts = [
        Draft(
            id=answer.id,
            text=answer.text.strip(),
            mean_logprob=answer.mean_logprob,
            logprob=answer.logprob,
            key=answer.key,
        )
        for answer in usable.values()
    ]
    if book.limit_reached():
        selector = MostVotes()
    seed = derive_seed(book.config.seed, book.question.id, None, purpose="pairs")
    selection = await book.select(selector, None, drafts, 1, seed)
    book.settle(selection)
    chosen = usable[selection.kept[0]]
    return book.answered(
        conclusion=chosen.stages.conclusion,
        stages=chosen.stages,
        text=chosen.text,
        chosen=chosen.id,
        score_kind=selector.score_kind,
    )


def greedy(sampling: Sampling) -> Sampling:
    """The most probable tokens; of ``sampling`` only the token limit stays."""
    return Sampling(temperature=0.0, top_p=1.0, max_new_tokens=sampling.max_new_tokens)


async def _read_waves(book: Notebook, samples: int, sampling: Sampling) -> list[_Answer | _Failure]:
    """``samples`` answers; with ``stop_on_agreement`` only the first half of them when these all say the same."""
    prompt = question_text(book.question)
    half = -(-samples // 2)
    if not book.config.stop_on_agreement or half < _FEWEST_TO_AGREE:
        return [_read(book, one) for one in await _write(book, prompt, samples=samples, sampling=sampling)]
    read = [_read(book, one) for one in await _write(book, prompt, samples=half, sampling=sampling)]
    keys = {answer.key if isinstance(answer, _Answer) else None for answer in read}
    if len(keys) == 1 and None not in keys:
        book.ended_by = Ending.AGREEMENT
        return read
    if book.limit_reached() and any(isinstance(answer, _Answer) for answer in read):
        return read
    rest = await _write(book, prompt, samples=samples - half, sampling=sampling, first=half)
    return read + [_read(book, one) for one in rest]


async def _write(
    book: Notebook, prompt: str, *, samples: int, sampling: Sampling, first: int = 0
) -> tuple[Continuation, ...]:
    """``samples`` whole answers, numbered for their seeds from ``first``."""
    numbers = range(first, first + samples)
    seeds = tuple(derive_seed(book.config.seed, book.question.id, None, number) for number in numbers)
    request = ContinuationRequest(
        prompt=prompt,
        image=book.question.image,
        prefix="",
        stops=(),
        seeds=seeds,
        sampling=sampling,
        history=book.question.history,
    )
    [reply] = await book.draw([request])
    return reply.continuations


def _read(book: Notebook, said: Continuation) -> _Answer | _Failure:
    parsed = parse_stages(said.text) if said.stop is not StopReason.ABORTED else ParseFault.aborted(None)
    if isinstance(parsed, ParseFault):
        name = book.note(1, None, None, said, said.text, parsed.kind.value)
        return _Failure(id=name, text=said.text, fault=parsed)
    return _Answer(
        id=book.note(1, None, None, said, said.text, None),
        text=said.text,
        stages=parsed,
        logprob=said.logprob,
        mean_logprob=said.logprob / max(1, said.tokens),
        key=canonical(book.question, parsed.conclusion),
    )
