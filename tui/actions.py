"""What a key does where the screen has no `do_…` of its own for it: orders for runs, charts, other screens."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

from engine.basics.safe_text import one_line
from engine.runs.lifecycle import Action, refused
from finetui.errors import StoreError
from finetui.files import read_json
from store.states import WAITING
from tui import bindings, chart_actions, commands, undo, undoing
from tui.host import Answer, Host, path_or_say, run_path
from tui.lines import sweeps, theme
from tui.lines.cycle import following
from tui.lines.log_levels import SHOWN
from tui.orders import done
from tui.rows import Run, ask
from tui.screens.base import BaseScreen

OF_CHARTS = frozenset((*chart_actions.ACTIONS, "metric", "save_chart"))


def perform(host: Host, screen: BaseScreen, action: str) -> None:
    """Run an action of the binding table, or say in one sentence why not now."""
    binding = bindings.find(action, screen.room)
    if binding and binding.writes and host.readonly:
        host.say("this screen is read-only; finetui without --readonly has the keys that change runs", "warn")
        return
    why = binding.unless(screen.context()) if binding else None
    if why:
        host.say(why, "warn")
        return
    name, _, argument = action.rstrip(")").partition("(")
    if name in OF_CHARTS and (why := screen.no_chart()):
        host.say(why, "warn")
        return
    method = getattr(screen, f"do_{name}", None)
    if method is None:
        ACTIONS[name](host, screen)
    elif argument:
        method(int(argument))
    else:
        method()


def _target(screen: BaseScreen) -> Run:
    run = screen.target()
    assert run is not None, "the binding table lets no run key through without a run"
    return run


# ---- runs ----------------------------------------------------------------------------------------


def _order(host: Host, action: str, run: Run, **body: Any) -> None:
    """Ask the daemon for an action, and say what came of it."""

    def tell(answer: dict[str, Any]) -> None:
        what = f"{action.replace('_', ' ')} of #{run.number}"
        undone = undoing.keep(host, what, [undo.step_of(action, run.number, answer)])
        if action == "start_now":
            pause, cancel = (bindings.key_of(key, "dashboard") for key in ("pause", "cancel"))
            why_not = f"the {what} cannot be undone: {pause} pauses it, {cancel} cancels it"
            host.state.acts.keep(undo.Act(what, why_not=why_not))
        host.say(f"run #{run.number} {done(action, answer)}{undone}", "good")

    host.in_thread(lambda client: client.action(action, run=run.number, **body), tell)


def _order_all(host: Host, screen: BaseScreen, action: Action, words: str, **body: Any) -> bool:
    """Where a sweep or one of several marked runs is under the cursor: ask, then order each of them whose state allows
    it. False elsewhere.
    """
    several = screen.context().several
    if not several:
        return False
    whose = _several(screen)
    able = [run for run in several if refused(action, run.number, run.state, logged=run.logged) is None]

    def order(client: Any) -> tuple[list[undo.Step | None], list[str]]:
        steps, problems = [], []
        for run in able:
            try:
                answer = client.action(action, run=run.number, **body)
            except StoreError as error:
                problems.append(str(error))
            else:
                steps.append(undo.step_of(action, run.number, answer))
        return steps, problems

    def tell(outcome: tuple[list[undo.Step | None], list[str]]) -> None:
        steps, problems = outcome
        refusals = f"; {len(problems)} refused: {problems[0]}" if problems else ""
        undone = undoing.keep(host, f"{action} of {sweeps.in_words(len(steps))}", steps)
        host.say(f"done for {len(steps)} of the {whose}{undone}{refusals}", "good" if steps else "bad")

    question = f"{words} {len(able)} of the {whose}?"
    host.confirm(question[0].upper() + question[1:], lambda: host.in_thread(order, tell))
    return True


def _several(screen: BaseScreen) -> str:
    context = screen.context()
    if context.members:
        return f"{sweeps.in_words(len(context.members))} of this {context.whole}"
    return f"{len(context.group)} marked runs"


def _order_target(
    host: Host, screen: BaseScreen, action: Action, words: str | None = None, **body: Any
) -> None:
    """Order the run under the cursor, or, after a question, all that it stands for. `words`: of the question."""
    if not _order_all(host, screen, action, words or action, **body):
        _order(host, action, _target(screen), **body)


def cancel_run(host: Host, screen: BaseScreen) -> None:
    run = _target(screen)
    if not _order_all(host, screen, "cancel", "cancel"):
        host.confirm(f"Cancel run #{run.number} {one_line(run.name)}?", lambda: _order(host, "cancel", run))


def pause_run(host: Host, screen: BaseScreen) -> None:
    _order_target(host, screen, "pause")


def resume_run(host: Host, screen: BaseScreen) -> None:
    _order_target(host, screen, "resume")


def requeue_run(host: Host, screen: BaseScreen) -> None:
    _order(host, "requeue", _target(screen))


def raise_priority(host: Host, screen: BaseScreen) -> None:
    _change_priority(host, screen, 1)


def lower_priority(host: Host, screen: BaseScreen) -> None:
    _change_priority(host, screen, -1)


def _change_priority(host: Host, screen: BaseScreen, by: int) -> None:
    priority = _target(screen).priority + by
    _order_target(host, screen, "priority", f"priority {priority} for", priority=priority)


def move_to_front(host: Host, screen: BaseScreen) -> None:
    _order(host, "move", _target(screen))


def hold_run(host: Host, screen: BaseScreen) -> None:
    run = _target(screen)
    waiting = [one for one in screen.context().several or (run,) if one.state in WAITING]
    action: Action = "release" if all(one.held for one in waiting) else "hold"
    _order_target(host, screen, action)


def start_now(host: Host, screen: BaseScreen) -> None:
    run = _target(screen)
    host.confirm(
        f"Start run #{run.number} {one_line(run.name)} now, beside those that run?",
        lambda: _order(host, "start_now", run),
    )


def remove_run(host: Host, screen: BaseScreen) -> None:
    from engine.basics.wording import size
    from engine.runs.removed import bytes_of

    run = _target(screen)
    if _order_all(host, screen, "remove", "remove (finetui restore brings them back)"):
        return
    path = run_path(host.home, run.number)
    freed = size(bytes_of(path)) if path else "nothing"
    host.confirm(
        f"Remove run #{run.number} {one_line(run.name)} ({freed})? finetui restore {run.number} brings it back",
        lambda: _order(host, "remove", run),
    )


def tag_run(host: Host, screen: BaseScreen) -> None:
    run = _target(screen)
    old = run.tags.split()

    def change(text: str) -> None:
        new = text.split()
        add, remove = [word for word in new if word not in old], [word for word in old if word not in new]
        _order_target(host, screen, "tag", "change the tags of", add=add, remove=remove)

    several = screen.context().several
    label = f"tags of the {_several(screen)}" if several else f"tags of #{run.number}"
    screen.ask(label, run.tags, "words, by which a filter finds it: tag:night", change)


def note_run(host: Host, screen: BaseScreen) -> None:
    from engine.runs import journal
    from engine.runs.home import RunDir

    run = _target(screen)
    path = path_or_say(host, run.number)
    if path is None:
        return
    old = one_line(journal.read(RunDir(path)).note)
    _change_line(
        host, screen, f"note on #{run.number}", old, "what is worth knowing of it; finetui show has the latest",
        lambda text: _order(host, "note", run, text=text),
    )  # fmt: skip


def name_run(host: Host, screen: BaseScreen) -> None:
    run = _target(screen)
    _change_line(
        host, screen, f"name of #{run.number}", one_line(run.name), "what lists call it",
        lambda text: _order(host, "name", run, name=text),
    )  # fmt: skip


def _change_line(
    host: Host, screen: BaseScreen, label: str, old: str, hint: str, then: Callable[[str], None]
) -> None:
    """Ask for what stands in a run's line, which is there to be changed."""
    screen.ask(label, old, hint, lambda text: then(text) if text != old else host.say("nothing done"))


