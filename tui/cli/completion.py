"""`finetui completion`: the script that a shell asks for completions with."""

from __future__ import annotations

from typer.completion import get_completion_script

from tui.cli.output import out_raw

# Typer's own script for bash gives a word with = or : in it in pieces, as bash splits it, and ends `train.lr=` with a
# blank. This one gives the words as they are typed, and takes what bash keeps off the answers.
BASH = r"""_finetui() {
    local line=${COMP_LINE:0:COMP_POINT} IFS=$' \t\n' words word breaks=${COMP_WORDBREAKS//[^:=]/}
    read -ra words <<< "$line"
    [[ $line == *[[:space:]] ]] && words+=("")
    word=${words[${#words[@]}-1]}
    IFS=$'\n'
    COMPREPLY=( $(env COMP_WORDS="$line" COMP_CWORD=$(( ${#words[@]} - 1 )) _FINETUI_COMPLETE=complete_bash \
                  "$1" 2>/dev/null) )
    [[ -n $breaks && $word == *[$breaks]* ]] && COMPREPLY=( "${COMPREPLY[@]#"${word%"${word##*[$breaks]}"}"}" )
    [[ ${#COMPREPLY[@]} == 1 && $COMPREPLY == *[:=] ]] && compopt -o nospace
    return 0
}
complete -o default -o nosort -F _finetui finetui
"""


def completion(shell: str) -> None:
    """Print the script; bash's is of our own, the others are Typer's."""
    if shell == "bash":
        out_raw(BASH)
    else:
        script = get_completion_script(prog_name="finetui", complete_var="_FINETUI_COMPLETE", shell=shell)
        out_raw(f"{script}\n")
