"""Data sets and batches: small sets come along, large ones are fetched once and checked."""

from microgpt.data.digits import digits
from microgpt.data.images import resize
from microgpt.data.loader import Batches, batches
from microgpt.data.mnist import mnist
from microgpt.data.remote import FILES, RemoteFile, fetch
from microgpt.data.sets import Dataset

__all__ = [
    "FILES",
    "Batches",
    "Dataset",
    "RemoteFile",
    "batches",
    "digits",
    "fetch",
    "mnist",
    "resize",
]
