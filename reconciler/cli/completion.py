"""Shell completion, generated from the table of verbs."""

from __future__ import annotations

from reconciler.cli.verb import Argument
from reconciler.cli.verbs import GLOBALS, VERBS


def _flags(arguments: tuple[Argument, ...]) -> list[str]:
    return [flag for flags, _ in arguments for flag in flags if flag.startswith("-")]


def _choices(arguments: tuple[Argument, ...]) -> list[str]:
    return [str(choice) for _, options in arguments for choice in options.get("choices", ())]


def script(shell: str) -> str:
    """Return the completion script for ``bash``, ``zsh`` or ``fish``."""
    return {"bash": _bash, "zsh": _zsh, "fish": _fish}[shell]()


def _bash() -> str:
    cases = "\n".join(
        f'    {v.name}) words="{" ".join(_flags(v.arguments) + _flags(GLOBALS) + _choices(v.arguments))}" ;;' for v in VERBS
    )
    names = " ".join(v.name for v in VERBS)
    return f"""_reconciler() {{
  local current="${{COMP_WORDS[COMP_CWORD]}}" verb="" word words="{names} {" ".join(_flags(GLOBALS))}"
  for word in "${{COMP_WORDS[@]:1:COMP_CWORD-1}}"; do
    case " {names} " in *" $word "*) verb="$word"; break ;; esac
  done
  case "$verb" in
{cases}
  esac
  COMPREPLY=($(compgen -W "$words" -- "$current"))
}}
complete -o default -F _reconciler reconciler"""


def _zsh() -> str:
    verbs = "\n".join(f"    '{v.name}:{_quoted(v.help)}'" for v in VERBS)
    cases = "\n".join(
        f"    {v.name}) _arguments {' '.join(_zsh_flag(a) for a in (*v.arguments, *GLOBALS))} '*:file:_files' ;;" for v in VERBS
    )
    return f"""#compdef reconciler
_reconciler() {{
  local -a verbs
  verbs=(
{verbs}
  )
  if (( CURRENT == 2 )); then _describe verb verbs; return; fi
  case "$words[2]" in
{cases}
  esac
}}
_reconciler "$@\""""


def _zsh_flag(argument: Argument) -> str:
    flags, options = argument
    if not flags[0].startswith("-"):
        return ""
    return " ".join(f"'{flag}[{_quoted(options.get('help', ''))}]'" for flag in flags)


def _fish() -> str:
    lines = [f"complete -c reconciler -n __fish_use_subcommand -a {v.name} -d '{_quoted(v.help)}'" for v in VERBS]
    for verb in VERBS:
        for flags, options in (*verb.arguments, *GLOBALS):
            long = next((f for f in flags if f.startswith("--")), "")
            if long:
                lines.append(
                    f"complete -c reconciler -n '__fish_seen_subcommand_from {verb.name}' -l {long[2:]} -d '{_quoted(options.get('help', ''))}'"
                )
    return "\n".join(lines)


def _quoted(text: str) -> str:
    return text.replace("'", "").replace("[", "(").replace("]", ")").replace(":", ",")
