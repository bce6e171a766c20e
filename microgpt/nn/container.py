"""Modules made of modules."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from microgpt.errors import InputTypeError
from microgpt.nn.module import Module


class ModuleList(Module):
    """Modules in a list; its parameters are theirs.

    Example:
        >>> import microgpt as mg
        >>> len(mg.nn.ModuleList([mg.nn.ReLU(), mg.nn.ReLU()]))
        2
    """

    def __init__(self, modules: Iterable[Module] = ()) -> None:
        super().__init__()
        for module in modules:
            self.append(module)

    def append(self, module: Module) -> None:
        """Add a module at the end."""
        if not isinstance(module, Module):
            raise InputTypeError(
                f"{type(self).__name__} holds modules; got a {type(module).__name__} (a function "
                "can be called in forward() instead)"
            )
        self._modules[str(len(self._modules))] = module

    def __len__(self) -> int:
        return len(self._modules)

    def __iter__(self) -> Iterator[Module]:
        return iter(self._modules.values())

    def __getitem__(self, place: int) -> Module:
        return list(self._modules.values())[place]


class Sequential(ModuleList):
    """Modules one after the other: the output of each is the input of the next.

    Example:
        >>> import microgpt as mg
        >>> mg.nn.Sequential(mg.nn.Linear(4, 3), mg.nn.ReLU(), mg.nn.Linear(3, 2))
        Sequential()  23 parameters
          0: Linear(4, 3)  15 parameters
          1: ReLU()
          2: Linear(3, 2)  8 parameters
    """

    def __init__(self, *modules: Module) -> None:
        super().__init__(modules)

    def forward(self, x: Any) -> Any:
        """Through all modules in turn."""
        for module in self._modules.values():
            x = module(x)
        return x
