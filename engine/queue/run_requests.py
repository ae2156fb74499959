"""What clients ask of single runs: the actions of the daemon that the queue answers."""

from __future__ import annotations

from typing import Any

from engine.queue.money import forget_cost, keep_cost
from engine.queue.orders import ORDERS, whole_number
from engine.queue.supervisor import Supervisor
from engine.queue.sweeps import Sweeps
from finetui.home import Home
from store import Projection


class RunRequests:
    """Reads a request and hands it to the queue; what else has to know of it (costs, sweeps) is told here."""

    def __init__(self, home: Home, queue: Supervisor, sweeps: Sweeps, projection: Projection) -> None:
        self._home, self._queue, self._sweeps, self._projection = home, queue, sweeps, projection

    def answer(self, name: str, body: dict[str, Any], by: str | None) -> dict[str, Any] | None:
        """Answer an action; None if it is about no run. `by`: the assistant that asks. Raises QueueError, OSError."""
        queue, was = self._queue, self._before(name, body)
        match name:
            case "submit":
                number = queue.submit(body, by)
                self._sweeps.note(body.get("sweep"), body.get("sweep_values"))
                return {"run": number}
            case "edit":
                number = whole_number(name, body, "run")
                return queue.edit(number, {key: value for key, value in body.items() if key != "run"})
            case "requeue":
                return {"run": queue.requeue(whole_number(name, body, "run"), by)}
            case "cancel":
                state = queue.cancel(number := whole_number(name, body, "run"), body.get("cause"), by)
                return {"state": state, **queue.before_end(number), **was}
            case "pause":
                state = queue.pause(number := whole_number(name, body, "run"), by=by)
                return {"state": state, **queue.before_end(number), **was}
            case "resume":
                return {"state": queue.resume(whole_number(name, body, "run")), **was}
            case "put_back":
                run = whole_number(name, body, "run")
                return queue.put_back(run, str(body.get("order")), body.get("before"))
            case "name":
                return queue.rename(whole_number(name, body, "run"), body.get("name"))
            case "remove":
                return queue.remove(whole_number(name, body, "run"), self._keep_cost)
            case "restore":
                restored = queue.restore(run := whole_number(name, body, "run"))
                forget_cost(self._home, run)
                return restored
            case "clean":
                run, best = whole_number(name, body, "run"), body.get("best")
                best = None if best is None else whole_number(name, body, "best")
                return queue.clean(run, best, checkpoints=bool(body.get("checkpoints")))
            case _ if name in ORDERS:
                return {**queue.order(name, whole_number(name, body, "run"), body), **was}
        return None

    def _before(self, name: str, body: dict[str, Any]) -> dict[str, Any]:
        """Return the state of a run before an order, so that the order can be taken back."""
        if name not in ("cancel", "pause", "resume", *ORDERS):
            return {}
        return {"before": self._queue.standing(whole_number(name, body, "run"))}

    def _keep_cost(self, run: int) -> None:
        with self._projection.read() as cursor:
            keep_cost(cursor, self._home, run)
