"""docs/sql.md with the answers as they are now. `python tests/store/sql_doc.py` writes them into the document."""

from __future__ import annotations

import io
import re
import tempfile
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path

import asked_home

from store import guard
from store.ingest import Ingest
from store.projection import Projection
from tui.cli.output import print_table

DOC = Path(__file__).parents[2] / "docs" / "sql.md"
# A block of SQL, and the answer below it where one is printed.
_BLOCK = re.compile(r"```sql\n(?P<sql>.*?)```\n(?P<answer>\n```text\n.*?```\n)?", re.DOTALL)


def with_answers(text: str, projection: Projection) -> str:
    """Run every block; those that have an answer get the present one."""

    def answered(match: re.Match[str]) -> str:
        answers = "\n".join(_printed(projection, sql) for sql in _statements(match["sql"]))
        block = f"```sql\n{match['sql']}```\n"
        return f"{block}\n```text\n{answers}```\n" if match["answer"] else block

    return _BLOCK.sub(answered, text)


def _statements(block: str) -> Iterator[str]:
    for statement in re.split(r";\n", block):
        if statement.strip():
            yield statement.replace("now()", f"to_timestamp({asked_home.NOW})")


def _printed(projection: Projection, sql: str) -> str:
    """What `finetui sql` prints."""
    rows = guard.run(projection, sql).table.to_pylist()
    with redirect_stdout(io.StringIO()) as out:
        print_table(rows)
    return "".join(f"{line.rstrip()}\n" for line in out.getvalue().splitlines()) or "(no rows)\n"


def read_home(directory: Path) -> Projection:
    """The projection of the home that is asked."""
    home = asked_home.make(directory)
    projection = Projection(home.store)
    Ingest(projection, home.path).poll()
    return projection


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as directory:
        projection = read_home(Path(directory) / "home")
        DOC.write_text(with_answers(DOC.read_text(), projection))
        projection.close()
