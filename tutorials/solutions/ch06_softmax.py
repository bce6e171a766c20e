# %% [markdown]
# # Solutions: softmax with temperature

# %%
import math

import microgpt as mg
from microgpt.learn import start

lesson = start("Solutions to chapter 6: softmax with temperature")

WORDS = ["McGonagall", "tree", "Lupin", "Flitwick", "Snape", "owl", "Trelawney"]
logits = mg.tensor([-0.8, -5.0, 0.5, 1.5, 3.4, -2.3, 2.5], dtype="float64")
SNAPE, FLITWICK = WORDS.index("Snape"), WORDS.index("Flitwick")


def chance(word, temperature):
    """Probability of one word at a temperature above 0."""
    return mg.softmax(logits / temperature)[word].item()


# %% [markdown]
# ## 1. One half
#
# The probability of the favourite only falls as T rises, from 1 to 1/7, so there is exactly one T
# at which it is 1/2. Halving an interval 50 times finds it to the last digits.

# %%
low, high = 0.1, 10.0
for _ in range(50):
    middle = (low + high) / 2
    if chance(SNAPE, middle) > 0.5:
        low = middle
    else:
        high = middle
print(f"Snape has one half at T = {middle:.4f}")
lesson.check("T at which Snape has 1/2", middle, above=1.0, below=2.0)
lesson.check("its probability there", chance(SNAPE, middle), near=0.5, within=1e-12)

# %% [markdown]
# ## 2. The best temperature for the third
#
# Cold, Snape leaves it nothing; hot, it must share with all. In between there is a best T, and
# even there it stays third. At the top the slope is 0: the expected logit Σ p·z, which falls from
# 3.4 to the mean as T rises, passes Flitwick's own 1.5 at that very T.

# %%
temperatures = [0.5 + 0.001 * i for i in range(9_500)]
table = mg.softmax(logits / mg.tensor(temperatures, dtype="float64").reshape(-1, 1))  # (T, words)
row = mg.argmax(table[:, FLITWICK]).item()
best, top = temperatures[row], table[row, FLITWICK].item()
print(f"Flitwick is likeliest at T = {best:.3f}, with {top:.4f}")
lesson.check("best T for Flitwick", best, above=2.0, below=5.0)
ahead = (table[row] > top).sum()
lesson.check("words still ahead of it", ahead, equals=2)
lesson.check("expected logit there", (table[row] * logits).sum(), near=1.5, within=0.01)

# %% [markdown]
# ## 3. The gradient
#
# The logits' gradient of log p(Snape) is (one-hot - p) / T: the right word is pulled up by what
# it lacks to 1, each other is pushed down by what it has. The sum is 0.

# %%
one_hot = mg.one_hot(mg.tensor(SNAPE), len(WORDS)).astype("float64")
for temperature in (1.0, 2.0):
    z = mg.tensor(logits, requires_grad=True)
    mg.log(mg.softmax(z / temperature)[SNAPE]).backward()
    rule = (one_hot - mg.softmax(logits / temperature)) / temperature
    print(f"T = {temperature}:", " ".join(f"{g:+.3f}" for g in z.grad.tolist()))
    gap = mg.max(mg.abs(z.grad - rule))
    lesson.check(f"gradient = (one-hot - p) / T, T = {temperature:.0f}", gap, at_most=1e-12)
    lesson.check(f"its sum, T = {temperature:.0f}", mg.abs(z.grad.sum()), at_most=1e-12)

# %% [markdown]
# ## 4. Only three words
#
# `top_k=3` keeps the three likeliest words and forgets the others, so that a high temperature
# brings variety without nonsense. The odds between the three stay as they were.

# %%
every = mg.models.Sampler(5).probabilities(logits)
three = mg.models.Sampler(5, top_k=3).probabilities(logits)
for word, a, b in zip(WORDS, every, three, strict=True):
    print(f"{word:<12} {a:.3f} → {b:.3f}")
lesson.check("words that can still be drawn", int((three > 0).sum()), equals=3)
before, after = every[SNAPE] / every[FLITWICK], three[SNAPE] / three[FLITWICK]
lesson.check("odds Snape : Flitwick", after, near=before, within=1e-12)
lesson.check("they are exp(1.9 / 5)", after, near=math.exp(1.9 / 5), within=1e-12)

# %%
lesson.finish()
