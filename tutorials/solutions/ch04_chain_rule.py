# %% [markdown]
# # Chapter 4, solutions

# %%
import numpy as np

import microgpt as mg
from microgpt import Scalar
from microgpt.learn import start

lesson = start("Chapter 4: backpropagation calculus, solutions")
lesson.uses("nothing but a few numbers of its own")

# %% [markdown]
# ## 1. A chain of twelve neurons
#
# Between two layers the derivative is multiplied by w·σ'(z), and with w = 1 that is at most 1/4.
# Eleven links lie between the first weight and the last, so the first derivative is smaller by
# at least 4¹¹, about four million.

# %%
weights = [Scalar(1.0) for _ in range(12)]
a = Scalar(0.5)
for w in weights:
    a = (w * a).sigmoid()
cost = (a - 1.0) ** 2
cost.backward()
print(f"∂C/∂w of the last weight {weights[-1].grad:+.2e}, of the first {weights[0].grad:+.2e}")
lesson.check("last / first", weights[-1].grad / weights[0].grad, at_least=4.0**11)

# %% [markdown]
# ## 2. Nudging to both sides
#
# C(w+h) and C(w−h) carry the same bend, which cancels in the difference. What is left falls with
# h²: a slope of 2. (The nudges are larger here: with tiny ones rounding comes too early.)


# %%
def cost_at(w):
    """Cost of a single neuron, in plain floats."""
    return (mg.sigmoid(w * 0.4 - 0.9) - 1.0) ** 2


w = Scalar(2.1)
(((w * 0.4 - 0.9).sigmoid() - 1.0) ** 2).backward()
nudges = 0.1 * 0.5 ** np.arange(8)
errors = [abs((cost_at(w.data + h) - cost_at(w.data - h)) / (2 * h) - w.grad) for h in nudges]
power = np.polyfit(np.log(nudges), np.log(errors), 1)[0]
lesson.check("error falls like h to the power", power, near=2.0, within=0.05)

# %% [markdown]
# ## 3. Three examples at once
#
# The derivative of a sum is the sum of the derivatives, and dividing by 3 divides both. So the
# gradient that training follows is the mean of what each example asks for.

# %%
examples = [(0.1, 0.0), (0.5, 1.0), (0.9, 1.0)]


def example_cost(w, x, wish):
    """Cost of one example for a neuron without bias."""
    return ((w * x).sigmoid() - wish) ** 2


single = []
for x, wish in examples:
    w = Scalar(0.7)
    example_cost(w, x, wish).backward()
    single.append(w.grad)

w = Scalar(0.7)
(sum(example_cost(w, x, wish) for x, wish in examples) / 3).backward()
print("each example asks for", ", ".join(f"{g:+.4f}" for g in single))
lesson.check("derivative of the mean cost", w.grad, near=sum(single) / 3, within=1e-12)

# %% [markdown]
# ## 4. ReLU in place of σ
#
# Only the factors σ'(z) change: ReLU'(z) is 1 where z > 0 and 0 where z < 0. A path is passed on
# undiminished or cut. With the numbers of the lesson z₂ is negative, so neuron 2 is silent: the
# path is cut there, and layers 1 and 2 feel exactly nothing. Layer 3 hears an activation of 0
# and, with its negative bias, is silent as well: not even w₃ is told anything.

# %%
a0 = Scalar(0.6)
w1, w2, w3 = Scalar(1.8), Scalar(-1.3), Scalar(2.1)
a1 = (w1 * a0 - 0.7).relu()
a2 = (w2 * a1 + 0.4).relu()
a3 = (w3 * a2 - 0.9).relu()
((a3 - 1.0) ** 2).backward()
print(f"activations {a1.data:.3f}, {a2.data:.3f}, {a3.data:.3f}")
lesson.check("∂C/∂w1 of the silent chain", w1.grad, equals=0.0)
lesson.check("∂C/∂w3 of the silent chain", w3.grad, equals=0.0)

# %% [markdown]
# With w₂ = +1.3 and b₃ = −0.2 all three speak, every ReLU' is 1, and the long path is the product
# of what is left: a₀ · w₂ · w₃ · 2(a₃ − y).

# %%
w1, w2, w3 = Scalar(1.8), Scalar(1.3), Scalar(2.1)
a1 = (w1 * a0 - 0.7).relu()
a2 = (w2 * a1 + 0.4).relu()
a3 = (w3 * a2 - 0.2).relu()
((a3 - 1.0) ** 2).backward()
path = a0.data * w2.data * w3.data * 2 * (a3.data - 1.0)
lesson.check("∂C/∂w1 without any σ'", w1.grad, near=path, within=1e-12)

# %%
lesson.finish()
