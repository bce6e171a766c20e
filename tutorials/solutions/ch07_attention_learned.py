# %% [markdown]
# # Solutions to chapter 7: what attention learns by itself

# %%
import numpy as np

import microgpt as mg
from microgpt.learn import start

lesson = start("Chapter 7, solutions: attention, learned")
lesson.uses("sentences made up here")
rng = lesson.generator(1)

# %% [markdown]
# ## 1. Without positions
#
# A word then takes the same from the words before it in whatever order they stand, whatever the
# weights: no training can help. The model can learn to look at adjectives, but not at its own.

# %%
words = mg.randn(8, 16, generator=rng, dtype="float64")
order = [*rng.permutation(7).tolist(), 7]  # the last word stays, what is before it is shuffled
if order[:7] == list(range(7)):
    order[:2] = [1, 0]
change = {}
for rotary in (False, True):
    head = mg.nn.MultiHeadAttention(16, 1, rotary=rotary, generator=rng, dtype="float64")
    straight, shuffled = (head(x[None], is_causal=True)[0, 7] for x in (words, words[order]))
    change[rotary] = mg.max(abs(straight - shuffled)).item()
lesson.check("no positions: shuffling changes", change[False], below=1e-12)
lesson.check("rotary: shuffling changes", change[True], above=1e-3)

# %% [markdown]
# ## 2. One layer
#
# The question can find the deed in one step. But in one layer what it collects there is the vector
# of *stabbed* as it came in, the same in every story: the deed has not yet looked at its name. So
# one layer only knows which names occur at all.

# %%
NAMES = DEEDS = 6
PAIRS, STABBED, WAS = 5, 12, 13


def mysteries(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Five pairs of a name and a deed, and the question; the name of the one who stabbed."""
    names = rng.integers(0, NAMES, (n, PAIRS))
    deeds = NAMES + rng.integers(0, DEEDS, (n, PAIRS))
    at = rng.integers(0, PAIRS, n)
    deeds[np.arange(n), at] = STABBED
    pairs = np.stack([names, deeds], axis=2).reshape(n, 2 * PAIRS)
    return np.concatenate([pairs, np.full((n, 1), WAS)], axis=1), names[np.arange(n), at]


def trained(layers: int) -> float:
    """The share of murderers that a GPT of so many layers names."""
    config = mg.models.GPTConfig(
        vocab_size=14, block_size=2 * PAIRS + 1, n_embd=32, n_layer=layers, n_head=2, hidden=64,
        positions="rotary", init_std=0.08,
    )  # fmt: skip
    model = mg.models.GPT(config, generator=lesson.generator(2))
    optimizer = mg.optim.Adam(model.parameters(), lr=0.005)
    for _ in range(200):
        stories, murderers = mysteries(32)
        optimizer.zero_grad()
        mg.cross_entropy(model(stories, last_only=True)[:, 0], murderers).backward()
        optimizer.step()
    stories, murderers = mysteries(500)
    with mg.no_grad():
        logits = model(stories, last_only=True).numpy()[:, 0]
    return float(np.mean(logits.argmax(axis=-1) == murderers))


# Over seeds 1–5: 0.37–0.43, and 1.00.
lesson.check("one layer: murderers found", trained(1), at_most=0.6)
lesson.check("two layers: murderers found", trained(2), at_least=0.9)

# %% [markdown]
# ## 3. The clue comes later
#
# Words only look back. At *bank* nothing of a later *boat* or *loan* can be known, in any layer:
# the vectors are equal to the last digit. At the end of the sentence the meaning is there, and it
# is there that the next word is predicted.

# %%
BANK, RIVER, MONEY, FISH, COINS = 0, 1, 2, 3, 4  # five to nine are filling
sizes = dict(vocab_size=10, block_size=6, n_embd=16, n_layer=1, n_head=2)
config = mg.models.GPTConfig(**sizes, init_std=0.15)
model = mg.models.GPT(config, generator=lesson.generator(3))
optimizer = mg.optim.Adam(model.parameters(), lr=0.01)


def sentences(n: int) -> tuple[np.ndarray, np.ndarray]:
    """bank, filling with a clue somewhere, and a last word that fits it; which meaning it is."""
    money = rng.integers(0, 2, n)
    ids = rng.integers(5, 10, (n, 6))
    ids[:, 0] = BANK
    ids[np.arange(n), rng.integers(1, 4, n)] = np.where(money, MONEY, RIVER)
    ids[:, 5] = np.where(money, COINS, FISH)
    return ids, money


for _ in range(200):
    optimizer.zero_grad()
    model.loss(sentences(64)[0]).backward()
    optimizer.step()

ids, money = sentences(400)
with mg.no_grad():
    state = model(ids, return_hidden=True)[1][1].numpy()


def probe(vectors: np.ndarray) -> float:
    """How often the nearer of the two means is that of the right meaning."""
    means = np.stack([vectors[:200][money[:200] == kind].mean(axis=0) for kind in (0, 1)])
    far = np.linalg.norm(vectors[200:, None] - means, axis=-1)
    return float(np.mean(far.argmin(axis=1) == money[200:]))


lesson.check("at “bank”: vectors differ by", np.ptp(state[:, 0], axis=0).max(), below=1e-5)
lesson.check("before the last word: probe", probe(state[:, 4]), at_least=0.95)

# %%
lesson.finish()
