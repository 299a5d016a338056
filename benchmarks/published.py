"""The published stage-level search as published, for comparison: one ``generate`` call after another.

Each call encodes the image and runs its whole prompt anew; N candidates are drawn one by one; while
more than one is left, two at random are put before the same model, which writes a verdict
(arXiv 2411.10440). Prompts and token ids are those of the product, so that both do the same work.
Written for measuring: a candidate without closing tag is taken as it is.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

from actors.chat import cross_attention_mask, encode, image_facts
from actors.images import load_image
from reasoning.parsing import ParseFault, parse_stage
from reasoning.prompts import hint_stages, judge_prompt, question_text, reasoning_check_prompt
from reasoning.protocols import Sampling
from reasoning.records import ImageRef, Question
from reasoning.search.config import PromptStyle
from reasoning.stages import SEPARATOR, STAGES, Stage
from reasoning.trace import Verdict
from reasoning.verdicts import parse_correctness, parse_verdict

Judge = Callable[[str, str], int]
"""Says 1 or 2 of two texts, in place of the model."""

_GREEDY = Sampling(temperature=0.0, top_p=1.0, max_new_tokens=512)


@dataclass
class Counts:
    """What a search did."""

    calls: int = 0
    image_encodes: int = 0
    prompt_tokens: int = 0
    candidate_tokens: int = 0
    judge_tokens: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, kw_only=True)
class PublishedAnswer:
    """``text`` is all four stages as generated."""

    text: str
    conclusion: str | None
    counts: Counts = field(default_factory=Counts)


class PublishedSearch:
    """Searches with one Mllama model and its processor."""

    def __init__(
        self,
        model: Any,
        processor: Any,
        *,
        samples: int,
        sampling: Sampling,
        style: PromptStyle,
        budget: int | None = None,
        judge_budget: int | None = None,
        judge: Judge | None = None,
    ) -> None:
        """``budget``: every candidate is exactly so long, and its closing tag is added; for random weights."""
        self._model = model
        self._processor = processor
        self._samples = samples
        self._sampling = sampling
        self._style = style
        self._budget = budget
        self._judge_budget = judge_budget
        self._judge = judge
        named = model.generation_config.eos_token_id
        self._eos = [i for i in [*(named if isinstance(named, list) else [named])] if i is not None]

    def answer(self, question: Question, seed: int = 0) -> PublishedAnswer:
        """The four stages, one after another."""
        torch.manual_seed(seed)
        draws = random.Random(seed)
        counts = Counts()
        started = time.perf_counter()
        written = ""
        prior: dict[Stage, str] = {}
        for stage in STAGES:
            prefix = written + SEPARATOR if written else ""
            texts = [self._candidate(question, stage, prefix, counts) for _ in range(self._samples)]
            chosen = self._tournament(question, stage, prior, texts, draws, counts)
            parsed = parse_stage(chosen, stage)
            prior[stage] = chosen if isinstance(parsed, ParseFault) else parsed
            written = prefix + chosen
        counts.seconds = time.perf_counter() - started
        return PublishedAnswer(text=written, conclusion=prior[Stage.CONCLUSION], counts=counts)

    def _candidate(self, question: Question, stage: Stage, prefix: str, counts: Counts) -> str:
        text, tokens = self._generate(
            question_text(question), prefix, question.image, self._sampling, stage.close_tag, self._budget, counts
        )
        counts.candidate_tokens += tokens
        return text if self._budget is None else f"{stage.open_tag} {text} {stage.close_tag}"

    def _tournament(
        self,
        question: Question,
        stage: Stage,
        prior: dict[Stage, str],
        texts: list[str],
        draws: random.Random,
        counts: Counts,
    ) -> str:
        standing = list(texts)
        while len(standing) > 1:
            first = standing.pop(draws.randrange(len(standing)))
            second = standing.pop(draws.randrange(len(standing)))
            standing.append((first, second)[self._verdict(question, stage, prior, first, second, counts) - 1])
        return standing[0]

    def _verdict(
        self, question: Question, stage: Stage, prior: dict[Stage, str], first: str, second: str, counts: Counts
    ) -> int:
        if self._judge is not None:
            return self._judge(first, second)
        plain = [_inner(text, stage) for text in (first, second)]
        if stage is Stage.REASONING:
            checks = [self._check(question, prior.get(Stage.CAPTION, ""), text, counts) for text in plain]
            if checks[0] is not checks[1] and None not in checks:
                return 1 if checks[0] else 2
        hints = {s: prior[s] for s in hint_stages(stage) if s in prior}
        prompt = judge_prompt(self._style, question, stage, hints, *plain, with_reason=True)
        reply = self._judgement(prompt, question.image, counts)
        # As published: what cannot be read counts for the second.
        return 1 if parse_verdict(reply) is Verdict.FIRST else 2

    def _check(self, question: Question, caption: str, reasoning: str, counts: Counts) -> bool | None:
        return parse_correctness(self._judgement(reasoning_check_prompt(question, caption, reasoning), None, counts))

    def _judgement(self, prompt: str, image: ImageRef | None, counts: Counts) -> str:
        text, tokens = self._generate(prompt, "", image, _GREEDY, None, self._judge_budget, counts)
        counts.judge_tokens += tokens
        return text

    def _generate(
        self,
        prompt: str,
        prefix: str,
        image: ImageRef | None,
        sampling: Sampling,
        stop: str | None,
        budget: int | None,
        counts: Counts,
    ) -> tuple[str, int]:
        """Generated text and its number of tokens."""
        device = self._model.device
        ids = encode(self._processor, prompt, prefix=prefix, has_image=image is not None)
        inputs: dict[str, Any] = {
            "input_ids": torch.tensor([ids], device=device),
            "attention_mask": torch.ones(1, len(ids), dtype=torch.long, device=device),
        }
        if image is not None:
            facts = image_facts(self._processor, load_image(image))
            inputs |= {name: value.to(device) for name, value in facts.tensors.items()}
            inputs["pixel_values"] = inputs["pixel_values"].to(self._model.dtype)
            inputs["cross_attention_mask"] = cross_attention_mask(self._processor, ids, facts.tiles)[None].to(device)
            counts.image_encodes += 1
        ends = self._ends(stop) if budget is None else {"eos_token_id": None}
        drawing: dict[str, Any] = {"do_sample": False}
        if sampling.temperature > 0:
            drawing = {"do_sample": True, "temperature": sampling.temperature, "top_p": sampling.top_p, "top_k": 0}
        with torch.inference_mode():
            made = self._model.generate(**inputs, **drawing, **ends, max_new_tokens=budget or sampling.max_new_tokens)
        new = made[0, len(ids) :].tolist()
        counts.calls += 1
        counts.prompt_tokens += len(ids)
        text = self._processor.tokenizer.decode(new, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return text, len(new)

    def _ends(self, stop: str | None) -> dict[str, Any]:
        """How ``generate`` is told to stop: by the tag's token where it is one, else by looking at the text."""
        if stop is None:
            return {"eos_token_id": self._eos}
        ids = self._processor.tokenizer(stop, add_special_tokens=False)["input_ids"]
        if len(ids) == 1:
            return {"eos_token_id": [*self._eos, ids[0]]}
        return {"eos_token_id": self._eos, "stop_strings": [stop], "tokenizer": self._processor.tokenizer}


def _inner(text: str, stage: Stage) -> str:
    parsed = parse_stage(text, stage)
    return text if isinstance(parsed, ParseFault) else parsed
