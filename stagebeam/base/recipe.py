"""How the base model came to be: ``python -m stagebeam.base.recipe --output DIR``.

Three phases (reasons and measurements: the model card): the vision encoder learns the cells of
the grid; the language model learns to work things out from words alone; both are joined on
pictures. One learning-rate schedule over the last two, with one decay at the end.
"""

from __future__ import annotations

import argparse
import bisect
import contextlib
import itertools
import json
import math
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional
from transformers import PreTrainedTokenizerFast

from stagebeam.base.architecture import HIDDEN, build_model, build_processor, save, train_tokenizer
from stagebeam.base.batches import IGNORED, NUMBER_WEIGHT, UNMARKED, Collator, draw_batch, pixels
from stagebeam.base.skills import SKILLS, TEXT_SKILLS, VERDICT_SKILLS, Practice, practise
from stagebeam.world.scene import COLORS, SHAPES, SIZES, Scene

BATCH = 64
PHASES = ("vision", "text", "join", "polish", "judge")
TEXT_MIX = {"work_out": 0.62, "match_text": 0.24, "match_end": 0.09, "plan": 0.05}
ALIGN_MIX = {
    "describe": 0.50,
    "look_up": 0.06,
    "check": 0.10,
    "rate": 0.05,
    "match": 0.05,
    "work_out": 0.14,
    "rate_text": 0.03,
    "match_text": 0.04,
    "match_end": 0.03,
}
SKILL_MIX = {
    "describe": 0.20,
    "look_up": 0.03,
    "check": 0.05,
    "rate": 0.08,
    "match": 0.10,
    "match_why": 0.05,
    "match_all": 0.07,
    "answer": 0.03,
    "work_out": 0.22,
    "rate_text": 0.05,
    "match_text": 0.08,
    "match_end": 0.03,
    "plan": 0.01,
}
POLISH_MIX = {
    "describe": 0.10,
    "look_up": 0.01,
    "check": 0.05,
    "rate": 0.06,
    "match": 0.17,
    "match_why": 0.03,
    "match_all": 0.10,
    "answer": 0.01,
    "work_out": 0.26,
    "rate_text": 0.04,
    "match_text": 0.13,
    "match_end": 0.03,
    "plan": 0.01,
}
JUDGE_MIX = {
    "describe": 0.12,
    "look_up": 0.01,
    "check": 0.02,
    "rate": 0.02,
    "match": 0.12,
    "match_why": 0.02,
    "match_all": 0.15,
    "answer": 0.01,
    "work_out": 0.16,
    "rate_text": 0.03,
    "match_text": 0.26,
    "match_end": 0.06,
    "plan": 0.02,
}
PEAKS = {"polish": 0.7, "judge": 0.6}
"""The highest learning rate of a phase, as a share of the first ones'."""
MUON_RATE, ADAM_RATE = 0.02, 3e-3
CELLS = 9
CLASSES = (len(SIZES) + 1, len(COLORS) + 1, len(SHAPES) + 1, CELLS)


def tokenizer_texts(seed: int, count: int = 6000) -> Iterator[str]:
    rng = random.Random(f"{seed}/tokenizer")
    skills = list(SKILLS)
    for index in range(count):
        practice = practise(rng, skills[index % len(skills)])
        yield practice.prompt
        yield practice.response
    yield from ("I choose response 1. Since it is right, I choose response 2.", "Hint: Judge caption, say why") * 50


def kept_tokenizer(output: Path, seed: int) -> PreTrainedTokenizerFast:
    """The tokenizer of the folder, trained when there is none: all phases must share one."""
    if not (output / "tokenizer.json").exists():
        train_tokenizer(tokenizer_texts(seed)).save_pretrained(output)
    return PreTrainedTokenizerFast.from_pretrained(output)


