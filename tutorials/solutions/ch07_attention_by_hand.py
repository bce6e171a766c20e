# %% [markdown]
# # Solutions to chapter 7: attention, built by hand

# %%
import math

import numpy as np

import microgpt as mg
from microgpt.learn import start

lesson = start("Chapter 7, solutions: attention, by hand")
lesson.uses("one sentence of eight words, and generated numbers")
EXACT = "float64"
generator = lesson.generator()

# %% [markdown]
# ## 1. Twice as much
#
# Softmax turns a difference of scores into a ratio of weights: eᵃ / eᵇ = eᵃ⁻ᵇ. Twice as much is a
# difference of ln 2 = 0.69, wherever the two scores lie: adding the same number to all changes
# nothing.

# %%
scores = mg.tensor([0.0, math.log(2)], dtype=EXACT)
low, high = mg.softmax(scores, axis=0), mg.softmax(scores + 16, axis=0)
lesson.check("blue : fluffy", low[1] / low[0], near=2, within=1e-12)
lesson.check("the same 16 higher, difference", mg.max(abs(low - high)), below=1e-12)

# %% [markdown]
# ## 2. Two layers
#
# We need no vectors for this, only who looks at whom. In the lesson *creature* takes 0.42 from
# *fluffy* and 0.58 from *blue*, *forest* takes from *verdant*, *roamed* from *creature*. A layer
# adds to each word what its heads bring. (A word that looks at itself adds itself.)

# %%
WORDS = ["a", "fluffy", "blue", "creature", "roamed", "the", "verdant", "forest"]
index = {word: i for i, word in enumerate(WORDS)}
adjectives = np.eye(8)  # rows are queries; words without a question look at themselves
adjectives[index["creature"]] = 0.42 * np.eye(8)[1] + 0.58 * np.eye(8)[2]
adjectives[index["forest"]] = np.eye(8)[index["verdant"]]
subject = np.eye(8)
subject[index["roamed"]] = np.eye(8)[index["creature"]]

# Meanings: number i says how much of word i is in a vector; each head passes on what it is for.
says = np.diag([0.0, 1, 1, 0, 0, 0, 1, 0]), np.diag([0.0, 1, 1, 1, 0, 0, 1, 1])


def layer(x):
    """Both heads, and what came in."""
    first = mg.tensor(adjectives, dtype=EXACT) @ x @ mg.tensor(says[0], dtype=EXACT)
    second = mg.tensor(subject, dtype=EXACT) @ x @ mg.tensor(says[1], dtype=EXACT)
    return x + first + second


x = mg.eye(8, dtype=EXACT)
once, twice = layer(x), layer(layer(x))
for name, state in (("one layer", once), ("two layers", twice)):
    meant = {w: round(m, 2) for w, m in zip(WORDS, state[4].tolist(), strict=True) if m}
    print(f"   roamed after {name}: {meant}")
lesson.check("blue in roamed after one layer", once[4, index["blue"]], equals=0.0)
lesson.check("blue in roamed after two", twice[4, index["blue"]], above=0.5)

# %% [markdown]
# ## 3. Rotary positions
#
# A rotation by an angle that grows with the place: between two words only the difference of the
# angles is left. Shift both by ten places, and the score is the same.

# %%
turn = mg.nn.RotaryEmbedding(16)
q, k = (mg.randn(1, 16, generator=generator, dtype=EXACT) for _ in range(2))


def score(place_q: int, place_k: int) -> float:
    """The dot product of q and k turned to their places."""
    return (turn(q, offset=place_q) @ turn(k, offset=place_k).T).item()


lesson.check("score at 3, 1 - score at 13, 11", abs(score(3, 1) - score(13, 11)), below=1e-12)
lesson.check("score at 3, 1 - score at 13, 1", abs(score(3, 1) - score(13, 1)), above=1e-6)

# %% [markdown]
# ## 4. The gradient of a softmax that has made up its mind
#
# The gradient of a weight p by its own score is p(1 - p): 0 at both ends. Scores of size 11 leave
# a small part of what scores of size 1 give. The training would hardly learn where to look.

# %%
raw = mg.randn(200, 16, generator=generator, dtype=EXACT) * math.sqrt(128)


def slope(scores) -> float:
    """How strongly weights react to their own scores, on average."""
    p = mg.softmax(scores, axis=-1)
    return mg.mean(p * (1 - p)).item()


small, large = slope(raw), slope(raw / math.sqrt(128))
print(f"   undivided {small:.4f}, divided {large:.4f}")
# Over seeds 1–5: 0.16–0.22.
lesson.check("gradient, undivided : divided", small / large, below=0.4)

# %%
lesson.finish()
