"""The report: one self-contained HTML file that tells and shows what a run did to a list of URLs.

    from curation.report import write_report
    from curation.storage import Folder

    print(write_report(Folder("runs/demo")))

`curate run` writes it at the end of a run, `curate report` whenever asked, also for runs that failed or still go on.
"""

from __future__ import annotations

from curation.report.collect import collect
from curation.report.render import render
from curation.storage import Folder

REPORT = "report.html"


def write_report(output: Folder) -> str:
    """Write `report.html` for the last run in `output` and return its path.

    Raises ConfigError where `output` holds no run, StorageError where its fragments cannot be read.
    """
    page = render(collect(output))
    output.write_bytes(REPORT, page.encode("utf-8"))
    return output.path(REPORT)