def edit_run(host: Host, screen: BaseScreen) -> None:
    run = _target(screen)
    _change_recipe(host, screen, "edit", f"change #{run.number}", run)


def clone_run(host: Host, screen: BaseScreen) -> None:
    run = _target(screen)
    _change_recipe(host, screen, "clone", f"a new run like #{run.number}, but", run)


def _change_recipe(host: Host, screen: BaseScreen, command: str, label: str, run: Run) -> None:
    """Ask for `key=value` changes, and let `finetui edit` or `finetui clone` check them and do it."""

    def change(text: str) -> None:
        try:
            words = shlex.split(text)
        except ValueError as error:
            host.say(f"{text}: {error}", "bad")
            return
        if not words:
            host.say("nothing done")
            return
        host.say("checking the recipe and the data …", keep=True)
        host.in_thread(lambda _: do(words), tell)

    def do(words: list[str]) -> tuple[str, list[undo.Step]]:
        before = _submitted(host, run.number) if command == "edit" else None
        printed, said = commands.run(host.home, command, str(run.number), *words)
        if command == "edit":
            steps = [undo.recipe_step(run.number, before)] if before else []
        else:
            steps = [undo.copy_step(int(number)) for number in printed.split()]
        return next(line for line in said if not line.startswith("note: ")), steps

    def tell(outcome: tuple[str, list[undo.Step]]) -> None:
        sentence, steps = outcome
        host.say(f"{sentence}{undoing.keep(host, f'{command} of #{run.number}', steps)}", "good")

    screen.ask(label, "", "train.lr=1e-4 method.r=32", change)


