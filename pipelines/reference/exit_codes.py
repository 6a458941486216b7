"""The table of exit codes, made from what the help of each command says of them."""

from __future__ import annotations

import re

from pipelines.settings.help import EPILOGS

__all__ = ["exit_codes_table"]

_LINE = re.compile(r"^Exit codes?: (.+?)\.?$", re.MULTILINE)
_CODE = re.compile(r"(?:^|, )(\d+) (.+?)(?=, \d+ |$)")


def exit_codes_table() -> str:
    """One Markdown table: each command, and what its exit codes mean."""
    said = {command: line[1] for command, text in EPILOGS.items() if (line := _LINE.search(text))}
    rows = [_row(command, dict(_CODE.findall(text))) for command, text in said.items()]
    return "\n".join(["| Command | 0 | 1 | 2 |", "|---|---|---|---|", *rows])


def _row(command: str, meaning: dict[str, str]) -> str:
    return f"| `{command}` | {' | '.join(meaning.get(code, '') for code in '012')} |"
