"""``make reference``: the tables in docs/reference, made from what the code declares."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from pipelines.reference.exit_codes import exit_codes_table
from pipelines.reference.files import entries_table, files_table
from pipelines.reference.metrics import metrics_table
from pipelines.reference.rest import requests_table
from pipelines.settings.declared import every_setting
from pipelines.settings.wording import in_words_of_commands
from transforms.settings import Setting

__all__ = ["BEGIN", "END", "TABLES", "main", "settings_table"]

BEGIN, END = "<!-- written by make reference -->", "<!-- end of what make reference writes -->"


def settings_table() -> str:
    """One Markdown table of every setting, command by command, and those that several share last."""
    of_all = sorted(every_setting().items(), key=lambda one: len(one[1]) > 1)
    rows = [_row(setting, commands) for setting, commands in of_all]
    return "\n".join(["| Setting | Commands | Default | Meaning |", "|---|---|---|---|", *rows])


TABLES = {
    "docs/reference/settings.md": settings_table,
    "docs/reference/metrics.md": metrics_table,
    "docs/reference/rest.md": requests_table,
    "docs/reference/exit-codes.md": exit_codes_table,
    "docs/reference/files.md": files_table,
    "docs/reference/index-entries.md": entries_table,
}
"""The generated tables by file."""


def main() -> int:
    """Write each table into its file, below the given directory."""
    for name, table in TABLES.items():
        file = Path(sys.argv[1], name)
        before, _, rest = file.read_text(encoding="utf-8").partition(BEGIN)
        _, _, after = rest.partition(END)
        file.write_text(f"{before}{BEGIN}\n\n{table()}\n\n{END}{after}", encoding="utf-8")
    return 0


def _row(setting: Setting, commands: tuple[str, ...]) -> str:
    cells = (
        f"`--{setting.name}`",
        " ".join(commands),
        _default(setting),
        ". ".join(_meaning(setting)),
    )
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _default(setting: Setting) -> str:
    return "required" if setting.required else f"`{setting.default}`" if setting.default else ""


def _meaning(setting: Setting) -> Iterator[str]:
    yield in_words_of_commands(setting.help).replace("<", "&lt;")
    if setting.choices:
        yield f"One of {', '.join(setting.choices)}"
    if setting.repeatable:
        yield "Repeatable"


if __name__ == "__main__":
    sys.exit(main())
