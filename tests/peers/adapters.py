"""All adapters, by the name of PyTorch's op (name:variant where it has variants)."""

from __future__ import annotations

from tests.peers.comparison import Adapter
from tests.peers.elementwise import ELEMENTWISE
from tests.peers.moving import MOVING
from tests.peers.network import NETWORK
from tests.peers.reducing import REDUCING

ADAPTERS: dict[str, Adapter] = {**ELEMENTWISE, **REDUCING, **MOVING, **NETWORK}
