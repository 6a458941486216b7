"""Completion of commands, settings and their choices in a shell, made from the declared settings."""

from __future__ import annotations

from collections.abc import Iterator

from pipelines.settings.declared import CLASSES, settings_of
from pipelines.settings.help import SUMMARIES
from pipelines.settings.parsing import short_help
from transforms.settings import Setting

__all__ = ["completion"]

_SHELLS = "bash zsh fish"
_BASH = """_persistor() {{
  local cur="${{COMP_WORDS[COMP_CWORD]}}" prev="${{COMP_WORDS[COMP_CWORD-1]}}" command="${{COMP_WORDS[1]}}"
  local words=""
  if [ "$COMP_CWORD" -eq 1 ]; then
    COMPREPLY=($(compgen -W "{commands}" -- "$cur"))
    return
  fi
  if [ "$command" = doctor ]; then
    if [ "$COMP_CWORD" -eq 2 ]; then
      COMPREPLY=($(compgen -W "{checked}" -- "$cur"))
      return
    fi
    command="${{COMP_WORDS[2]}}"
  fi
  case "$command:$prev" in
{choices}
    *:--config) return ;;
    *) case "$command" in
{settings}
    esac ;;
  esac
  COMPREPLY=($(compgen -W "$words" -- "$cur"))
}}
complete -o default -F _persistor persistor
"""


def completion(shell: str) -> str:
    """The script that a shell reads, such as by ``source <(persistor completion bash)``."""
    if shell == "fish":
        return "".join(f"{line}\n" for line in _fish())
    # zsh reads bash's completions.
    return f"autoload -U +X bashcompinit && bashcompinit\n{_bash()}" if shell == "zsh" else _bash()


def _bash() -> str:
    settings = (
        f'      {command}) words="--config {" ".join(f"--{one.name}" for one in settings_of(command))}" ;;'
        for command in CLASSES
    )
    choices = (
        f'    {command}:--{one.name}) words="{" ".join(one.choices)}" ;;'
        for command in CLASSES
        for one in settings_of(command)
        if one.choices
    )
    shells = f'    completion:completion) words="{_SHELLS} --config --shell" ;;'
    return _BASH.format(
        commands=" ".join(SUMMARIES),
        checked=" ".join(CLASSES),
        settings="\n".join(settings),
        choices="\n".join([*choices, shells]),
    )


def _fish() -> Iterator[str]:
    yield "complete -c persistor -f"
    for command, summary in SUMMARIES.items():
        yield f"complete -c persistor -n __fish_use_subcommand -a {command} -d {_quoted(summary)}"
    yield _of("doctor", f"-a '{' '.join(CLASSES)}'")
    yield _of("completion", f"-a '{_SHELLS}'")
    for command in CLASSES:
        yield _of(command, "-l config -r -F -d 'YAML file with these settings'")
        for one in settings_of(command):
            value = (
                ""
                if one.kind.metavar == ""
                else " -r -F"
                if not one.choices
                else f" -x -a '{' '.join(one.choices)}'"
            )
            yield _of(command, f"-l {one.name}{value} -d {_quoted(short_help(one))}")


def _value(setting: Setting) -> str:
    if setting.choices:
        return f" -x -a '{' '.join(setting.choices)}'"
    return " -r -F" if setting.kind.metavar else ""


def _of(command: str, rest: str) -> str:
    return f"complete -c persistor -n '__fish_seen_subcommand_from {command}' {rest}"


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
