# %% [markdown]
# # Solutions for chapter 8: nearly perpendicular vectors

# %%
import math

import numpy as np

import microgpt as mg
from microgpt.learn import start

lesson = start("Chapter 8, solutions: nearly perpendicular vectors")
lesson.uses("random vectors, and the word vectors that come with microgpt")


def normalised(v):
    """Every row of v, (n, d), at length 1."""
    return v / mg.sqrt(mg.sum(v * v, axis=1, keepdims=True))


def dot_products(v):
    """v·w of every pair of rows, each pair once."""
    return (v @ v.mT).numpy()[np.triu_indices(v.shape[0], 1)]


def welch(n, d):
    """No n unit vectors in d dimensions have a smaller root mean square dot product."""
    return math.sqrt((n - d) / (d * (n - 1)))


# %% [markdown]
# ## 1. The squared cost
#
# Squares punish one large error more than many small ones, so coinciding pairs do not pay. The
# sum of the squares is exactly what the Welch bound is about, and gradient descent reaches it.

# %%
n, d = 300, 30
v = mg.randn(n, d, generator=lesson.generator(), requires_grad=True)
optimizer = mg.optim.Adam([v], lr=0.05)
for _ in lesson.progress(range(150), "squared cost"):
    u = normalised(v)
    cost = mg.mean(mg.square(u @ u.mT))
    optimizer.zero_grad()
    cost.backward()
    optimizer.step()
dots = dot_products(normalised(v.detach()))
rms = math.sqrt(np.mean(dots.astype(np.float64) ** 2))
print(f"root mean square {rms:.5f}, bound {welch(n, d):.5f}; largest {np.abs(dots).max():.2f}")
lesson.check("root mean square over the bound", rms / welch(n, d), at_least=1 - 1e-5, at_most=1.01)
lesson.check("pairs with |v·w| above 0.9", int((np.abs(dots) > 0.9).sum()), equals=0)

# %% [markdown]
# No copies, and the mean is perfect. The worst pair, though, is about as bad as by chance: this
# cost does not care about it.
#
# ## 2. Word vectors
#
# The embeddings of words share a direction: all words have something in common (being frequent
# words of news and encyclopedias, say). Two random words are not perpendicular but lean the same
# way. Without the mean vector the angles centre on 90°, but spread wider than those of random
# vectors in 50 dimensions: words have relatives, random vectors have none.

# %%
words = mg.data.glove()
rows = mg.tensor(words.vectors[: lesson.pick(4000, 1500)])
raw = dot_products(normalised(rows))
centred = dot_products(normalised(rows - mg.mean(rows, axis=0, keepdims=True)))
for name, dots in (("as they are", raw), ("without the mean", centred)):
    angles = np.degrees(np.arccos(np.clip(dots, -1, 1)))
    print(f"{name}: {angles.mean():.1f}° ± {angles.std():.1f}°")
lesson.check("as they are: mean dot product", raw.mean(), above=0.1)
lesson.check("without the mean: mean dot product", centred.mean(), near=0.0, within=0.05)
lesson.check("spread, over that of chance", centred.std() * math.sqrt(50), above=1.1)

# %% [markdown]
# ## 3. Lines in the plane
#
# n lines through one point, evenly spaced, stand 180°/n apart: the closest pair has the dot product
# cos(180°/n). For three lines that is cos 60° = ½, and the Welch bound is √(1/4) = ½, too: no
# three lines do better. For four it is cos 45° = 0.71, while the bound says 0.58, and no
# four lines reach it.

# %%
for number in (3, 4):
    turn = np.pi * np.arange(number) / number
    lines = mg.tensor(np.stack([np.cos(turn), np.sin(turn)], axis=1), dtype="float64")
    worst = np.abs(dot_products(lines)).max()
    print(f"{number} lines: worst {worst:.3f}, bound {welch(number, 2):.3f}")
    if number == 3:
        lesson.check("3 lines: worst - bound", worst - welch(3, 2), near=0, within=1e-12)
    else:
        lesson.check("4 lines: worst - bound", worst - welch(4, 2), above=0.1)

# %%
lesson.finish()