def _cell_labels(scene: Scene) -> torch.Tensor:
    """(9, 4): size, colour and shape of each cell, 0 for an empty one; and which cell it is.

    Cross-attention knows no places: a patch whose features do not say where it lies cannot be put
    in words. Without the fourth label 57 % of columns were right in captions after 40,000 of them.
    """
    labels = torch.zeros(CELLS, 4, dtype=torch.long)
    labels[:, 3] = torch.arange(CELLS)
    for t in scene.things:
        values = [SIZES.index(t.size) + 1, COLORS.index(t.color) + 1, SHAPES.index(t.shape) + 1]
        labels[t.row * 3 + t.column, :3] = torch.tensor(values)
    return labels


def train_vision(model: Any, seed: int, samples: int, log: Any) -> None:
    """The vision encoder with a head for each cell; the head is thrown away."""
    vision = model.model.vision_model
    head = torch.nn.Linear(vision.config.vision_output_dim, sum(CLASSES))
    params = [*vision.parameters(), *head.parameters()]
    optimizer = torch.optim.AdamW(params, lr=2e-3, weight_decay=0.01)
    steps = samples // BATCH
    rng = random.Random(f"{seed}/vision")
    started = time.process_time()
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = 2e-3 * min(1.0, (step + 1) / 50, (steps - step) / (0.4 * steps))
        rows = [practise(rng, "describe") for _ in range(BATCH)]
        batch = pixels(rows)
        out = vision(**batch).last_hidden_state.reshape(BATCH, -1, vision.config.vision_output_dim)[:, 1:10]
        labels = torch.stack([_cell_labels(r.scene) for r in rows if r.scene is not None])
        parts = head(out).split(CLASSES, dim=-1)
        losses = [functional.cross_entropy(p.flatten(0, 1), labels[..., i].flatten()) for i, p in enumerate(parts)]
        loss = torch.stack(losses).sum()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(params, 1.0)
        optimizer.step()
        if step % 50 == 0 or step == steps - 1:
            right = torch.stack([p.argmax(-1) == labels[..., i] for i, p in enumerate(parts)]).all(0)
            objects = right[labels[..., 0] > 0].float().mean().item()
            log(phase="vision", step=step, loss=loss.item(), objects=objects, cpu_s=time.process_time() - started)


def optimizers(model: Any, spotter: torch.nn.Linear) -> list[torch.optim.Optimizer]:
    """Muon on the hidden matrices, AdamW on embeddings, heads, norms, gates and the vision encoder."""
    muon, adam, slow = [], [*spotter.parameters()], []
    for name, parameter in model.named_parameters():
        if "vision_model" in name:
            slow.append(parameter)
        elif parameter.dim() == 2 and "embed" not in name and "lm_head" not in name:
            muon.append(parameter)
        else:
            adam.append(parameter)
    return [
        torch.optim.Muon(muon, lr=MUON_RATE, weight_decay=0.01, momentum=0.95),
        torch.optim.AdamW(
            [{"params": adam, "peak": ADAM_RATE}, {"params": slow, "peak": ADAM_RATE * 0.1}],
            lr=ADAM_RATE,
            betas=(0.9, 0.98),
            weight_decay=0.0,
        ),
    ]


def rate(step: int, total: int, *, is_decaying: bool) -> float:
    """Warm-up, flat; if ``is_decaying`` down to nearly nothing over the last part."""
    down = (total - step) / (0.45 * total) if is_decaying else 1.0
    return max(0.02, min(1.0, (step + 1) / 100, down))


def _autocast(device: torch.device) -> Any:
    """bfloat16 on a GPU; on a CPU it ran at 0.7 of float32's speed."""
    return torch.autocast("cuda", dtype=torch.bfloat16, enabled=device.type == "cuda")


