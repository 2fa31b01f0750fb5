"""What the pages of all reports share: how their templates are read, their head (`head.html`) and their style sheet.

Values pass the templates' autoescaping, and the head forbids a page all loading.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from curation.storage import Folder

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


def as_yaml(settings: Mapping[str, Any]) -> str:
    """Settings as people write them, in their own order."""
    return yaml.safe_dump(dict(settings), sort_keys=False, allow_unicode=True, width=100)


def png_uri(file: Path) -> str:
    """A PNG as part of the page."""
    return "data:image/png;base64," + base64.b64encode(file.read_bytes()).decode("ascii")


def write_page(folder: Path, page: str) -> Path:
    """Write `report.html` into `folder`; returns its path. Raises StorageError."""
    Folder(folder).write_bytes("report.html", page.encode())
    return folder / "report.html"
