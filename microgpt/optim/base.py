"""What all optimizers share: groups of parameters, their state, and saving it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
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

    _elementwise = False
    """Whether `_update` treats every element for itself, so that parameters may be joined."""

    def __init__(self, params: Iterable[Any], defaults: Mapping[str, Any]) -> None:
        items = list(params)
        if not items:
            raise InputError(
                f"{type(self).__name__} got no parameters (a generator that was used up? "
                "model.parameters() gives a list)"
            )
        groups = items if isinstance(items[0], dict) else [{"params": items}]
        self.param_groups: list[Group] = []
        self.defaults = dict(defaults)
        seen: set[int] = set()
        for group in groups:
            unknown = set(group) - {"params"} - set(defaults)
            if unknown:
                raise InputError(
                    f"{type(self).__name__} has no setting {', '.join(sorted(unknown))}; there are "
                    f"{', '.join(defaults)}"
                )
            tensors = list(group["params"])
            for p in tensors:
                if not isinstance(p, Tensor) or not p.is_leaf:
                    raise InputTypeError(
                        f"{type(self).__name__} changes leaf tensors; got {type(p).__name__}"
                        + (f" made by '{p._edge.op.name}'" if isinstance(p, Tensor) else "")  # pyright: ignore
                    )
                if id(p) in seen:
                    raise InputError(
                        f"{type(self).__name__}: a parameter of shape {p.shape} appears twice"
                    )
                seen.add(id(p))
            self.param_groups.append({**defaults, **group, "params": tensors})
        self._state: list[dict[str, Any]] = [{} for _ in self._parameters()]
        self._joined: dict[int, Joined] = {}
        self._plans = self._planned()
        for group in self.param_groups:
            self._check(group)

    def _check(self, group: Group) -> None:
        """Complain about settings out of range."""
        if not group["lr"] >= 0:
            raise InputError(f"{type(self).__name__}: lr must be >= 0; got {group['lr']}")
        if not group["weight_decay"] >= 0:
            raise InputError(
                f"{type(self).__name__}: weight_decay must be >= 0; got {group['weight_decay']}"
            )

    def _planned(self) -> list[Plan]:
        """Which parameters of each group are stepped alone, and which together."""
        plans, place = [], 0
        for group in self.param_groups:
            plan = Plan([], [], [])
            for p in group["params"]:
                if self._elementwise and p.size <= LARGEST:
                    plan.small.append(p)
                    plan.places.append(place)
                else:
                    plan.large.append((p, place))
                place += 1
            plans.append(plan)
        return plans

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
        """
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
        return {"groups": groups, "state": state}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on with the settings and the state of an optimizer for the same parameters.

        Raises:
            CheckpointError: if groups or shapes are others.
        """
        groups, entries = state["groups"], state["state"]
        parameters = self._parameters()
        if len(groups) != len(self.param_groups) or len(entries) != len(parameters):
            raise CheckpointError(
                f"the state is of {len(groups)} groups and {len(entries)} parameters; this "
                f"{type(self).__name__} has {len(self.param_groups)} and {len(parameters)}"
            )
        loaded = []
        for i, (p, entry) in enumerate(zip(parameters, entries, strict=True)):
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