@contextlib.contextmanager
def _inputs_of(layer: torch.nn.Module) -> Iterator[list[torch.Tensor]]:
    """The hidden states that ``layer`` is given in the forward passes made meanwhile."""
    found: list[torch.Tensor] = []

    def keep(_: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        found.append(args[0] if args else kwargs["hidden_states"])

    hook = layer.register_forward_pre_hook(keep, with_kwargs=True)
    try:
        yield found
    finally:
        hook.remove()


def losses_of(
    model: Any, spotter: torch.nn.Linear, batch: dict[str, torch.Tensor]
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """The next word's loss by its weight, and the spotter's on the places that are marked, if any are."""
    device = next(model.parameters()).device
    labels, weights, marks = (batch.pop(name).to(device) for name in ("labels", "weights", "marks"))
    inputs = {k: v.to(device) for k, v in batch.items()}
    with _autocast(device), _inputs_of(model.model.language_model.layers[-1]) as hidden:
        found = model(**inputs, use_cache=False)
        said = spotter(hidden[0][marks != UNMARKED])[:, 0].float()
    labels, weights = labels[:, 1:], weights[:, 1:]
    chosen = labels >= 0
    losses = functional.cross_entropy(found.logits[:, :-1][chosen].float(), labels[chosen], reduction="none")
    loss = (losses * weights[chosen]).sum() / weights[chosen].sum()
    wrong = marks[marks != UNMARKED].float()
    if not len(wrong):
        return loss, None
    spotted = functional.binary_cross_entropy_with_logits(said, wrong, reduction="none")
    halves = [spotted[wrong == value].mean() for value in (0, 1) if (wrong == value).any()]
    return loss, torch.stack(halves).mean()


@torch.no_grad()
def exactness(model: Any, collator: Collator, seed: int, skills: tuple[str, ...], count: int = 192) -> dict[str, float]:
    """Share of fresh exercises a skill whose every response token is the model's first choice.

    Of matching and rating the verdict alone counts: in which words it comes is chance.
    """
    model.eval()
    found = {}
    for skill in skills:
        rng = random.Random(f"{seed}/check/{skill}")
        rows = [practise(rng, skill) for _ in range(count)]
        right = 0
        for start in range(0, count, BATCH):
            batch = collator(rows[start : start + BATCH])
            labels, weights = batch.pop("labels")[:, 1:], batch.pop("weights")[:, 1:]
            del batch["marks"]
            if skill in VERDICT_SKILLS:
                labels = labels.masked_fill(weights < NUMBER_WEIGHT, IGNORED)
            device = next(model.parameters()).device
            batch = {k: v.to(device) for k, v in batch.items()}
            with _autocast(device):
                guesses = model(**batch, use_cache=False).logits[:, :-1].argmax(-1).cpu()
            right += int(((guesses == labels) | (labels < 0)).all(1).sum())
        found[skill] = right / count
    model.train()
    return found


class Log:
    """Appends rows to ``training.jsonl`` and prints them."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __call__(self, **row: Any) -> None:
        rounded = {k: round(v, 4) if isinstance(v, float) else v for k, v in row.items()}
        with self._path.open("a") as file:
            file.write(json.dumps(rounded) + "\n")
        print(rounded, flush=True)


def train_skills(
    model: Any,
    spotter: torch.nn.Linear,
    collator: Collator,
    seed: int,
    phase: str,
    parts: list[tuple[dict[str, float], int]],
    log: Log,
    checks: int,
) -> None:
    """Each mix of ``parts`` for its number of exercises, in order; measured on ``checks`` fresh ones a skill."""
    model.train()
    opts = optimizers(model, spotter)
    ends = list(itertools.accumulate(samples // BATCH for _, samples in parts))
    rng = random.Random(f"{seed}/{phase}")
    started, seen, spotting = time.process_time(), 0, math.log(2)
    queue: list[list[Practice]] = []
    for step in range(ends[-1]):
        mix = parts[bisect.bisect_right(ends, step)][0]
        if not queue or step in ends:
            queue = draw_batch(rng, mix, BATCH)
        rows = queue.pop()
        said, spotted = losses_of(model, spotter, collator(rows))
        loss = said if spotted is None else said + spotted
        spotting = spotting if spotted is None else 0.95 * spotting + 0.05 * spotted.item()
        scale = rate(step, ends[-1], is_decaying=phase != "text") * PEAKS.get(phase, 1.0)
        for optimizer in opts:
            for group in optimizer.param_groups:
                group["lr"] = scale * group.get("peak", MUON_RATE)
            optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in opts:
            optimizer.step()
        seen += len(rows)
        if not math.isfinite(loss.item()):
            raise FloatingPointError(f"loss {loss.item()} at step {step} of phase {phase}")
        if (step + 1) % 100 == 0 or step + 1 == ends[-1]:
            spent = time.process_time() - started
            log(phase=phase, step=step + 1, samples=seen, loss=said.item(), spotting=spotting, rate=scale, cpu_s=spent)
        if (step + 1) % 400 == 0 or step + 1 == ends[-1]:
            skills = TEXT_SKILLS if phase == "text" else tuple(SKILLS)
            log(phase="exact", of=phase, step=step + 1, **exactness(model, collator, seed, skills, checks))


def run_phase(phase: str, output: Path, seed: int, sizes: dict[str, int], device: str, checks: int = 192) -> None:
    """One phase; its weights stay in the folder, and a phase whose weights are there is not run again."""
    kept = output / f"{phase}.pt"
    if kept.exists():
        return
    log = Log(output / f"training-{phase}.jsonl")
    tokenizer = kept_tokenizer(output, seed)
    model = build_model(tokenizer, seed).to(device)
    collator = Collator(tokenizer)
    if phase == "vision":
        log(
            phase="start", parameters=sum(p.numel() for p in model.parameters()), vocabulary=len(tokenizer), sizes=sizes
        )
        train_vision(model, seed, sizes["vision"], log)
        torch.save(model.model.vision_model.state_dict(), kept)
        return
    spotter = torch.nn.Linear(HIDDEN, 1).to(device)
    before = {"join": "text", "polish": "join", "judge": "polish"}.get(phase)
    if before:
        state = torch.load(output / f"{before}.pt", map_location=device)
        model.load_state_dict(state["model"])
        spotter.load_state_dict(state["spotter"])
    if phase == "join":
        model.model.vision_model.load_state_dict(torch.load(output / "vision.pt", map_location=device))
    parts = {
        "text": [(TEXT_MIX, sizes["text"])],
        "join": [(ALIGN_MIX, sizes["align"]), (SKILL_MIX, sizes["skills"])],
        "polish": [(POLISH_MIX, sizes["polish"])],
        "judge": [(JUDGE_MIX, sizes["judge"])],
    }[phase]
    train_skills(model, spotter, collator, seed, phase, parts, log, checks)
    if phase == PHASES[-1]:
        save(output, model, build_processor(tokenizer))
    torch.save({"model": model.state_dict(), "spotter": spotter.state_dict()}, kept)


def main() -> None:
    parser = argparse.ArgumentParser(description="Trains the tiny base model of the embedded world.")
    parser.add_argument("--output", type=Path, required=True, help="where the model folder goes")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--phases", nargs="+", default=list(PHASES), choices=PHASES, help="run only these")
    parser.add_argument("--vision-samples", type=int, default=80_000)
    parser.add_argument("--text-samples", type=int, default=60_000)
    parser.add_argument("--align-samples", type=int, default=13_000)
    parser.add_argument("--skills-samples", type=int, default=56_000)
    parser.add_argument("--polish-samples", type=int, default=56_000)
    parser.add_argument("--judge-samples", type=int, default=56_000)
    args = parser.parse_args()
    torch.set_num_threads(1)
    args.output.mkdir(parents=True, exist_ok=True)
    sizes = {
        name: getattr(args, f"{name}_samples") for name in ("vision", "text", "align", "skills", "polish", "judge")
    }
    for phase in args.phases:
        run_phase(phase, args.output, args.seed, sizes, args.device)
    logs = [args.output / f"training-{phase}.jsonl" for phase in PHASES]
    if all(log.exists() for log in logs):
        (args.output / "training.jsonl").write_text("".join(log.read_text() for log in logs))


if __name__ == "__main__":
    main()
