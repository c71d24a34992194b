"""Completion scripts for bash, zsh and fish: each asks the program itself what can follow (`reconciler.cli.complete`)."""

from __future__ import annotations

HIDDEN_VERB = "__complete"
"""The verb that the scripts call; it is in no table."""

_BASH = """\
_reconciler() {
  local line
  COMPREPLY=()
  while IFS= read -r line; do COMPREPLY+=("$line"); done \\
    < <("$1" __complete bash "${COMP_LINE:0:COMP_POINT}" 2>/dev/null)
}
complete -o default -F _reconciler reconciler
"""
_ZSH = """\
#compdef reconciler
_reconciler() {
  local -a found
  found=(${(f)"$("${words[1]}" __complete zsh "${(j: :)words[1,CURRENT-1]} ${words[CURRENT]}" 2>/dev/null)"})
  if (( ${#found} )); then compadd -M 'm:{a-zA-Z}={A-Za-z}' -a found; else _files; fi
}
if [[ "${funcstack[1]}" == "_reconciler" ]]; then _reconciler "$@"; else compdef _reconciler reconciler; fi
"""
_FISH = """\
function __reconciler_complete
  set -l words (commandline -poc)
  set -l found ($words[1] __complete fish (commandline -cp | string collect) 2>/dev/null)
  if test (count $found) -gt 0
    printf '%s\\n' $found
  else
    __fish_complete_path (commandline -ct)
  end
end
complete -c reconciler -f -a '(__reconciler_complete)'
"""


def script(shell: str) -> str:
    """Return the completion script for ``bash``, ``zsh`` or ``fish``."""
    return {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}[shell]
