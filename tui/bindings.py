"""The one table of keys: it drives key handling, footer, command palette, help and docs/keys.md.

Change a key here and it changes everywhere; `[keys]` of config.toml changes it for one user. An action `x` is the
method `do_x` of the screen, else what tui/actions.py has under that name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

from store.states import ENDED
from tui.key_names import key_name
from tui.lines.sweeps import in_words
from tui.rows import Run

if TYPE_CHECKING:
    from engine.runs.lifecycle import Action

# Screens, in the order in which the documentation lists them.
SCREENS = {
    "all": "Everywhere",
    "dashboard": "Dashboard",
    "run": "Run",
    "compare": "Compare",
    "new": "New run",
    "data": "Data",
    "examples": "Examples",
    "fix": "Fix",
    "scale": "Scale",
    "sql": "SQL",
    "queries": "Saved queries",
    "reader": "Text",
    "help": "Help",
    "question": "Questions",
    "line": "Lines of text",
    "editor": "Editor of SQL",
}
PROMPTS = ("question", "line", "editor")  # no screens: what takes the keys on one


@dataclass(frozen=True)
class Context:
    """What decides whether a key means something now."""

    run: Run | None = None  # the run under the cursor, or the one that is open
    members: tuple[Run, ...] = ()  # the runs of a sweep or a group whose one line is under the cursor
    group: tuple[Run, ...] = ()  # the marked runs, if the one under the cursor is among several
    marked: int = 0
    connected: bool = True
    loaded: bool = True
    is_grouped: bool = False
    on_head: bool = False  # of a group, which the members are
    is_filtered: bool = False
    readonly: bool = False  # keys change no run and write no file
    no_chart: str = ""  # why keys of charts do nothing that can be seen
    typing: bool = False  # letters are text, and no keys

    @property
    def whole(self) -> str:
        """What the members are."""
        return "group" if self.on_head else "sweep"

    @property
    def several(self) -> tuple[Run, ...]:
        """The runs that a key means where it means more than one."""
        return self.members or self.group


LOADING = "the runs are still being loaded"
Unless = Callable[[Context], str | None]  # one sentence that says why not, or None


class Binding(NamedTuple):
    """One action: the keys that start it, and what is said about it."""

    keys: tuple[str, ...]  # names as Textual spells them; the first is shown in the footer
    action: str
    label: str  # in the footer and the palette
    help: str
    screens: tuple[str, ...] = ("dashboard",)
    unless: Unless = lambda _: None
    footer: bool = False
    writes: bool = False  # changes runs or files: not on a read-only screen


def _run(context: Context) -> str | None:
    if context.run:
        return None
    if not context.loaded:
        return LOADING
    if context.is_filtered:
        return f"no run matches the filter: {key_of('back', 'dashboard')} shows all"
    return "there is no run here: queue one with finetui run recipe.yaml"


def _reachable(context: Context) -> str | None:
    if context.run is None:
        return _run(context)
    return None if context.connected else "the daemon is not answering: try again when it is back"


def _allowed(action: Action) -> Unless:
    """By the rules that the daemon goes by; of a sweep in one line or of marked runs, to any of them."""

    def unless(context: Context) -> str | None:
        if context.run is None or not context.connected:
            return _reachable(context)
        from engine.runs.lifecycle import refused  # not before the first paint

        if several := context.several:
            able = any(refused(action, run.number, run.state, logged=run.logged) is None for run in several)
            whose = f"run of this {context.whole}" if context.members else "marked run"
            return None if able else f"no {whose} is in a state that allows it"
        return refused(action, context.run.number, context.run.state, logged=context.run.logged)

    return unless


def _alone(unless: Unless) -> Unless:
    """For what is done to one run, and not to all of a sweep."""

    def of_one(context: Context) -> str | None:
        if context.members:
            runs, shows = in_words(len(context.members)), key_of("sweep", "dashboard")
            return f"this line is a {context.whole} of {runs}: {shows} shows them, to choose one"
        return unless(context)

    return of_one


def _ours(unless: Unless, what: str) -> Unless:
    """For what needs a recipe of ours: a run that its own program logs has none."""

    def of_ours(context: Context) -> str | None:
        if context.run and context.run.logged:
            from engine.runs.lifecycle import not_ours

            return not_ours(context.run.number, what)
        return unless(context)

    return of_ours


def _single(unless: Unless) -> Unless:
    """For what is done to the run under the cursor alone, marked or not."""
    return _alone(lambda context: unless(replace(context, group=())))


_cancel, _pause = _allowed("cancel"), _allowed("pause")
_resume, _priority = _allowed("resume"), _allowed("priority")
_remove, _edit = _allowed("remove"), _single(_allowed("edit"))
_hold, _start, _move = _allowed("hold"), _single(_allowed("start_now")), _single(_allowed("move"))
_note = _alone(_reachable)


@_alone
def _requeue(context: Context) -> str | None:
    """The daemon would do it at any time; but a second copy of a run that goes on is not what a key is pressed for."""
    if context.run is None or not context.connected or context.run.state in ENDED:
        return _reachable(context)
    return f"run #{context.run.number} is {context.run.state}: only the recipe of an ended run can be queued again"


def _fix(context: Context) -> str | None:
    if context.run and not context.run.flags:
        return f"run #{context.run.number} has no flag that warns: nothing to fix"
    return _run(context)


def _sweep(context: Context) -> str | None:
    if context.run and not context.run.sweep and not context.is_grouped:
        return f"run #{context.run.number} belongs to no sweep"
    return _run(context)


def _compare(context: Context) -> str | None:
    if context.marked >= 2:
        return None
    return f"mark two or more runs with {key_of('mark', 'dashboard')}, then compare them"


LISTS = ("dashboard", "run", "compare", "new", "data", "examples", "fix", "scale", "sql", "queries", "reader")
RUNS = ("dashboard", "run")
CHARTS = ("dashboard", "run", "compare")
PANES_ON = {"dashboard": 6, "run": 7, "compare": 5, "new": 3, "data": 2, "examples": 2}  # panes or sections
PANED = tuple(PANES_ON)
PLAIN = (*PANED, "fix", "scale", "queries", "reader")  # screens on which every letter is a key


def _with_panes(number: int) -> tuple[str, ...]:
    """The screens that have so many."""
    return tuple(screen for screen, count in PANES_ON.items() if count >= number)


FOOTER_OF_CHARTS = ("metric", "log_scale")  # in the footer only where a chart is in view

BINDINGS: tuple[Binding, ...] = (
    Binding(("enter",), "open", "open", "Open the run under the cursor.", unless=_run, footer=True),
    Binding(("space",), "mark", "mark", "Mark the run: marked runs share charts, and a key for one means all (asks).",
            unless=_run, footer=True),
    Binding(("c",), "compare", "compare", "Compare the marked runs.", unless=_compare, footer=True),
    Binding(("slash",), "filter", "filter", "Filter the table: words, state:running, method=lora, lr>1e-4.",
            footer=True),
    Binding(("s",), "sort", "sort", "Sort by the next column.", footer=True),
    Binding(("S",), "reverse", "reverse order", "Reverse the sort order."),
    Binding(("vertical_line",), "columns", "columns", "Choose columns beside the usual: keys of recipes, metrics."),
    Binding(("b",), "groups", "group by", "Group the runs by state, sweep, tag, method, data, or any column."),
    Binding(("o",), "sweep", "open sweep", "Show the runs of a sweep or a group, or close them to one line.",
            unless=_sweep),
    Binding(("x",), "cancel", "cancel", "Cancel the run (asks first); it saves a checkpoint.", RUNS, _cancel,
            footer=True, writes=True),
    Binding(("p",), "pause", "pause", "Pause the run: it saves a checkpoint and frees its place.", RUNS, _pause,
            footer=True, writes=True),
    Binding(("r",), "resume", "resume", "Resume a paused, cancelled or failed run from its last checkpoint.",
            RUNS, _resume, writes=True),
    Binding(("R",), "requeue", "requeue", "Queue the recipe of an ended run again, as a new run.",
            RUNS, _ours(_requeue, "queued"), writes=True),
    Binding(("K",), "earlier", "earlier", "Move a queued run up: priority + 1.", RUNS, _priority, writes=True),
    Binding(("J",), "later", "later", "Move a queued run down: priority − 1.", RUNS, _priority, writes=True),
    Binding(("F",), "front", "to the front", "Move a queued run to the front of the queue.", RUNS, _move, writes=True),
    Binding(("h",), "hold", "hold", "Hold a queued run back, or release it again.", RUNS, _hold, writes=True),
    Binding(("N",), "start_now", "start now", "Start a queued run now, whatever it waits for (asks first).", RUNS,
            _start, writes=True),
    Binding(("D", "delete"), "remove", "remove", "Remove an ended run (says what it frees, and asks); finetui restore "
            "brings it back.", RUNS, _remove, writes=True),
    Binding(("E",), "edit", "edit", "Change the recipe of a run that has not begun: key=value, checked as a new one.",
            RUNS, _edit, writes=True),
    Binding(("C",), "clone", "clone", "Queue the recipe as a new run, with changes: key=value.",
            RUNS, _ours(_reachable, "cloned"), writes=True),
    Binding(("t",), "tag", "tags", "Change the words by which a filter finds the run (tag:night).",
            RUNS, _reachable, writes=True),
    Binding(("n",), "note", "note", "Write a note on the run, or change the one it has.", RUNS, _note, writes=True),
    Binding(("T",), "name", "name", "Change the name of the run.", RUNS, _note, writes=True),
    Binding(("Z",), "undo", "undo", "Undo the last act: cancel, pause, resume, hold, priority, front, remove, edit, "
            "tags, note, name, marks; again: the one before.", RUNS, writes=True),
    Binding(("f",), "fix", "fix", "Turn the run's flags into a new recipe: see what changes, then queue or save it.",
            RUNS, _ours(_fix, "fixed")),
    Binding(("a",), "add", "queue", "Queue the new recipe as a run (asks first).", ("fix",), footer=True, writes=True),
    Binding(("w",), "write", "save", "Save the new recipe to a file (asks first).", ("fix",), footer=True, writes=True),
    Binding(("e",), "to_form", "edit", "Change the new recipe in a form first.", ("fix",), footer=True, writes=True),
    Binding(("enter",), "open", "edit", "Edit the field, or take its next choice; open or close a section.", ("new",),
            footer=True),
    Binding(("l", "right"), "right", "next choice", "The next of the field's choices.", ("new",)),
    Binding(("h", "left"), "left", "previous choice", "The one before.", ("new",)),
    Binding(("x",), "default", "default", "Take the field out of the recipe: its default is back.", ("new",),
            footer=True),
    Binding(("v",), "vary", "sweep", "Give the field several values: a sweep, with a run for each.", ("new",),
            footer=True),
    Binding(("a",), "add", "queue", "Queue the recipe (asks first).", ("new",), footer=True, writes=True),
    Binding(("w",), "write", "save", "Save the recipe to a file.", ("new",), footer=True, writes=True),
    Binding(("d",), "data", "data", "Show the rows of the recipe, with what is learned of them.", ("new",),
            footer=True),
    Binding(("u",), "undo", "undo", "Take the last change back.", ("new",), footer=True),
    Binding(("e",), "yaml", "YAML", "Edit the YAML by hand; the form follows, esc leaves it.", ("new",), footer=True),
    Binding(("slash",), "filter", "find", "Show only fields with a word in their name or help.", ("new",), footer=True),
    Binding(("o",), "fold", "fold", "Open or close the section under the cursor.", ("new",)),
    Binding(("O",), "load", "open", "Read a recipe file.", ("new",)),
    Binding(("s",), "scale", "scale", "Score what was trained at factors from 0 to 1, without training (asks first).",
            ("fix",), footer=True, writes=True),
    Binding(("w",), "write", "write", "Write the weights at the chosen factor to a folder (asks first).", ("scale",),
            footer=True, writes=True),
    Binding(("d",), "data", "data", "Show the run's data: rows, lengths, trained tokens, duplicates, findings.",
            RUNS, _ours(_run, "looked into")),
    Binding(("n",), "next_example", "next example", "The next example.", ("data",), footer=True),
    Binding(("p",), "previous_example", "previous example", "The previous example.", ("data",), footer=True),
    Binding(("X",), "show_examples", "examples", "Show which examples got worse and which better; of a flagged run, in "
            "the suite that the flag names.", RUNS, _run),
    Binding(("enter",), "open", "open", "Show the example whole.", ("examples",), footer=True),
    Binding(("s",), "suite", "suite", "The next suite: held-out, general, seen, samples.", ("examples",), footer=True),
    Binding(("S",), "slice", "slice", "The next slice of the suite, or all of it.", ("examples",), footer=True),
    Binding(("t",), "tokens", "tokens", "Score each token of the example and colour it by its change; loads the model.",
            ("examples",), footer=True),
    Binding(("o",), "order", "order", "Turn the order: worst first, or best first.", ("examples",), footer=True),
    Binding(("b",), "before_run", "before", "Compare with the next marked run, or again with the run itself.",
            ("examples",), footer=True),
    Binding(("slash",), "filter", "filter", "Only examples whose prompt or target has these words.", ("examples",),
            footer=True),
    Binding(("n",), "next_example", "next", "The next example.", ("examples",)),
    Binding(("p",), "previous_example", "previous", "The previous example.", ("examples",)),
    Binding(("right_square_bracket", "right"), "later_look", "later look", "Compare up to a later look.",
            ("examples",), footer=True),
    Binding(("left_square_bracket", "left"), "earlier_look", "earlier look", "Compare up to an earlier look.",
            ("examples",)),
    Binding(("right_curly_bracket", "shift+right"), "later_before", "from later", "Compare from a later look on.",
            ("examples",)),
    Binding(("left_curly_bracket", "shift+left"), "earlier_before", "from earlier", "Compare from an earlier look on.",
            ("examples",)),
    Binding(("j", "down"), "down", "down", "One line down.", LISTS),
    Binding(("k", "up"), "up", "up", "One line up.", LISTS),
    Binding(("g", "home"), "top", "top", "To the first line.", LISTS),
    Binding(("G", "end"), "bottom", "bottom", "To the last line.", LISTS),
    Binding(("ctrl+d", "pagedown"), "page_down", "page down", "Half a page down.", LISTS),
    Binding(("ctrl+u", "pageup"), "page_up", "page up", "Half a page up.", LISTS),
    Binding(("left",), "left", "left", "Scroll to the left, where lines are longer than the screen.", ("run",)),
    Binding(("right",), "right", "right", "Scroll to the right.", ("run",)),
    Binding(("slash",), "search", "search", "Search in the section that is shown; of curves, in the log.", ("run",),
            footer=True),
    Binding(("slash",), "search", "search", "Search in the samples of all runs and prompts.", ("compare",)),
    Binding(("full_stop",), "next_match", "next match", "The next line, or prompt of Compare, that has what was "
            "searched for.", ("run", "compare")),
    Binding(("comma",), "previous_match", "previous match", "The line or prompt before that has it.",
            ("run", "compare")),
    # While the help is searched, letters are typed.
    Binding(("down",), "down", "down", "One line down.", ("help",)),
    Binding(("up",), "up", "up", "One line up.", ("help",)),
    Binding(("pagedown",), "page_down", "page down", "Half a page down.", ("help",)),
    Binding(("pageup",), "page_up", "page up", "Half a page up.", ("help",)),
    Binding(("M",), "mark_all", "mark all", "Mark all runs that the filter shows.", unless=_run),
    Binding(("U",), "unmark", "unmark all", "Clear all marks."),
    Binding(("tab",), "next_pane", "pane", "Next pane (small terminals show one at a time), or next section.",
            PANED, footer=True),
    Binding(("shift+tab",), "previous_pane", "previous pane", "Previous pane or section.", PANED),
    *(
        Binding((str(number),), f"pane({number})", f"pane {number}", f"Show pane {number}.", _with_panes(number))
        for number in range(1, max(PANES_ON.values()) + 1)
    ),
    Binding(("z",), "whole", "whole screen", "Give a pane the whole screen, where its text scrolls, or the table back.",
            ("dashboard",)),
    Binding(("z",), "whole", "whole width", "Give the curve the whole width, or the list of curves back.", ("run",)),
    Binding(("enter",), "read_section", "read", "Read the section whole: what it had to cut.", ("run",)),
    Binding(("0",), "reset", "reset", "All panes, whole curves.", CHARTS),
    Binding(("m",), "metric", "metric", "Next metric in the first chart.", CHARTS, footer=True),
    Binding(("y",), "log_scale", "log y", "Switch the logarithmic y axis on or off.", CHARTS, footer=True),
    Binding(("plus", "equals_sign"), "zoom_in", "zoom in", "Zoom in: half as many steps.", CHARTS),
    Binding(("minus",), "zoom_out", "zoom out", "Zoom out: twice as many steps.", CHARTS),
    Binding(("left_square_bracket",), "pan_left", "earlier steps", "Move the zoomed window left.", CHARTS),
    Binding(("right_square_bracket",), "pan_right", "later steps", "Move the zoomed window right.", CHARTS),
    Binding(("a",), "x_axis", "x axis", "What the x axis counts: steps, tokens, epochs or time.", CHARTS),
    Binding(("O",), "outliers", "outliers", "Leave values far from all others out of the y range, or cover them.",
            CHARTS),
    Binding(("v",), "crosshair", "values", "Crosshair: the value of every curve at one x; again: none.", CHARTS),
    Binding(("less_than_sign",), "cross_left", "crosshair left", "Move the crosshair to the left.", CHARTS),
    Binding(("greater_than_sign",), "cross_right", "crosshair right", "Move the crosshair to the right.", CHARTS),
    Binding(("left_curly_bracket",), "cross_far_left", "crosshair far left", "Move the crosshair far to the left.",
            CHARTS),
    Binding(("right_curly_bracket",), "cross_far_right", "crosshair far right", "Move the crosshair far to the right.",
            CHARTS),
    Binding(("e",), "smooth", "smooth", "Smooth the curves more: off, little, much.", CHARTS),
    Binding(("u",), "glyphs", "braille/block/ASCII", "Draw curves in braille, blocks or ASCII.", (*CHARTS, "sql")),
    Binding(("l", "right"), "right", "run", "The run to the right; columns out of view come into it.", ("compare",),
            footer=True),
    Binding(("h", "left"), "left", "run to the left", "The run to the left.", ("compare",)),
    Binding(("r",), "reference", "reference", "Measure the others against this run.", ("compare",), footer=True),
    Binding(("space",), "pin", "pin", "Keep this run in view, or let it move again.", ("compare",)),
    Binding(("d",), "differing", "differing", "Only metrics that differ, losses by more than noise; again: all.",
            ("compare",), footer=True),
    Binding(("n",), "next_prompt", "next prompt", "Samples: the next prompt.", ("compare",)),
    Binding(("p",), "previous_prompt", "previous prompt", "Samples: the previous prompt.", ("compare",)),
    Binding(("s",), "earlier_sample", "earlier samples", "Samples of an earlier step.", ("compare",)),
    Binding(("S",), "later_sample", "later samples", "Samples of a later step, up to each run's last.", ("compare",)),
    Binding(("f",), "suites", "suites", "Examples: held-out and general, held-out alone, general alone.",
            ("compare",)),
    Binding(("enter",), "read_pane", "read", "Read the pane whole: what it had to cut, and every run.", ("compare",)),
    Binding(("w",), "write", "save", "Save the pane to a file: Markdown, CSV; the chart as SVG, PNG or text.",
            ("compare",)),
    Binding(("L",), "log_level", "log level", "Lines of the log: all, warnings and errors, errors.", RUNS),
    Binding(("w",), "save_chart", "save chart", "Save the chart as it is drawn to a file: .svg, .png or .txt.", RUNS),
    Binding(("f5", "ctrl+j"), "execute", "run", "Run the query; enter does too if it is one line or ends with ;.",
            ("sql",), footer=True),
    Binding(("ctrl+up",), "older", "older query", "The previous query in the history.", ("sql",)),
    Binding(("ctrl+down",), "newer", "newer query", "The next query in the history.", ("sql",)),
    Binding(("f2",), "queries", "queries", "Saved queries, ready-made ones and the history, to choose from.",
            ("sql",), footer=True),
    Binding(("f3",), "save_query", "save query", "Save the query under a name.", ("sql",)),
    Binding(("f4",), "describe", "describe", "Describe the table, column or function under the cursor, whole.",
            ("sql",)),
    Binding(("tab",), "next_pane", "pane", "Editor, results, tables.", ("sql",), footer=True),
    Binding(("shift+tab",), "previous_pane", "previous pane", "Tables, results, editor.", ("sql",)),
    Binding(("enter",), "open", "open", "Read the cell whole; put the table or column under the cursor into the query.",
            ("sql",)),
    Binding(("s",), "sort", "sort", "Sort the results by the column under the cursor; again: downwards.", ("sql",),
            footer=True),
    Binding(("S",), "reverse", "reverse order", "Reverse the order of the results.", ("sql",)),
    Binding(("w",), "write", "save result", "Save all rows to a file: .csv, .parquet, .json or .md; of a chart also "
            ".svg, .png or .txt.", ("sql",), footer=True),
    Binding(("c",), "chart", "chart", "Draw the columns with numbers, over step or the first of them; again: the rows.",
            ("sql",), footer=True),
    Binding(("y",), "log_scale", "log y", "Switch the logarithmic y axis of the chart on or off.", ("sql",)),
    Binding(("x",), "chart_x", "chart over this", "Draw them over the column under the cursor.", ("sql",)),
    Binding(("h", "left"), "left", "left", "One column of the results to the left; of a chart, the one drawn before.",
            ("sql",)),
    Binding(("l", "right"), "right", "right", "One column of the results to the right; of a chart, the next one alone.",
            ("sql",)),
    Binding(("enter",), "choose", "use", "Put the query into the editor.", ("queries",), footer=True),
    Binding(("D", "delete"), "forget", "delete", "Delete the saved query (asks first).", ("queries",), footer=True),
    Binding(("ctrl+c",), "stop", "stop query", "Stop the running query.", ("sql",)),
    Binding(("i",), "read", "read", "Read all there is on the run: why it failed, what to do, flags, results.",
            RUNS, _run),
    Binding(("A",), "new_run", "new run", "Begin a run with a form: from nothing, like the run under the cursor, "
            "or from a file.", RUNS, writes=True),
    Binding(("Y",), "copy", "copy", "Copy what the next key says (OSC 52; in tmux by its buffer), and into a file.",
            (*PLAIN, "sql")),
    Binding(("colon",), "sql", "SQL", "Query everything with SQL.", CHARTS, footer=True),
    Binding(("question_mark", "f1"), "help", "help", "All keys; type to search, enter to run one.",
            (*PLAIN, "sql"), footer=True),
    Binding(("ctrl+t",), "theme", "theme", "The next theme: dark, colour-blind, light.", PLAIN),
    Binding(("semicolon", "ctrl+g"), "jump", "jump", "Put a letter on all that can be gone to; the letter goes there.",
            (*PANED, "sql", "help")),
    Binding(("y", "Y", "enter"), "yes", "yes", "Do what is asked; every other key forgets it.", ("question",)),
    Binding(("enter",), "take", "take", "Take what is typed; in the help: do what is chosen.", ("line",)),
    Binding(("tab",), "complete", "complete", "Take what is suggested.", ("line", "editor")),
    Binding(("ctrl+space",), "suggest", "suggest", "Show what may come next.", ("editor",)),
    Binding(("alt+enter", "shift+enter", "ctrl+o"), "new_line", "new line", "Begin a new line, where enter would run "
            "the query.", ("editor",)),
    Binding(("escape",), "back", "back", "Back to the previous screen.", ("all",), footer=True),
    Binding(("q",), "quit", "quit", "Quit; runs continue.", PLAIN),
    Binding(("ctrl+z",), "suspend", "suspend", "Leave the screen to the shell; fg brings it back.", ("all",)),
    Binding(("ctrl+q",), "quit", "quit", "Quit from anywhere; runs continue.", ("all",)),
)  # fmt: skip

# What `[keys]` of config.toml changes, by screen and action; tui/keymap.py reads and checks it.
_changed: dict[tuple[str, str], tuple[str, ...]] = {}


def use(changed: Mapping[tuple[str, str], tuple[str, ...]]) -> None:
    """Go by these keys from now on, in all that names a key."""
    _changed.clear()
    _changed.update(changed)
    bindings_of.cache_clear()


def is_fixed(binding: Binding) -> bool:
    """Whether its key stays whatever config.toml says: with it one leaves from everywhere."""
    return binding.keys == ("ctrl+q",)


def defaults_of(screen: str) -> list[Binding]:
    """What keys mean on a screen where nobody has changed them, in the order of the table."""
    return [binding for binding in BINDINGS if screen in binding.screens or "all" in binding.screens]


@cache
def bindings_of(screen: str) -> tuple[Binding, ...]:
    """What keys mean on a screen, in the order of the table."""
    return tuple(
        binding
        if is_fixed(binding)
        else binding._replace(keys=_changed.get((screen, binding.action), binding.keys))
        for binding in defaults_of(screen)
    )


def find(action: str, screen: str) -> Binding | None:
    """The binding of an action on a screen."""
    return next((binding for binding in bindings_of(screen) if binding.action == action), None)


def keys_of(action: str, screen: str) -> tuple[str, ...]:
    """The keys of an action, as Textual spells them."""
    binding = find(action, screen)
    assert binding is not None, (action, screen)
    return binding.keys


def key_of(action: str, screen: str) -> str:
    """The key of an action, for a sentence that names it."""
    return key_name(keys_of(action, screen)[0])
