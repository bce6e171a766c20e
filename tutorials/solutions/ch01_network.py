# %% [markdown]
# # Chapter 1, the structure of the network: solutions

# %%
import numpy as np

import microgpt as mg
from microgpt.learn import images, start

lesson = start("Chapter 1: the structure of the network, solutions")
digits, is_mnist = images(lesson)

# %% [markdown]
# ## 1. An edge detector that ignores white areas
#
# The positive weights add up to 24. If the 16 negative ones are −1.5 each, they add up to −24, and
# an evenly lit area gives 0, whatever its brightness: the neuron sees differences only.

# %%
weights = np.zeros((28, 28))
weights[13:15, 8:20] = 1.0
weights[[12, 15], 10:18] = -1.5
quiz = {"A": weights * 0, "B": weights > 0, "C": weights < 0, "D": weights != 0}


def weighted_sums(weights):
    """The weighted sum of each of the four images."""
    return {name: float((weights * picture).sum()) for name, picture in quiz.items()}


print("  ", weighted_sums(weights))
lesson.check("white area, weights −1.5", weighted_sums(weights)["D"], equals=0.0)
grey = float((weights * 0.37 * np.ones((28, 28))).sum())
lesson.check("evenly grey image", grey, near=0.0, within=1e-12)

# %% [markdown]
# ## 2. A threshold between B and D
#
# With the weights of the lesson the sums are B 24, D 8, A 0, C −16. The neuron answers above ½ if
# sum + bias > 0, so any bias between −24 and −8 will do. −16 lies in the middle.

# %%
weights[weights < 0] = -1.0
outputs = {name: mg.sigmoid(total - 16.0) for name, total in weighted_sums(weights).items()}
for name, output in outputs.items():
    print(f"   {name}: {output:.6f}")
on = "".join(name for name, output in outputs.items() if output > 0.5)
lesson.check("neurons on with bias −16", on, equals="B")

# %% [markdown]
# ## 3. Wide or deep
#
# 784-100-10 has 784·100 + 100 + 100·10 + 10 = 79,510 parameters, six times as many as 784-16-16-10:
# nearly all parameters of such a network sit at the image. A further layer of 16 brings only
# 16·16 + 16 = 272.

# %%


def narrow(layers):
    """Parameters of a network with so many layers of 16."""
    return mg.models.MLP((784, *[16] * layers, 10)).num_parameters()


wide = mg.models.MLP((784, 100, 10)).num_parameters()
lesson.check("parameters of 784-100-10", wide, equals=79_510)
layers = 2 + -(-(wide - narrow(2)) // (narrow(3) - narrow(2)))  # rounded up
print(f"   {layers} layers of 16 have {narrow(layers):,} parameters")
lesson.check("parameters with these layers", narrow(layers), at_least=wide)
lesson.check("and with one layer less", narrow(layers - 1), below=wide)

# %% [markdown]
# ## 4. Without centring
#
# Real digits, cut out and put into the upper left corner. Their centre of mass is then several
# pixels off the place where the network has always seen it; lesson `ch02_analysis` shows what that
# does to a trained one (a shift by 2 pixels already costs a quarter of the answers).

# %%
index = np.arange(28)
distances = []
for picture in digits.x_test[:300]:
    rows, columns = np.flatnonzero(picture.any(1)), np.flatnonzero(picture.any(0))
    cut = picture[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    corner = np.zeros((28, 28))
    corner[: cut.shape[0], : cut.shape[1]] = cut
    y, x = corner.sum(1) @ index / corner.sum(), corner.sum(0) @ index / corner.sum()
    distances.append(np.hypot(y - 14, x - 14))
print(f"   {np.mean(distances):.1f} pixels on average, at most {max(distances):.1f}")
lesson.check("mean distance in pixels", np.mean(distances), above=2.0)

# %%
lesson.finish()