def change_log_level(host: Host, screen: BaseScreen) -> None:
    host.state.log_level = following(list(SHOWN), host.state.log_level)
    screen.changed()
    host.say(f"logs: {SHOWN[host.state.log_level]}")


def _submitted(host: Host, number: int) -> dict[str, Any] | None:
    """A run's run.json as it is now; None where it cannot be read, which the command says better."""
    path = run_path(host.home, number)
    with suppress(OSError, ValueError):
        return read_json(path / "run.json") if path else None
    return None


# ---- screens: imported when they are opened, so that the first paint waits for none of them -------


def open_sql(host: Host, _: BaseScreen) -> None:
    from tui.screens.sql import SqlScreen

    host.open_screen(SqlScreen(host.remembered.queries(), host.remembered.saved_queries()))


def read_run(host: Host, screen: BaseScreen) -> None:
    from tui.screens.reader import ReaderScreen

    run = _target(screen)

    def show(outcome: tuple[str, list[str]]) -> None:
        host.say("")
        host.open_screen(ReaderScreen(f"#{run.number} {run.name}", outcome[0]))

    host.say("reading …", keep=True)
    host.in_thread(lambda _: commands.run(host.home, "show", str(run.number)), show)


def new_run(host: Host, screen: BaseScreen) -> None:
    from tui.screens import begin

    begin.offer(host, screen)


def open_data(host: Host, screen: BaseScreen) -> None:
    from tui.screens.data import DataScreen

    run = _target(screen)
    if path := path_or_say(host, run.number):
        host.open_screen(DataScreen(f"#{run.number} {run.name}", "--run", str(path)))


def open_examples(host: Host, screen: BaseScreen) -> None:
    """At the suite that a flag of the run names; where several name different ones, after a question."""
    from engine.flags import words
    from tui.lines import looks
    from tui.screens.examples import ExamplesScreen

    run = _target(screen)
    flags = words.newest(screen.snapshot.rows(ask("flags", run=run.number)))
    standing = [flag for flag in flags if flag["suite"] in looks.FIRST and not words.is_withdrawn(flag)]
    named = {(flag["suite"], flag["slice"]): flag for flag in reversed(standing)}  # the gravest of each

    def show(suite: str | None = None, slice: str | None = None) -> None:
        host.open_screen(ExamplesScreen(run.number, suite, slice))

    if len(named) < 2:
        show(*next(iter(named), ()))
        return
    answers = [
        Answer(str(at), one_line(f"{words.where(flag)}: {flag['flag']}"), partial(show, *place))
        for at, (place, flag) in enumerate(reversed(named.items()), start=1)
    ]
    host.choose("examples of:", answers[:9])


def open_fix(host: Host, screen: BaseScreen) -> None:
    from tui.screens.fix import FixScreen

    run = _target(screen)
    host.open_screen(FixScreen(run.number, run.name))


def open_run(host: Host, screen: BaseScreen) -> None:
    from tui.screens.run import RunScreen

    host.open_screen(RunScreen(_target(screen).number, host.state.view.metric))


def open_comparison(host: Host, _: BaseScreen) -> None:
    from tui.screens.compare import CompareScreen

    host.open_screen(CompareScreen(tuple(host.state.marked)))


def open_help(host: Host, screen: BaseScreen) -> None:
    from tui.screens.help import HelpScreen

    host.open_screen(HelpScreen(screen.room))


def change_theme(host: Host, _: BaseScreen) -> None:
    name = following(tuple(theme.PALETTES), theme.in_use())
    host.use_theme(name)
    host.say(f"theme: {name}")


def go_back(host: Host, _: BaseScreen) -> None:
    host.leave_screen()


def suspend(host: Host, _: BaseScreen) -> None:
    host.suspend_screen()


def leave(host: Host, _: BaseScreen) -> None:
    host.quit()


ACTIONS: dict[str, Callable[[Host, BaseScreen], None]] = {
    **chart_actions.ACTIONS,
    "log_level": change_log_level,
    "open": open_run,
    "cancel": cancel_run,
    "pause": pause_run,
    "resume": resume_run,
    "requeue": requeue_run,
    "earlier": raise_priority,
    "later": lower_priority,
    "front": move_to_front,
    "hold": hold_run,
    "remove": remove_run,
    "tag": tag_run,
    "note": note_run,
    "name": name_run,
    "undo": undoing.undo_last,
    "edit": edit_run,
    "clone": clone_run,
    "start_now": start_now,
    "sql": open_sql,
    "read": read_run,
    "new_run": new_run,
    "data": open_data,
    "show_examples": open_examples,
    "fix": open_fix,
    "compare": open_comparison,
    "help": open_help,
    "theme": change_theme,
    "back": go_back,
    "suspend": suspend,
    "quit": leave,
}
