"""`microgpt backends`: what each backend offers, and which plugin computes what on it."""

from __future__ import annotations

from typing import Any

from microgpt import config
from microgpt.backend import Backend
from microgpt.cli.text import fields, table
from microgpt.ops.table import TABLE, Op, by_name
from microgpt.plugins import Server, registry


def survey() -> tuple[dict[str, Backend], dict[str, str]]:
    """All backends: those that work, and for each of the others the reason why it does not."""
    works: dict[str, Backend] = {}
    reasons: dict[str, str] = {}
    for name in registry.installed_backends():
        try:
            works[name] = registry.backend(name)
        except Exception as error:
            reasons[name] = str(error)
    return works, reasons | {n: r for n, r in registry.broken.items() if n not in works}


def devices_of(backend: Backend) -> str:
    """Its devices, or why they cannot be listed: that happens with drivers."""
    try:
        return ", ".join(backend.devices()) or "none"
    except Exception as error:
        return f"cannot be listed: {error}"


def kernel_names(op: Op) -> list[str]:
    """The names under which plugins may supply kernels for `op`."""
    return [op.name, f"{op.name}_saving", f"{op.name}_vjp"] if op.body is not None else [op.name]


def served(op: Op, backend: str) -> str:
    """Who computes `op` on `backend`: a plugin, or the op's own definition, or nobody (-)."""
    plugin = registry.server_of(backend, op.name)
    if plugin is not None:
        return plugin
    return "-" if op.body is None and op.compute is None else "definition"


def ways(backend: Backend) -> list[tuple[str, str]]:
    """How `backend` computes the ops, where it tells and no other plugin computes them."""
    own = registry.maker_of(backend.name)
    served_here = [op for op in TABLE if registry.server_of(backend.name, op) == own]
    return [(op, how) for op in served_here if (how := backend.how(op))]


def overrides(backend: str) -> list[tuple[str, list[Server]]]:
    """Kernels that come from another plugin than the one that brought the backend."""
    found = []
    for op in TABLE.values():
        for name in kernel_names(op):
            servers = registry.servers(backend, name)
            if servers and servers[0].plugin != registry.maker_of(backend):
                found.append((name, servers))
    return found


def show_backends(every_op: bool = False) -> None:
    """Print what each backend offers, the overridden kernels, and with `every_op` all servers."""
    works, reasons = survey()
    rows = []
    chosen = config.get("backend")
    for name, backend in works.items():
        kernels = sum(registry.server_of(name, op.name) is not None for op in TABLE.values())
        status = "ready, default" if name == chosen else "ready"
        rows.append(
            (
                name,
                status,
                f"{kernels} of {len(TABLE)}",
                devices_of(backend),
                " ".join(map(str, backend.dtypes)),
            )
        )
    print(table(("backend", "status", "kernels", "devices", "dtypes"), rows))
    if reasons:
        print("\nCannot be used")
        print(fields(sorted(reasons.items())))
    print()
    _show_plugins()
    lines = [
        (backend, name, servers[0].plugin, ", ".join(s.plugin for s in servers[1:]) or "-")
        for backend in works
        for name, servers in overrides(backend)
    ]
    if lines:
        print("\nOverridden kernels")
        print(table(("backend", "kernel", "computed by", "instead of"), lines))
    if every_op:
        for name, backend in works.items():
            told = ways(backend)
            if told:
                print(f"\nHow '{name}' computes what")
                print(fields(told))
        print("\nWho computes what (definition: the op's own, made of other ops)")
        rows = [(op.name, *[served(op, name) for name in works]) for op in TABLE.values()]
        print(table(("op", *works), rows))


def _show_plugins() -> None:
    names = registry.plugin_names()
    print(f"Plugins in use: {', '.join(names)}")
    idle = [p for p in registry.idle_plugins() if p not in registry.broken]
    if idle:
        print(
            f"Installed, not in use: {', '.join(idle)} (to use one, add it to the setting "
            f"'plugins', or MICROGPT_PLUGINS={idle[0]})"
        )


def show_op(name: str) -> None:
    """Print who could compute one op, the one who does first."""
    op = by_name(name)
    works, _ = survey()
    rows = []
    for backend in works:
        for kernel_name in kernel_names(op):
            servers = registry.servers(backend, kernel_name)
            for i, server in enumerate(servers):
                use = "in use" if i == 0 else "overridden"
                rows.append((backend, kernel_name, server.plugin, use, where(server.kernel)))
            if not servers and kernel_name == op.name:
                own = op.body or op.compute
                use = "in use" if own else "no kernel"
                rows.append((backend, name, "-", use, f"definition, {where(own)}" if own else "-"))
    print(f"{op.name}: {op.doc}\n")
    print(table(("backend", "kernel", "plugin", "", "function"), rows))
    told = [
        (name, kernel_name, how)
        for name, backend in works.items()
        for kernel_name in kernel_names(op)
        if (how := backend.how(kernel_name))
    ]
    if told:
        print()
        print(table(("backend", "kernel", "computed by"), told))


def where(kernel: Any) -> str:
    """Module and name of a function."""
    module = getattr(kernel, "__module__", None) or type(kernel).__module__
    name = getattr(kernel, "__qualname__", None) or getattr(kernel, "__name__", None)
    code = getattr(kernel, "__code__", None)
    line = f", line {code.co_firstlineno}" if code is not None else ""
    return f"{module}.{name or type(kernel).__name__}{line}"
