"""Data sets and batches: small sets come along, large ones are fetched once and checked."""

from microgpt.data.audio import frames, read_wav, unframe, write_wav
from microgpt.data.digits import digits
from microgpt.data.glove import WordVectors, glove
from microgpt.data.images import resize
from microgpt.data.loader import Batches, batches
from microgpt.data.mel import log_mel, mel_filters
from microgpt.data.mnist import mnist
from microgpt.data.names import names
from microgpt.data.pairs import english_chinese
from microgpt.data.patches import patchify, unpatchify
from microgpt.data.records import Documents, Pairs, Recordings, Sequences, Text, pad
from microgpt.data.remote import FILES, RemoteFile, fetch
from microgpt.data.sentiment import sentiment_ratings, sentiment_words
from microgpt.data.sets import Dataset
from microgpt.data.speech import spoken_digits
from microgpt.data.texts import python_docs, tiny_shakespeare
from microgpt.data.tokens import (
    DocumentBatches,
    TokenBatches,
    document_batches,
    split,
    token_batches,
)
from microgpt.data.translation import Translations, alignment, exact_match, translation
from microgpt.data.vowels import japanese_vowels

__all__ = [
    "FILES",
    "Batches",
    "Dataset",
    "DocumentBatches",
    "Documents",
    "Pairs",
    "Recordings",
    "RemoteFile",
    "Sequences",
    "Text",
    "TokenBatches",
    "Translations",
    "WordVectors",
    "alignment",
    "batches",
    "digits",
    "document_batches",
    "english_chinese",
    "exact_match",
    "fetch",
    "frames",
    "glove",
    "japanese_vowels",
    "log_mel",
    "mel_filters",
    "mnist",
    "names",
    "pad",
    "patchify",
    "python_docs",
    "read_wav",
    "resize",
    "sentiment_ratings",
    "sentiment_words",
    "split",
    "spoken_digits",
    "tiny_shakespeare",
    "token_batches",
    "translation",
    "unframe",
    "unpatchify",
    "write_wav",
]
