"""The model card and its curves, from the log that the recipe wrote: ``python -m stagebeam.base.card DIR``."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from stagebeam.base.skills import SKILLS, TEXT_SKILLS

WHAT = {
    "work_out": "a description in words and a question → the steps and the answer",
    "plan": "a question → what has to be done",
    "rate": "a description, with or without what follows from it → whether it is right of the picture",
    "rate_text": "a way to work it out → whether it follows from the description",
    "match_text": "two ways to work it out → which follows from the description",
    "match_end": "two plans or last words → which belongs to the question",
    "describe": "a picture → every object with its place",
    "look_up": "a place → what is there",
    "check": "statements → for each whether it is true",
    "match": "two descriptions → which fits the picture",
    "match_why": "the same, naming first where they differ",
    "match_all": "two descriptions with what follows from them → which is right",
    "answer": "a question → the answer at once",
}


def read_log(folder: Path) -> list[dict[str, Any]]:
    """The rows of ``training.jsonl``, oldest first."""
    return [json.loads(line) for line in (folder / "training.jsonl").read_text().splitlines()]


def draw_curves(rows: list[dict[str, Any]], path: Path) -> None:
    """Loss over CPU time, and exactness by skill over steps, text phase and joint phase one after the other."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(10, 3.6))
    for phase, label in (
        ("text", "words alone"),
        ("join", "with pictures"),
        ("polish", "polish"),
        ("judge", "judge"),
    ):
        points = [(r["cpu_s"] / 60, r["loss"]) for r in rows if r["phase"] == phase]
        left.plot([x for x, _ in points], [y for _, y in points], label=label, linewidth=1)
    left.set(xlabel="CPU minutes of the phase", ylabel="loss (weighted)", yscale="log", title="loss")
    left.legend()
    exact = [r for r in rows if r["phase"] == "exact" and r["of"] in ("polish", "judge")]
    for skill in SKILLS:
        style = "--" if skill in TEXT_SKILLS else "-"
        right.plot([r["step"] for r in exact], [r[skill] for r in exact], label=skill, linewidth=1, linestyle=style)
    right.set(xlabel="step of 64 exercises, polish", ylabel="exact", ylim=(0, 1.02))
    right.set_title("exact answers on fresh exercises")
    right.legend(fontsize=7, ncol=2, loc="lower right")
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)


def write_card(folder: Path) -> None:
    """``README.md`` and ``curves.svg`` in the model folder."""
    rows = read_log(folder)
    draw_curves(rows, folder / "curves.svg")
    start = next(r for r in rows if r["phase"] == "start")
    vision = [r for r in rows if r["phase"] == "vision"]
    text = [r for r in rows if r["phase"] == "text"]
    join = [r for r in rows if r["phase"] == "join"]
    polish = [r for r in rows if r["phase"] == "polish"]
    last = [r for r in rows if r["phase"] == "exact"][-1]
    table = "\n".join(f"| {name} | {WHAT[name]} | {last[name]:.0%} |" for name in SKILLS)
    judge = [r for r in rows if r["phase"] == "judge"]
    parts = (vision, text, join, polish, judge)
    minutes = [part[-1]["cpu_s"] / 60 for part in parts]
    spent = " + ".join(f"{value:.0f}" for value in minutes)
    seen = ", ".join(f"{part[-1]['samples']:,}" for part in parts[1:])
    (folder / "README.md").write_text(
        f"""---
license: apache-2.0
pipeline_tag: image-text-to-text
---
# The tiny base model of the embedded world

A **stand-in**: a `MllamaForConditionalGeneration` (the architecture of Llama-3.2-Vision) of
{start["parameters"] / 1e6:.2f} million parameters, trained from random weights on drawn scenes of two to five coloured
shapes. It exists so that annotation, fine-tuning, serving and search run for real on two CPU cores
without a download. It is of no use for any other picture or text.

It knows the skills below, under wordings of their own. It has never seen the four stages
(`<SUMMARY>` …) nor a judge's prompt: fine-tuning teaches both. Its `match…` and `rate…` skills are exercises close to
what a judge does; they are named here so that nobody takes the judge's quality for the work of
fine-tuning alone.

| skill | what | exact on {192} fresh exercises |
|---|---|---|
{table}

![curves](curves.svg)

## How it was made
`python -m stagebeam.base.recipe --output DIR`, seed 7, one CPU thread: {sum(minutes):.0f} minutes of CPU time
({spent} in the five phases, with {seen} exercises in the last four).
The same command runs on a GPU with `--device cuda`.

1. The vision encoder alone, with a head that names what lies in each of the nine cells
   ({vision[-1]["objects"]:.0%} of objects exact at the end); the head is thrown away. It also has to say
   *where* each cell lies: cross-attention knows no places, and features without them gave captions
   with 57 % of the columns right after 40,000 captions, against 99 % of all tokens after 8,000 with them.
2. The language model alone: working out answers from descriptions in words.
3. Both together on pictures, first mostly descriptions, then all skills, a third of them still in words.
   The learning rate decays at the end.
4. The same at a lower rate with more working out, checking and matching, decaying to nothing.
5. The same again, more than half of it matching.

Two things made matching learnable; without them it stayed at chance, since a verdict is one token that hangs on
one word among a hundred. In phases 2 to 5 a second head, thrown away too, looks at the hidden states before the
last layer and says of each word of a text that is to be checked or matched whether it is the first mistake. And
the two texts stand side by side from the clause in which they part. In phase 5 the exercises come in many
wordings, for the sake of a judge's prompt that the base has never seen: after fine-tuning, the judge was right for
70 % of held-out pairs before that phase (on 1,600 questions) and for 80 % after it (on 2,000).

What is shipped here has one blemish: its phases ran while the exercises were still being found. Phases 2 and 3 had the
two texts whole, one behind the other, phases 2 to 4 one wording for each exercise, and phase 2 no rating. Running
the command anew gives a model that knew today's exercises throughout.

Muon on the hidden matrices, AdamW on the rest. Weights are stored in bfloat16. The log is `training.jsonl`.
"""
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Writes the model card of a trained base model.")
    parser.add_argument("folder", type=Path, help="the model folder with its training.jsonl")
    write_card(parser.parse_args().folder)


if __name__ == "__main__":
    main()
