"""The GPT of `gpt_peers` in tinygrad, as its users write it: nn modules, AdamW and TinyJit.

Two of its devices compute on a processor: CPU, for which it writes C and has Clang compile it, and
CL, for which it writes OpenCL C. Its settings are left as they come: no search for faster kernels
(its BEAM), which takes minutes per model.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

from benchmarks.gpt_peers import Size, Step, tokens
from benchmarks.measure import PeerMissing


def tinygrad_step(size: Size, device: str) -> Step:
    """A training step on tinygrad's device CPU or CL.

    Raises:
        PeerMissing: if that device does not work here.
    """
    _prepare(device)
    from tinygrad import Context, Tensor, TinyJit, nn

    class Block:
        def __init__(self) -> None:
            c = size.width
            self.norm1, self.norm2 = nn.LayerNorm(c), nn.LayerNorm(c)
            self.project, self.gather = nn.Linear(c, 3 * c), nn.Linear(c, c)
            self.up, self.down = nn.Linear(c, 4 * c), nn.Linear(4 * c, c)

        def __call__(self, x: Any) -> Any:
            n, t, c = x.shape
            split = self.project(self.norm1(x)).reshape(n, t, 3, size.heads, c // size.heads)
            q, k, v = (part.squeeze(0) for part in split.permute(2, 0, 3, 1, 4).split(1))
            mixed = q.scaled_dot_product_attention(k, v, is_causal=True)
            x = x + self.gather(mixed.transpose(1, 2).reshape(n, t, c))
            return x + self.down(self.up(self.norm2(x)).gelu())

    class GPT:
        def __init__(self) -> None:
            self.tokens = nn.Embedding(size.vocabulary, size.width)
            self.places = nn.Embedding(size.context, size.width)
            self.blocks = [Block() for _ in range(size.layers)]
            self.norm = nn.LayerNorm(size.width)

        def __call__(self, ids: Any) -> Any:
            x = self.tokens(ids) + self.places.weight[: ids.shape[1]]
            for block in self.blocks:
                x = block(x)
            return self.norm(x) @ self.tokens.weight.transpose()

    with Context(DEV=device, TRAINING=1):
        model = GPT()
        optimizer = nn.optim.AdamW(nn.state.get_parameters(model), lr=1e-3)
        ids, targets = (Tensor(x.astype("int32")).realize() for x in tokens(size))

    @TinyJit
    def update(ids: Any, targets: Any) -> Any:
        optimizer.zero_grad()
        loss = model(ids).sparse_categorical_crossentropy(targets).backward()
        return loss.realize(*optimizer.schedule_step())

    def step() -> float:
        with Context(DEV=device, TRAINING=1):
            return update(ids, targets).item()

    return step


def _prepare(device: str) -> None:
    """Let tinygrad find the compiler or the driver that the device needs.

    Raises:
        PeerMissing: if there is none.
    """
    if device == "CPU" and shutil.which(os.environ.get("CC", "clang")) is None:
        raise PeerMissing("it needs Clang (the variable CC says where it is)")
    if device == "CL":
        # It ends in a crash where there is no driver, and takes the loader of the system only.
        # pyopencl brings a loader and PoCL, which find each other once it is imported.
        try:
            import pyopencl
        except ImportError:
            raise PeerMissing("it needs an OpenCL driver; pyopencl brings one") from None
        if not pyopencl.get_platforms():
            raise PeerMissing("there is no OpenCL driver")
        for loader in Path(str(pyopencl.__file__)).parent.glob(".libs/libOpenCL*"):
            os.environ.setdefault("OPENCL_PATH", str(loader))
