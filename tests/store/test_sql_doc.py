"""Every block of docs/sql.md runs, and gives the answer that is printed below it."""

from __future__ import annotations

from pathlib import Path

from sql_doc import DOC, read_home, with_answers


def test_every_query_gives_the_answer_that_the_document_prints(tmp_path: Path) -> None:
    text = DOC.read_text()
    assert text.count("```text\n") >= 20
    projection = read_home(tmp_path / "home")
    assert with_answers(text, projection) == text, "python tests/store/sql_doc.py writes the answers of today"
    projection.close()
