"""The page: self-contained, deterministic, and safe whatever URLs, captions and details hold."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pyarrow as pa
import pytest

from curation.caption.writing import IT_WROTE
from curation.errors import ConfigError
from curation.report import write_report
from curation.report.collect import collect
from curation.report.facts import RunFacts
from curation.report.render import render
from curation.report.wording import price, rate, share
from curation.row import Reason
from curation.storage import Folder
from tests.report.make_run import Row, make_run

MODEL_SECTIONS = ["scores", "captions", "captioned", "refused"]
SCRIPT = "<script>alert(1)</script>"
HOSTILE = [
    ("https://a.example/<script>alert(1)</script>.jpg", f"{SCRIPT} a caption"),
    ("javascript:alert(document.domain)", '"><img src=x onerror=alert(1)>'),
    ("https://b.example/'onmouseover='alert(1)", "{{ 7 * 7 }} {% include '/etc/passwd' %}"),
    ('https://"><svg onload=alert(1)>.example/', "</title></style></svg><iframe src=//evil.example>"),
    ("data:text/html,<script>alert(1)</script>", "\u202egnitiaw\x00\x1b"),
    ("https://[::1/<b>", "&lt;b&gt; & &amp; " * 4000),
]


class Page(HTMLParser):
    """What a browser would make of the page: elements with their attributes, the nesting, and the text."""

    VOID = frozenset({"meta", "img", "br", "link", "input", "hr"})

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == [], f"never closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] != "style":
            self.text.append(data)

    @property
    def words(self) -> str:
        return " ".join(" ".join(self.text).split())


def check_self_contained(html: str) -> Page:
    page = Page(html)
    assert not {tag for tag, _ in page.elements} & {"script", "iframe", "link", "object", "embed", "a", "form", "base"}
    for tag, attributes in page.elements:
        assert not [name for name in attributes if name.startswith("on")], (tag, attributes)
        assert not {"href", "xlink:href", "srcset", "action", "background", "poster"} & attributes.keys()
        if "src" in attributes:
            assert tag == "img"
            assert re.fullmatch(r"data:image/jpeg;base64,[A-Za-z0-9+/]+=*", attributes["src"] or "")
        assert "url(" not in (attributes.get("style") or "")
    (style,) = re.findall(r"<style>(.*?)</style>", html, re.DOTALL)
    assert "url(" not in style
    assert "@import" not in style
    policy = [a["content"] for tag, a in page.elements if a.get("http-equiv") == "Content-Security-Policy"]
    assert policy == ["default-src 'none'; img-src data:; style-src 'unsafe-inline'"]
    return page


@pytest.fixture(scope="module")
def html(tmp_path_factory: pytest.TempPathFactory) -> str:
    output = make_run(Folder(tmp_path_factory.mktemp("run"))).output
    path = Path(write_report(output))
    assert path.name == "report.html"
    return path.read_text(encoding="utf-8")


def test_needs_nothing_else(html: str) -> None:
    page = check_self_contained(html)
    assert sum(tag == "img" for tag, _ in page.elements) > 30
    assert len(html) < 3_000_000


def test_says_what_it_must(html: str) -> None:
    words = Page(html).words
    for part in ("harbour-lights", "240 rows in", "of the list", "rows/s", "not downloaded", "The funnel"):
        assert part in words
    for part in ("too_small", "near_duplicate", "Shorter side", "Aspect ratio", "HTTP status", "min_side: 768"):
        assert part in words
    assert Reason.HTTP_NOT_FOUND in words


def test_the_same_run_gives_the_same_page(tmp_path: Path, html: str) -> None:
    output = make_run(Folder(tmp_path / "a")).output
    first = render(collect(output))
    assert render(collect(output)) == first
    # Another folder with the same rows: only the output's name differs.
    assert first.replace(output.url, "") == re.sub(r"(?m)^output: .*$", "output: ", html)


def test_hostile_text_is_text(tmp_path: Path) -> None:
    given = iter(HOSTILE * 100)

    def change(row: Row) -> None:
        row["url"], row["alt_text"] = next(given)

    html = render(collect(make_run(Folder(tmp_path), change=change, rows=300).output))
    page = check_self_contained(html)
    for part in ("<script>alert(1)</script> a caption", '"><img src=x onerror=alert(1)>', "{{ 7 * 7 }}"):
        assert part in page.words
        assert part not in html or "{{" in part
    assert "javascript:alert" in page.words
    assert not set("\u202e\x00\x1b") & set(html)
    assert len(html) < 3_000_000


def test_hostile_captions_and_names_are_text(tmp_path: Path) -> None:
    text = " ".join(text[:60] for _, text in HOSTILE)

    def change(row: Row) -> None:
        for kind in ("dense", "short"):
            if row.get(f"caption_{kind}"):
                row |= {f"caption_{kind}": text, f"caption_{kind}_model": SCRIPT}

    def scored(row: Row) -> None:
        row["score_us"] = [{"op": SCRIPT, "us": 7}]

    made = make_run(Folder(tmp_path), models=True, rows=200, change_scored=scored, change_captioned=change)
    html = render(collect(made.output))
    page = check_self_contained(html)
    for part in (f"{SCRIPT} a caption", '"><img src=x onerror=alert(1)>', "</title></style></svg><iframe"):
        assert part in page.words
        assert part not in html
    assert not set("\u202e\x00\x1b") & set(html)
    assert len(html) < 3_000_000


def test_hostile_text_of_rejected_captions_is_text(tmp_path: Path) -> None:
    detail = f"dense: mostly greek, not latin{IT_WROTE}\u202e</p></main>{SCRIPT} it wrote: {SCRIPT}"
    made = make_run(
        Folder(tmp_path),
        models=True,
        rows=300,
        reject_all=Reason.CAPTION_WRONG_SCRIPT,
        reject_in="caption",
        reject_detail=detail,
        upto="caption",
        status="failed",
        error="no row is left",
    )
    html = render(collect(made.output))
    words = check_self_contained(html).words
    assert f"</p></main>{SCRIPT} it wrote: {SCRIPT}" in words
    assert "dense: mostly greek, not latin" in words
    assert SCRIPT not in html
    assert "\u202e" not in html
    assert "No caption was kept." in words


def test_scores_and_captions_say_what_they_must(modelled_facts: RunFacts) -> None:
    page = check_self_contained(render(modelled_facts))
    captioning, scoring = modelled_facts.captioning, modelled_facts.scoring
    assert captioning is not None
    assert scoring is not None
    assert [a["id"] for tag, a in page.elements if tag == "section" and a["id"] in MODEL_SECTIONS] == MODEL_SECTIONS
    threshold = scoring.scores[1].thresholds[0]
    below = scoring.scores[1].scored - threshold.passing
    for part in (f"{threshold.label} {threshold.passing} pass", f"{below} do not", "images/s a worker"):
        assert part in page.words
    for part in (
        f"captions/s, all workers, by the clock {rate(captioning.captions / 84)}",
        f"tokens/s, all workers, by the clock {rate(captioning.tokens / 84)}",
        f"captions/s a worker {rate(captioning.captions / captioning.worker_seconds)}",
        f"cost of 1,000 kept captions , estimated {price(captioning.cost_per_1000(captioning.captions))}",
        f"cost of 1,000 kept images, all kinds {price(captioning.cost_per_1000(captioning.kept))}",
        share(captioning.kinds[1].over_limit, captioning.kinds[1].captions),
        "caption_refusal",
    ):
        assert part in page.words
    sample = next(s for s in modelled_facts.captioned if (s.texts[1].tokens or 0) > 77)
    assert f"{sample.texts[1].tokens} tokens {(sample.texts[1].tokens or 0) - 77} cut off" in page.words
    assert sample.texts[1].text in page.words


def test_a_run_without_models_says_nothing_of_them(html: str) -> None:
    page = Page(html)
    assert not {a.get("id") for _, a in page.elements} & set(MODEL_SECTIONS)
    assert "tokens" not in page.words


def test_stages_that_took_no_time(tmp_path: Path) -> None:
    made = make_run(
        Folder(tmp_path),
        models=True,
        seconds={"score": 0.0, "caption": 0.0},
        change_scored=lambda row: row.update(score_us=[{"op": "clip", "us": 0}]),
        change_captioned=lambda row: row.update(captioning_us=0, captioning_tokens=None, captioning_tries=None),
    )
    words = check_self_contained(render(collect(made.output))).words
    for part in ("captions/s, all workers, by the clock –", "tokens/s a worker –", "estimated –", "second try 0 (–)"):
        assert part in words


def test_hostile_error_and_config_are_text(tmp_path: Path) -> None:
    overrides = {"source": {"kind": "txt", "path": "</pre>" + SCRIPT}}
    made = make_run(Folder(tmp_path), upto="source", status="failed", error=f"no: {SCRIPT}", overrides=overrides)
    html = render(collect(made.output))
    assert check_self_contained(html).words.count(SCRIPT) == 2
    assert SCRIPT not in html


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"upto": "fetch", "unfinished": True, "status": "running"}, ["running", "unfinished", "not started"]),
        ({"upto": "select", "status": "stopped", "error": "SIGTERM"}, ["The run was stopped. SIGTERM", "kept so far"]),
        (
            {"upto": "fetch", "reject_all": Reason.TOO_SMALL, "status": "failed", "error": "no row is left"},
            ["The run failed. no row is left", "0 kept so far", "0%"],
        ),
        ({"upto": "source", "unfinished": True, "rows": 0, "status": "failed"}, ["0 rows in", "No row was dropped."]),
        ({"rows": 1, "status": "done"}, ["1 rows in"]),
        ({"models": True, "upto": "fetch", "status": "stopped"}, ["score not started", "caption not started"]),
        ({"models": True, "upto": "score", "unfinished": True, "status": "running"}, ["Over all scored rows; dashed"]),
        (
            {"models": True, "upto": "caption", "unfinished": True, "status": "running"},
            ["captions/s, all workers, by the clock –", "cost of 1,000 kept captions"],
        ),
    ],
)
def test_every_state_of_a_run_has_its_page(tmp_path: Path, options: dict[str, object], says: list[str]) -> None:
    page = check_self_contained(render(collect(make_run(Folder(tmp_path), **options).output)))  # type: ignore[arg-type]
    for part in says:
        assert part in page.words


def test_dimensions_beyond_reason_are_drawn(tmp_path: Path) -> None:
    made = make_run(Folder(tmp_path), rows=30, upto="fetch", unfinished=True, status="running")
    fetch = made.stage("fetch")
    (name,) = (name for name in fetch.sizes() if name.endswith(".parquet"))
    table = fetch.read_table(name)
    for column, value in (("width", 2**31 - 1), ("height", 1)):
        field = table.schema.field(column)
        values = pa.array([v and value for v in table[column].to_pylist()], field.type)
        table = table.set_column(table.schema.get_field_index(column), field, values)
    fetch.write_table(name, table)
    check_self_contained(render(collect(made.output)))


def test_no_run_no_report(tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        write_report(Folder(tmp_path))
    assert list(tmp_path.iterdir()) == []
