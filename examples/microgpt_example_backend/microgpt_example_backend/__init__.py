"""A backend for microgpt, written to be read: the backend itself and its three hooks."""

import numpy as np

from microgpt.backend import Backend
from microgpt.errors import BackendError
from microgpt.hooks import hookimpl
from microgpt_example_backend.arrays import Array
from microgpt_example_backend.kernels import KERNELS


class ExampleBackend(Backend):
    """Arrays that are one flat row of numbers and a shape."""

    name = "example"
    array_types = (Array,)
    dtypes = ("float32", "float64", "int32", "int64", "bool")

    def asarray(self, data, dtype, device):
        if device not in (None, *self.devices()):
            raise BackendError(f"backend 'example' has the device 'cpu'; got device={device!r}")
        host = np.array(data, dtype=dtype)
        return Array(host.reshape(-1), host.shape)

    def to_numpy(self, array):
        return array.data.reshape(array.shape)


@hookimpl
def microgpt_backend_names():
    """What `microgpt backends` lists."""
    return ["example"]


@hookimpl
def microgpt_backend(name):
    """The backend, if it is the one asked for."""
    return ExampleBackend() if name == "example" else None


@hookimpl(trylast=True)
def microgpt_kernel(backend, op):
    """Our kernel for `op`; asked last, so that other plugins can replace single kernels."""
    return KERNELS.get(op) if backend == "example" else None
