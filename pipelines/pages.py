"""What every page shares: the templates and pictures as data URIs.

Everything that comes from data is escaped by the templates; only charts and scripts of our own
making go in as they are. A page loads nothing, and its policy lets no script run but ours.
"""

from __future__ import annotations

import base64
import hashlib
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

_SIGNATURES: tuple[tuple[bytes, str], ...] = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF8", "image/gif"),
    (b"RIFF", "image/webp"),
)


def render(template: str, *, script: str | None = None, **values: Any) -> str:
    """A template of this package, filled in; every value is escaped unless it is Markup.

    ``script`` names a script beside the templates. It goes in whole, and the page's policy lets the
    browser run it and no other, known by its hash.
    """
    environment = Environment(
        loader=PackageLoader("pipelines", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    code = "" if script is None else (files("pipelines") / "templates" / script).read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(code.encode()).digest()).decode() if code else ""
    return environment.get_template(template).render(**values, script=Markup(code), script_hash=digest)


def image_uri(data: bytes | None) -> str | None:
    """A picture as a data URI; None for bytes that no browser shows, whatever they claim to be."""
    if data is None:
        return None
    kind = next((media_type for magic, media_type in _SIGNATURES if data.startswith(magic)), None)
    return f"data:{kind};base64,{base64.b64encode(data).decode()}" if kind else None
