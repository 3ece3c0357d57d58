"""`--rlm-report`: the page at the end of a run."""

from __future__ import annotations

import pytest

from tests.rlm.bench.plugin_session import FEW, Session


def test_the_page_holds_all_of_the_run_and_the_earlier_one(session: Session):
    session.run(*FEW, "--rlm-run=monday")
    result = session.run(
        *FEW, "-krlm", "--rlm-run=tuesday", "--rlm-compare=monday", "--rlm-report=out.html"
    )
    assert result.ret == 0
    result.stdout.fnmatch_lines(["records: runs/tuesday/", f"report: {session.path}/out.html"])
    text = (session.path / "out.html").read_text()
    assert "<h2>monday → tuesday</h2>" in text
    assert text.count('<section class="run">') == 2


def test_a_page_that_cannot_be_written_fails_no_run(session: Session):
    session.pytester.mkdir("out")
    args = (*FEW, "-kvanilla", "--rlm-run=a")
    assert session.run(*args, "--rlm-report=out").ret == pytest.ExitCode.USAGE_ERROR
    code = "import sys; sys.modules['jinja2'] = None"
    session.pytester.makeconftest(code)
    result = session.run(*args, "--rlm-report=a.html")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["report: not written, it needs jinja2: pip install *bench*"])
