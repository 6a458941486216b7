"""The command ``persistor``: reads the settings, runs a command, and reports errors."""

from __future__ import annotations

import difflib
import logging
import os
import sys
from collections.abc import Callable, Collection, Sequence
from functools import partial

from pipelines.runners.signals import ended_by_sigterm
from pipelines.settings.help import SUMMARIES
from pipelines.settings.wording import in_words_of_commands
from transforms.errors import ConfigurationError, PersistorError

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; ``python -m pipelines persist …`` is ``main(["persist", …])``.

    Args:
        argv: the command's name and its arguments; default: those of the process.

    Returns:
        The exit code: 0 done, 1 failed or partly done, 2 the request or the settings are not valid.
    """
    try:
        code = _main(list(sys.argv[1:] if argv is None else argv))
        sys.stdout.flush()
    except BrokenPipeError:  # whoever read the output, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return code


def _main(words: list[str]) -> int:
    if not words or words[0] in {"-h", "--help"}:
        _write(sys.stdout, _overview())
        return 0
    if words[0] == "--version":
        _write(sys.stdout, _version())
        return 0
    try:
        return _run(words[0], words[1:])
    except ConfigurationError as error:
        _complain(words, error.problems)
        return 2
    except PersistorError as error:
        _write(sys.stderr, f"persistor {words[0]}: {in_words_of_commands(str(error))}")
        return error.exit_code
    except KeyboardInterrupt:
        return 130


def _run(command: str, words: list[str]) -> int:
    if command not in _COMMANDS:
        near = difflib.get_close_matches(command, _COMMANDS, n=1)
        raise ConfigurationError(
            f"{command!r} is not a command; {f'did you mean {near[0]}?' if near else _command_list()}"
        )
    _log_to_stderr()
    with ended_by_sigterm():
        return _COMMANDS[command](words)


def _log_to_stderr() -> None:
    # Warnings of all modules, and INFO of our own only: Beam logs every step at INFO.
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s")
    for name in ("pipelines", "transforms", "resubmit_api"):
        logging.getLogger(name).setLevel(logging.INFO)


# Imports are inside the functions, so that --help is fast and the API never loads Beam.
# ruff: noqa: PLC0415


def _persist(words: list[str]) -> int:
    from pipelines.settings.parsing import parse
    from pipelines.settings.streaming import PersistSettings

    settings, beam_args = parse(PersistSettings, words)
    from pipelines import persist

    return persist.run(settings, beam_args)


def _index(words: list[str]) -> int:
    from pipelines.settings.parsing import parse
    from pipelines.settings.streaming import IndexSettings

    settings, beam_args = parse(IndexSettings, words)
    from pipelines import index

    return index.run(settings, beam_args)


def _plan(words: list[str]) -> int:
    from pipelines.settings.parsing import parse
    from pipelines.settings.replay import PlanSettings
    from pipelines.terminal.progress import View

    settings, _ = parse(PlanSettings, words)
    from pipelines import plan

    with View(as_json=settings.json) as view:
        return view.plan(plan.run(settings), whole=True)


def _resubmit(words: list[str]) -> int:
    from pipelines.settings.parsing import parse
    from pipelines.settings.replay import ResubmitSettings
    from pipelines.terminal.progress import View

    settings, beam_args = parse(ResubmitSettings, words)
    from pipelines import resubmit

    with View(as_json=settings.json) as view:
        limits = settings.rate.messages_per_second, settings.rate.bytes_per_second
        shown = partial(view.plan, limits=limits)
        report = resubmit.run(
            settings, beam_args, on_plan=shown, on_pause=view.paused, progress=view.progress
        )
        return view.report(report)


def _jobs(words: list[str]) -> int:
    from pipelines.settings.parsing import parse
    from pipelines.settings.replay import JobsSettings

    settings, _ = parse(JobsSettings, words)
    from pipelines import jobs

    return jobs.run(settings)


def _search(words: list[str]) -> int:
    from pipelines.settings.parsing import parse
    from pipelines.settings.terminal import SearchSettings

    settings, _ = parse(SearchSettings, words)
    from pipelines import search

    return search.run(settings)


def _show(words: list[str]) -> int:
    from pipelines.settings.parsing import parse
    from pipelines.settings.terminal import ShowSettings

    settings, _ = parse(ShowSettings, _named("id", words))
    from pipelines import show

    return show.run(settings)


def _rebuild(words: list[str]) -> int:
    from pipelines.settings.maintenance import RebuildSettings
    from pipelines.settings.parsing import parse
    from pipelines.terminal.progress import View

    settings, _ = parse(RebuildSettings, words)
    from pipelines import rebuild

    with View(as_json=settings.json) as view:
        return view.report(rebuild.run(settings, progress=view.progress))


def _expire(words: list[str]) -> int:
    from pipelines.settings.maintenance import ExpireSettings
    from pipelines.settings.parsing import parse
    from pipelines.terminal.progress import View

    settings, _ = parse(ExpireSettings, words)
    from pipelines import expire

    with View(as_json=settings.json) as view:
        return view.report(expire.run(settings, progress=view.progress))


def _maintain(words: list[str]) -> int:
    from pipelines.settings.maintenance import MaintainSettings
    from pipelines.settings.parsing import parse
    from pipelines.terminal.progress import View

    settings, _ = parse(MaintainSettings, words)
    from pipelines import maintain

    with View(as_json=settings.json) as view:
        return view.report(maintain.run(settings, progress=view.progress))


def _cost(words: list[str]) -> int:
    from pipelines.settings.maintenance import CostSettings
    from pipelines.settings.parsing import parse
    from pipelines.terminal.progress import View

    settings, _ = parse(CostSettings, words)
    from pipelines import cost

    with View(as_json=settings.json) as view:
        return view.report(cost.run(settings))


def _api(words: list[str]) -> int:
    from pipelines.settings.parsing import parse
    from resubmit_api.settings import ApiSettings

    settings, _ = parse(ApiSettings, words)
    from resubmit_api.serve import serve

    serve(settings)
    return 0


def _doctor(words: list[str]) -> int:
    from pipelines import doctor
    from pipelines.doctor import findings
    from pipelines.settings.declared import CLASSES
    from pipelines.settings.parsing import parse

    kinds = {command: kind for command, kind in CLASSES.items() if command not in {"token", "completion"}}
    if not words or words[0] not in kinds:
        if set(words) & {"-h", "--help"}:
            _write(sys.stdout, doctor.HELP)
            return 0
        raise ConfigurationError(_wrong_command(words, kinds))
    settings, _ = parse(kinds[words[0]], words[1:])
    return findings.show(doctor.examine(settings))


def _wrong_command(words: list[str], kinds: Collection[str]) -> str:
    if not words or words[0].startswith("-"):
        return f"Name the command to check: persistor doctor {'|'.join(kinds)} --config FILE."
    near = difflib.get_close_matches(words[0], kinds, n=1)
    advice = f"did you mean {near[0]}?" if near else f"write one of {', '.join(kinds)}."
    return f"{words[0]!r} is not a command that can be checked; {advice}"


def _token(words: list[str]) -> int:
    from pipelines.settings.parsing import parse
    from resubmit_api.settings import TokenSettings

    settings, _ = parse(TokenSettings, words)
    from resubmit_api.auth.tokens import digest_of, line_of, new_token

    token = new_token()
    _write(sys.stderr, f"The token (it is not shown again): {token}\nAdd this line to the file of --tokens:")
    allowed = settings.allow_source, settings.allow_destination
    _write(sys.stdout, line_of(settings.name, settings.role, digest_of(token), *allowed))
    return 0


def _completion(words: list[str]) -> int:
    from pipelines.settings.parsing import parse
    from pipelines.settings.terminal import CompletionSettings

    settings, _ = parse(CompletionSettings, _named("shell", words))
    from pipelines.terminal.completion import completion

    sys.stdout.write(completion(settings.shell))
    return 0


def _named(setting: str, words: list[str]) -> list[str]:
    """The words of a command whose first one may be the value of a setting."""
    named = words and not words[0].startswith("-")
    return [f"--{setting}={words[0]}", *words[1:]] if named else words


_COMMANDS: dict[str, Callable[[list[str]], int]] = {
    "persist": _persist,
    "index": _index,
    "plan": _plan,
    "resubmit": _resubmit,
    "jobs": _jobs,
    "search": _search,
    "show": _show,
    "rebuild": _rebuild,
    "expire": _expire,
    "maintain": _maintain,
    "cost": _cost,
    "api": _api,
    "token": _token,
    "doctor": _doctor,
    "completion": _completion,
}


def _overview() -> str:
    lines = [f"  {name:<10}{what}" for name, what in SUMMARIES.items()]
    return "\n".join(
        [
            "usage: persistor COMMAND [--config FILE] [--SETTING VALUE ...]",
            "",
            "Archive every message of your brokers in an object store, and send any again, unchanged.",
            "",
            *lines,
            "",
            "persistor COMMAND --help explains every setting. Write secrets as ${env:NAME} or ${file:PATH}.",
            "persistor --version prints the version.",
        ]
    )


def _command_list() -> str:
    return f"write one of {', '.join(_COMMANDS)}."


def _version() -> str:
    from importlib.metadata import version

    return f"persistor {version('persistor')}"


def _complain(words: Sequence[str], problems: Sequence[str]) -> None:
    known = f"persistor {words[0]}" if words[0] in _COMMANDS else "persistor"
    whose = words[1] if words[0] == "doctor" and len(words) > 1 else ""
    explained = f"persistor {whose}" if whose in _COMMANDS else known
    count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
    lines = [
        f"{known} cannot start, {count}:",
        *(f"  - {in_words_of_commands(problem)}" for problem in problems),
    ]
    _write(sys.stderr, "\n".join([*lines, f"{explained} --help explains every setting."]))


def _write(stream: object, text: str) -> None:
    print(text, file=stream, flush=True)  # type: ignore[call-overload]
