# %% [markdown]
# # Chapter 2, the cost and gradient descent: solutions

# %%
import numpy as np

import microgpt as mg
from microgpt import Scalar
from microgpt.learn import start

lesson = start("Chapter 2: the cost, and gradient descent, solutions")
lesson.uses("functions, no data")

# %% [markdown]
# ## 1. A world full of ones
#
# The best blind answer is the vector of the shares themselves, here 0.91 for the 1 and 0.01 for
# every other digit, and it costs 1 − Σp² = 0.171. Descent finds both. (With equal shares that is
# 1 − 10·0.1² = 0.9.) A network for rare events looks good by saying "no" every time.

# %%
p = np.full(10, 0.01)
p[1] = 0.91
shares, wishes = mg.tensor(p, dtype="float64"), mg.eye(10, dtype="float64")
c = mg.rand(10, generator=lesson.generator(), dtype="float64", requires_grad=True)
for _ in range(60):
    c.grad = None
    cost = mg.sum(shares * mg.sum((c - wishes) ** 2, axis=1))
    cost.backward()
    c.data = c.data - 0.25 * c.grad
lesson.check("best answer = shares", mg.max(mg.abs(c.detach() - shares)), at_most=1e-12)
lesson.check("its cost", cost, near=1 - (p**2).sum(), within=1e-12)

# %% [markdown]
# ## 2. A ball with momentum
#
# The ball without momentum stops in the right valley. With v ← 0.9·v − η·f'(x) it arrives there
# with speed, rolls over the hill at 0.15, and ends in the deeper valley on the left. This is luck,
# not insight: the ball from the left, at -2.4, is carried out of the deeper valley the same way.


# %%
def valleys(x):
    """Two valleys, the left one deeper."""
    return 0.25 * x**4 - x**2 + 0.3 * x + 2


def descend(x, rate, momentum, steps):
    """Where gradient descent ends."""
    v = 0.0
    for _ in range(steps):
        place = Scalar(x)
        valleys(place).backward()
        v = momentum * v - rate * place.grad
        x += v
    return x


for begin in (2.3, -2.4):
    plain, rolling = descend(begin, 0.08, 0.0, 300), descend(begin, 0.08, 0.9, 300)
    print(f"  from {begin:+.1f}: without momentum to {plain:+.3f}, with momentum to {rolling:+.3f}")
lesson.check("from 2.3 without momentum", descend(2.3, 0.08, 0.0, 300), above=1.0)
lesson.check("from 2.3 with momentum", descend(2.3, 0.08, 0.9, 300), below=-1.0)
lesson.check("from -2.4 with momentum", descend(-2.4, 0.08, 0.9, 300), above=1.0)

# %% [markdown]
# ## 3. The largest step
#
# A step multiplies x by (1 − 3η) and y by (1 − η). The steep direction decides when the path runs
# away: |1 − 3η| > 1 from η = 2/3 on. The best η makes the worse of the two factors small: at
# η = 1/2 they are −1/2 and 1/2. This tug-of-war between a steep and a flat direction is why people
# invented momentum and Adam.


# %%
def distance_after(rate, steps=25):
    """Distance to the bottom of 3/2 x² + ½ y², from (1, 1)."""
    place = mg.tensor([1.0, 1.0], dtype="float64", requires_grad=True)
    for _ in range(steps):
        place.grad = None
        mg.sum(mg.tensor([1.5, 0.5], dtype="float64") * place**2).backward()
        place.data = place.data - rate * place.grad
    return float(np.hypot(*place.numpy()))


rates = [0.05, 0.1, 0.2, 0.3, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.68]
ends = [distance_after(rate) for rate in rates]
for rate, end in zip(rates, ends, strict=True):
    print(f"  η = {rate:<5} distance {end:.2e}")
lesson.check("best η", rates[int(np.argmin(ends))], equals=0.5)
lesson.check("distance at η = ½", min(ends), near=2**0.5 * 0.5**25, within=1e-15)
lesson.check("η = 0.68 runs away", ends[-1], above=2**0.5)

# %% [markdown]
# ## 4. From the sigmoid to the switch
#
# σ(k·z) with a large k looks like a switch. Its derivative k·σ'(k·z) is large in a thin strip
# around z = 0 and practically 0 elsewhere: most weights feel nothing, and the few that feel
# something are thrown far. A switch is the limit of that.

# %%
source = lesson.generator(1)
draws = source.normal(size=(1000, 2))
numb = {}
for k in (1, 10, 100):
    slopes = []
    for w, b in draws:
        weight = Scalar(w)
        ((((weight * 0.8 + b) * k).sigmoid() - 1.0) ** 2).backward()
        slopes.append(abs(weight.grad))
    numb[k] = float(np.mean(np.array(slopes) < 1e-6))
    print(f"  k = {k:<4} slope below 1e-6 in {numb[k]:.1%}, largest slope {max(slopes):.2f}")
lesson.check("numb neurons, k = 1", numb[1], at_most=0.0)
lesson.check("numb neurons, k = 10", numb[10], above=numb[1])
lesson.check("numb neurons, k = 100", numb[100], at_least=0.8)

# %%
lesson.finish()
