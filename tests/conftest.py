"""What all tests share: a small web of rendered pictures with known faults, on this machine; and tiny models."""

from __future__ import annotations

import gc
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

from curation.scenes.gallery import Gallery
from pipelines.engines import Engine, make_engine

# Models are tiny and processes many: two threads each only wait for one another.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Ray Train looks after its workers every two seconds: longer than a tiny training takes. No machine here is taken away.
os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.2")
os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")

STARTS_RAY = re.compile(r'\bray_engine\b|"--engine", "ray"|"--workers"')
"""In a file of tests: here, or as a command."""


class OneRay(LoadScopeScheduling):
    """Shares tests out to processes: a file stays together, and so do all that start Ray, for one cluster is enough."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return "ray" if _starts_ray(self.config.rootpath / file) else file


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> OneRay:
    return OneRay(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What starts Ray comes first: nothing else takes as long."""
    items.sort(key=lambda item: not _starts_ray(item.path))


def pytest_runtest_setup(item: pytest.Item) -> None:
    """No actors stay of a run that failed in the test before: their handles hang on its traceback, and they hold CPUs
    for which the next run would wait without end."""
    if _starts_ray(item.path):
        gc.collect()


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """Ray ends with the last test that needs it: others fork, and count threads and children."""
    if _starts_ray(item.path) and not (nextitem and _starts_ray(nextitem.path)):
        import ray

        ray.shutdown()


@cache
def _starts_ray(path: Path) -> bool:
    return STARTS_RAY.search(path.read_text(encoding="utf-8")) is not None


@pytest.fixture(scope="session")
def ray_engine() -> Iterator[Engine]:
    """The one Ray session of all tests that need Ray in their own process; with two CPUs at least."""
    from pipelines import cluster

    with pytest.MonkeyPatch.context() as patch:
        cpus = max(2, os.cpu_count() or 1)
        patch.setattr(cluster, "join_cluster", partial(cluster.join_cluster, num_cpus=cpus))
        engine = make_engine("ray")
    yield engine
    engine.close()


@dataclass(frozen=True)
class OpenGallery:
    gallery: Gallery
    listed: Path
    """Its list: Parquet with columns URL and TEXT."""


@pytest.fixture(scope="session")
def gallery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenGallery]:
    with Gallery(120, seed=1, slow_s=0.3) as opened:
        listed = opened.write_list(tmp_path_factory.mktemp("gallery") / "list.parquet")
        yield OpenGallery(opened, listed)


@pytest.fixture(scope="session")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny CLIP; treat as read-only."""
    from tests.tiny_models import tiny_clip

    return tiny_clip(tmp_path_factory.mktemp("models") / "clip")


@pytest.fixture(scope="session")
def classifier_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny image classifier with the labels `normal` and `nsfw`; treat as read-only."""
    from tests.tiny_models import tiny_classifier

    return tiny_classifier(tmp_path_factory.mktemp("models") / "classifier")


@pytest.fixture(scope="session")
def llava_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny vision-language model with a chat template; treat as read-only."""
    from tests.tiny_llava import tiny_llava

    return tiny_llava(tmp_path_factory.mktemp("models") / "llava")


@pytest.fixture(scope="session")
def sdxl_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny SDXL pipeline that predicts noise; treat as read-only."""
    from tests.tiny_sdxl import tiny_sdxl

    return tiny_sdxl(tmp_path_factory.mktemp("models") / "sdxl")


@pytest.fixture(scope="session")
def wuerstchen_parts(tmp_path_factory: pytest.TempPathFactory, clip_folder: Path) -> dict[str, str]:
    """Where the parts of a tiny Würstchen are: `text`, `compressor`, `vqgan`, `decoder`; treat as read-only."""
    from tests.tiny_wuerstchen import tiny_wuerstchen

    return tiny_wuerstchen(tmp_path_factory.mktemp("models") / "wuerstchen", clip_folder)
