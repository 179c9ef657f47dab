"""How many lines of code the services and the hosts have: the table in Conduit's README."""

from __future__ import annotations

import io
import re
import tokenize
from pathlib import Path

CONDUIT = Path(__file__).parents[3] / "example_apps" / "conduit"
README = CONDUIT / "README.md"
TABLE = re.compile(r"(?<=<!-- table -->\n).*?(?=<!-- /table -->)", re.DOTALL)

PARTS = {
    "services": "everything that Conduit knows and does",
    "hosts/starlette.py": "routes",
    "hosts/fastapi.py": "routes, and what its documentation shows",
    "hosts/asgi.py": "what these two share: JSON, users, errors",
    "hosts/flask.py": "routes, JSON, users, errors",
    "hosts/django.py": "routes, JSON, users, errors, settings",
    "hosts/cli.py": "the command line",
    "hosts/celery.py": "commands in workers",
    "pages": "the site's addresses, its words, and a route to it for each host (templates and style not counted)",
}
LAYOUT = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}


def code_lines(path: Path) -> int:
    """The lines of a module, or of a whole package, that are neither empty nor comments alone."""
    if path.is_dir():
        return sum(code_lines(module) for module in path.glob("*.py"))
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(path.read_text()).readline):
        if token.type not in LAYOUT:
            lines.update(range(token.start[0], token.end[0] + 1))
    return len(lines)


def table() -> str:
    """The table."""
    rows = [f"| `{part}` | {code_lines(CONDUIT / part)} | {what} |\n" for part, what in PARTS.items()]
    return "".join(["| | lines | what is in it |\n", "|---|---:|---|\n", *rows])


if __name__ == "__main__":
    README.write_text(TABLE.sub(lambda _: table(), README.read_text()))
