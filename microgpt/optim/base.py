"""What all optimizers share: groups of parameters, their state, and saving it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from operator import is_
from typing import Any

import numpy as np

from microgpt.errors import CheckpointError, InputError, InputTypeError
from microgpt.optim.joined import LARGEST, Joined, Plan, alike
from microgpt.plugins import registry
from microgpt.tensor import Tensor

Group = dict[str, Any]


class Optimizer:
    """Base class: subclasses define `_update`.

    Args:
        params: tensors, or dicts with ``params`` and settings of their own.
        defaults: settings of the groups that have none of their own.

    Raises:
        InputError: if there are no parameters, or one appears twice.
        InputTypeError: if something is no leaf tensor.
    """

    _together = False
    """Whether small parameters are stepped in one array: `_update` must treat every element for
    itself, and be of so many calls that joining and parting cost less (Adam's does, SGD's not)."""

    _remembered: tuple[str, ...] | None = None
    """Names of what `_update` remembers of a parameter, all of them or none; None: not known."""

    def __init__(self, params: Iterable[Any], defaults: Mapping[str, Any]) -> None:
        items = list(params)
        if not items:
            raise InputError(
                f"{type(self).__name__} got no parameters (a generator that was used up? "
                "model.parameters() gives a list)"
            ).about("no-parameters")
        groups = items if isinstance(items[0], dict) else [{"params": items}]
        self.param_groups: list[Group] = []
        self.defaults = dict(defaults)
        self._state: list[dict[str, Any]] = []
        self._joined: dict[int, Joined] = {}
        self._plans: list[Plan] = []
        for group in groups:
            self.add_param_group(group)

    def add_param_group(self, group: Mapping[str, Any]) -> None:
        """Train further parameters: layers that were frozen so far, say.

        Make schedules afterwards: they have one initial rate for each group.

        Args:
            group: ``params``, one tensor or several, and settings where they differ from the
                optimizer's.

        Raises:
            InputError: if a setting is unknown or out of range, or a parameter appears twice.
            InputTypeError: if something is no leaf tensor.

        Example:
            >>> import microgpt as mg
            >>> a, b = (mg.tensor([1.0], requires_grad=True) for _ in range(2))
            >>> optimizer = mg.optim.SGD([a], lr=0.1)
            >>> optimizer.add_param_group({"params": [b], "lr": 0.2})
            >>> [group["lr"] for group in optimizer.param_groups]
            [0.1, 0.2]
        """
        name = type(self).__name__
        unknown = set(group) - {"params"} - set(self.defaults)
        if unknown or "params" not in group:
            raise InputError(
                f"a group of {name} has params and may have {', '.join(self.defaults)}; got "
                f"{', '.join(sorted(group))}"
            )
        given = group["params"]
        tensors = [given] if isinstance(given, Tensor) else list(given)
        seen = set(map(id, self._parameters()))
        for p in tensors:
            if not isinstance(p, Tensor) or not p.is_leaf:
                raise InputTypeError(
                    f"{name} changes leaf tensors; got {type(p).__name__}"
                    + (f" made by '{p._edge.op.name}'" if isinstance(p, Tensor) else "")  # pyright: ignore
                )
            if id(p) in seen:
                raise InputError(f"{name}: a parameter of shape {p.shape} appears twice")
            seen.add(id(p))
        made = {**self.defaults, **group, "params": tensors}
        self._check(made)
        self._part()
        self._plans.append(self._planned(tensors, len(self._state)))
        self._state += [{} for _ in tensors]
        self.param_groups.append(made)

    def _check(self, group: Group) -> None:
        """Complain about settings out of range."""
        if not group["lr"] >= 0:
            raise InputError(f"{type(self).__name__}: lr must be >= 0; got {group['lr']}")
        if not group["weight_decay"] >= 0:
            raise InputError(
                f"{type(self).__name__}: weight_decay must be >= 0; got {group['weight_decay']}"
            )

    def _planned(self, params: list[Tensor], place: int) -> Plan:
        """Which parameters of a group are stepped alone, and which together.

        `place` is the number of the first.
        """
        plan = Plan([], [], [], tuple(params))
        for number, p in enumerate(params, place):
            if self._together and p.size <= LARGEST:
                plan.small.append(p)
                plan.places.append(number)
            else:
                plan.large.append((p, number))
        return plan

    def _unchanged(self) -> bool:
        """Whether the groups have the parameters that they were made with."""
        if len(self.param_groups) != len(self._plans):
            return False
        for group, plan in zip(self.param_groups, self._plans, strict=True):
            params = group["params"]
            if len(params) != len(plan.all) or not all(map(is_, params, plan.all)):
                return False
        return True

    def _parameters(self) -> list[Tensor]:
        return [p for group in self.param_groups for p in group["params"]]

    def zero_grad(self) -> None:
        """Forget the gradients of all parameters."""
        for group in self.param_groups:
            for p in group["params"]:
                if p._edge is not None:
                    p._edge.grad = None

    def step(self) -> None:
        """Change every parameter that has a gradient.

        Values are replaced, never overwritten: arrays handed out earlier keep their numbers, and
        a backward pass that still needs the old values notices.

        Raises:
            InputError: if the parameters of a group were changed by hand.
        """
        if not self._unchanged():
            raise InputError(
                f"the parameters in {type(self).__name__}.param_groups were changed by hand; "
                "required: those it was made with; more of them come with add_param_group, others "
                "with a new optimizer"
            )
        for number, (group, plan) in enumerate(zip(self.param_groups, self._plans, strict=True)):
            for p, place in plan.large:
                edge: Any = p._edge
                if edge is not None and edge.grad is not None:
                    p._data = edge.data = self._update(
                        p._data, edge.grad._data, group, self._state[place]
                    )
            params, places = plan.small, plan.places
            edges: list[Any] = [p._edge for p in params]
            there = [i for i, e in enumerate(edges) if e is not None and e.grad is not None]
            if len(there) < len(params):
                params, places = [params[i] for i in there], [places[i] for i in there]
                edges = [edges[i] for i in there]
            if params:
                self._step_small(number, group, places, params, [e.grad._data for e in edges])

    def _step_small(
        self, number: int, group: Group, places: list[int], params: list[Tensor], grads: list[Any]
    ) -> None:
        """Change the small parameters of a group, in one array if they are alike."""
        joined = self._joined.get(number)
        if joined is None or joined.places != places:
            self._part()
            entries = [self._state[i] for i in places]
            if len(params) < 2 or not alike(params, entries):
                for p, grad, entry in zip(params, grads, entries, strict=True):
                    p._data = p._edge.data = self._update(p._data, grad, group, entry)  # pyright: ignore
                return
            joined = self._joined[number] = Joined(places, params, entries)
        values = self._update(joined.joined_values(params), joined.join(grads), group, joined.state)
        joined.hand_out(params, values)

    def _part(self) -> None:
        """What is remembered of joined parameters, apart again."""
        for joined in self._joined.values():
            for place, entry in zip(joined.places, joined.entries(), strict=True):
                self._state[place] = entry
        self._joined.clear()

    @property
    def state(self) -> list[dict[str, Any]]:
        """What is remembered for each parameter: raw backend arrays and numbers."""
        self._part()
        return self._state

    @state.setter
    def state(self, entries: list[dict[str, Any]]) -> None:
        self._joined.clear()
        self._state = entries

    def _update(self, value: Any, grad: Any, group: Group, state: dict[str, Any]) -> Any:
        """The new value of one parameter; raw arrays in and out."""
        raise InputTypeError(f"{type(self).__name__} defines no _update()")

    # ---- state -------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Settings of each group, and for each parameter its state as NumPy arrays and numbers."""
        groups = [{k: v for k, v in g.items() if k != "params"} for g in self.param_groups]
        state = [
            {k: _host(v) if hasattr(v, "shape") else v for k, v in entry.items()}
            for entry in self.state
        ]
        return {"class": type(self).__name__, "groups": groups, "state": state}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on with the settings and the state of an optimizer for the same parameters.

        Raises:
            CheckpointError: if the state is of another optimizer, or groups or shapes are others;
                then nothing has been changed.
        """
        name = type(self).__name__
        if not {"groups", "state"} <= state.keys():
            raise CheckpointError(f"the state of {name} has 'groups' and 'state'; got {[*state]}")
        if state.get("class", name) != name:
            raise CheckpointError(f"the state is of {state['class']}; this optimizer is {name}")
        groups, entries = state["groups"], state["state"]
        parameters = self._parameters()
        if len(groups) != len(self.param_groups) or len(entries) != len(parameters):
            raise CheckpointError(
                f"the state is of {len(groups)} groups and {len(entries)} parameters; this "
                f"{name} has {len(self.param_groups)} and {len(parameters)}"
            )
        for group in groups:
            if not self.defaults.keys() <= group.keys():
                raise CheckpointError(
                    f"the state has the settings {', '.join(group)}; required by {name}: "
                    f"{', '.join(self.defaults)}"
                )
        loaded = []
        for i, (p, entry) in enumerate(zip(parameters, entries, strict=True)):
            if entry and self._remembered is not None and {*entry} != {*self._remembered}:
                raise CheckpointError(
                    f"the state of parameter {i} has {', '.join(entry)}; {name} remembers "
                    f"{', '.join(self._remembered)}"
                )
            fresh = {}
            for key, value in entry.items():
                if isinstance(value, np.ndarray):
                    if value.shape != p.shape:
                        raise CheckpointError(
                            f"state '{key}' of parameter {i} has shape {value.shape}; required: "
                            f"{p.shape}"
                        )
                    backend = registry.backend_of(p._data)
                    value = backend.asarray(value, None, backend.device(p._data))
                fresh[key] = value
            loaded.append(fresh)
        self.state = loaded
        for own, group in zip(self.param_groups, groups, strict=True):
            own.update({k: tuple(v) if isinstance(v, list) else v for k, v in group.items()})

    def __repr__(self) -> str:
        settings = ", ".join(f"{k}={v}" for k, v in self.param_groups[0].items() if k != "params")
        return f"{type(self).__name__}({settings})"


def _host(raw: Any) -> np.ndarray:
    return np.array(registry.backend_of(raw).to_numpy(raw))
