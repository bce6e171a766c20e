"""Networks, each readable from top to bottom."""

from microgpt.models.cnn import CNN
from microgpt.models.generation import Sampler
from microgpt.models.gpt import GPT
from microgpt.models.gpt_config import GPTConfig
from microgpt.models.lstm import CharLSTM, LSTMClassifier
from microgpt.models.mlp import MLP
from microgpt.models.seq2seq import Seq2Seq
from microgpt.models.word2vec import SkipGram, skip_gram_batches

__all__ = [
    "CNN",
    "CharLSTM",
    "GPT",
    "GPTConfig",
    "LSTMClassifier",
    "MLP",
    "Sampler",
    "Seq2Seq",
    "SkipGram",
    "skip_gram_batches",
]
