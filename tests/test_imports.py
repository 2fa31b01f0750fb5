"""The rules of who may import what, checked on the source and on a running interpreter."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module


def modules(folder: str) -> list[Path]:
    found = sorted((ROOT / folder).rglob("*.py"))
    assert found
    return found


def test_curation_imports_neither_ray_nor_pipelines() -> None:
    never = {"ray", "pipelines", "pickle", "tests"}
    found = {p: {n for n in imported(p) if n.split(".")[0] in never} for p in modules("curation")}
    assert not {str(path.relative_to(ROOT)): names for path, names in found.items() if names}


def test_importing_curation_loads_no_heavy_library() -> None:
    # What trains is torch's; all else imports it where it is used.
    code = """
import pkgutil, sys
import curation
trains = {"curation." + name for name in "distill sdxl scenes.zoo stream.loader train wuerstchen ablate.ask".split()}
for module in pkgutil.walk_packages(curation.__path__, "curation."):
    if not module.name.startswith(tuple(trains)) and not module.name.endswith("__main__"):
        __import__(module.name)
heavy = {"torch", "torchvision", "transformers", "ray", "img2dataset", "albumentations", "matplotlib"}
print(sorted(heavy & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"


def test_only_the_engine_and_what_trains_on_ray_import_it() -> None:
    users = sorted(p.name for p in modules("pipelines") if any(n.split(".")[0] == "ray" for n in imported(p)))
    assert set(users) <= {"cluster.py", "students.py", "feed.py", "on_ray.py", "train.py"}


def test_files_hold_one_idea() -> None:
    long = {
        p.name: n
        for f in ("curation", "pipelines", "tests")
        for p in modules(f)
        if (n := len(p.read_text().splitlines())) > 300
    }
    assert not long
