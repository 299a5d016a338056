"""From the figures of ``search_speed`` to Markdown."""

from __future__ import annotations

from typing import Any

PUBLISHED_CURVE = {1: 1.0, 2: 5.3, 3: 10.1, 4: 14.2}
"""Time a question by N, from LlamaV-o1's measurements on MM-Vet with one A100."""
IN_FLIGHT = 32
WAYS = {
    "published selector": "verdicts in writing, one order, reasonings checked: the published search's work",
    "log-probability verdicts": "both orders, one forward pass each",
    "default": "the likeliest, no judge",
}


def page(found: dict[str, Any]) -> str:
    """The figures in Markdown."""
    single, flight, decode = found["one question"], found["in flight"], found["decode"]
    published = single["published"]
    lines = [
        f"{found['parameters'] / 1e6:,.1f} M parameters, {found['setting']['dtype']}, {found['machine']}.",
        "",
        "| N=4, one question at a time | seconds | faster | image encodes | serial steps |",
        "|---|---|---|---|---|",
        f"| published, {published['calls']:.1f} `generate` calls | {published['seconds']:.3f} | 1 "
        f"| {published['image_encodes']:.1f} | {published['calls']:.1f} |",
    ]
    for name, said in WAYS.items():
        own = single[name]
        lines.append(
            f"| stagebeam, {name}: {said} | {own['seconds']:.3f} | {own['ratio']:.1f}× | {own['image_encodes']:.1f} "
            f"| {own['serial_steps']:.1f} |"
        )
    lines += [
        "",
        f"With {IN_FLIGHT} questions in flight: "
        + "; ".join(
            f"{name}, {one['questions_per_second']:.2f} questions a second, {one['ratio']:.1f}× the published"
            for name, one in flight.items()
        )
        + ".",
        "",
        "| N | " + " | ".join(str(n) for n in found["curve"]) + " |",
        "|---|" + "---|" * len(found["curve"]),
        "| published elsewhere | " + " | ".join(str(PUBLISHED_CURVE.get(int(n), "")) for n in found["curve"]) + " |",
    ]
    for name in WAYS:
        lines.append(
            f"| stagebeam, {name} | " + " | ".join(f"{one[name]:.2f}" for one in found["curve"].values()) + " |"
        )
    lines += [
        "",
        f"Decoding {decode['rows']} rows for {decode['tokens']} tokens, sampled, stops looked for: "
        f"{decode['engine']:,.0f} tokens a second. Bare loops of the same rows that take the most probable token: the "
        f"library's {decode['library']:,.0f}, the engine's own step {decode['step']:,.0f}. "
        f"That is {100 * decode['share']:.0f} % of the faster.",
    ]
    if found["identical"] is not None:
        same = found["identical"]
        lines += [
            "",
            f"Greedy candidates and a scripted judge: {same['same']} of {same['questions']} answers identical to the "
            f"letter, {same['image_encodes'] / same['questions']:.0f} image encode a question (counted at the vision "
            "tower).",
        ]
    return "\n".join(lines)
