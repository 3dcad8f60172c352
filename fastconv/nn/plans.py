"""The plans of one layer: decided for each shape that comes, weights packed once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastconv import planning, tuning
from fastconv.calls import Call
from fastconv.planning import Plan


class Plans:
    """A bounded table of plans for the weights that a layer has now.

    Each shape gets the backend that `fastconv.plan` would give it, so that results do not depend on the calls
    before; plans of the same backend and algorithm share their packed weights. There is no lock that a fork could
    leave closed: two threads that bring the same new shape at once may both plan it, and one plan is kept.
    """

    def __init__(self) -> None:
        self._plans: dict[Any, Plan] = {}

    def get(self, key: Any, make: Callable[[], Call]) -> Plan:
        """The plan kept under ``key``, or one for the call that ``make`` returns."""
        plan = self._plans.get(key)
        if plan is None:
            kept = list(self._plans.items())
            plan = _share([other for _, other in kept], make())
            for oldest, _ in kept[: max(len(kept) + 1 - tuning.NN_PLANS, 0)]:
                self._plans.pop(oldest, None)
            self._plans[key] = plan
        return plan


def _share(plans: list[Plan], call: Call) -> Plan:
    """A plan for ``call``, with the packed weights of one of ``plans`` where they are the same."""
    row = planning.decide(call.request(), call.backend, once=False)
    for plan in plans:
        alike = len(plan.x_shape) == len(call.x_shape) and plan.spec.spare == call.spec.spare
        if alike and (plan.backend, plan.algorithm) == (row.backend, row.algorithm):
            return plan.for_shape(call.x_shape)
    return call.plan(borrow=False)
