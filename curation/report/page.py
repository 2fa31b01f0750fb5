"""What the pages of all reports share: how their templates are read, their head (`head.html`) and their style sheet.

Values pass the templates' autoescaping, and the head forbids a page all loading..
"""

from __future__ import annotations

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

_HERE = Path(__file__).parent


def page_environment(folder: Path) -> Environment:
    """For the templates in `folder`, which may include those of this package; `style` is the style sheet."""
    environment = Environment(
        loader=FileSystemLoader([folder, _HERE]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["style"] = Markup((_HERE / "style.css").read_text(encoding="utf-8"))
    return environment
