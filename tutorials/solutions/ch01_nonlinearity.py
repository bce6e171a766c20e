# %% [markdown]
# # Chapter 1, nonlinearity: solutions

# %%
import numpy as np

import microgpt as mg
from microgpt import Scalar
from microgpt.learn import images, start

lesson = start("Chapter 1: nonlinearity, solutions")
digits, is_mnist = images(lesson)
digits = digits.head(5_000, 1)


def sigmoids(hidden, spread, generator):
    """784-30-…-30-10 with weights from N(0, spread²/n)."""
    network = mg.models.MLP((784, *[30] * hidden, 10), squash=False, generator=generator)
    for layer in network.layers:
        mg.nn.init.normal_(layer.weight, std=spread * layer.in_features**-0.5, generator=generator)
        mg.nn.init.zeros_(layer.bias)
    return network


# %% [markdown]
# ## 1. How deep is too deep?
#
# Up to three hidden layers the sigmoid network learns, each layer making it slower; with four it
# has hardly begun after 500 steps. (MNIST, seeds 1–3: a cost of 0.2, 0.3, 0.5, and for four
# layers 1.8–2.3; knowing nothing costs 2.30. The small digits are easier: 0.05, 0.07, 0.2 and
# 1.6–2.3.)


# %%
def rows(x, y):
    """Images as rows of 784 numbers."""
    return x.reshape(-1, 784), y


costs = {}
for hidden in (1, 2, 3, 4):
    network = sigmoids(hidden, 1.0, lesson.generator())
    batches = mg.data.batches(
        digits.x_train, digits.y_train, batch_size=50, seed=lesson.seed, transform=rows
    )
    history = mg.train.fit(
        network,
        mg.nn.CrossEntropyLoss(),
        mg.optim.SGD(network.parameters(), lr=1.0),
        batches,
        steps=500,
    )
    costs[hidden] = float(np.mean(history.losses[-50:]))
    print(f"   {hidden} hidden layers: cost {costs[hidden]:.3f}")
lesson.check("cost with 1 hidden layer", costs[1], at_most=0.5)
lesson.check("cost with 3 hidden layers", costs[3], at_most=1.5)
lesson.check("cost with 4 hidden layers", costs[4], at_least=1.0)

# %% [markdown]
# ## 2. Larger and larger weights
#
# Large weights make up for the small σ', and the layers come to feel the same. But the sums grow
# with them: at 32 times the weights most neurons of the first layer are saturated, below 0.01 or
# above 0.99, before they have learned anything, and the network starts with wild answers at a cost
# of about 40. The start must be neither too small nor too large, which is what the rules of Glorot
# and He are about.

# %%
x = mg.tensor(digits.x_train[:200].reshape(-1, 784))
y = mg.tensor(digits.y_train[:200])
ratios, saturated = {}, {}
for spread in (1, 2, 4, 8, 16, 32):
    network = sigmoids(6, spread, lesson.generator())
    cost = mg.cross_entropy(network(x), y)
    cost.backward()
    felt = [float(mg.sqrt(mg.mean(layer.weight.grad**2))) for layer in network.layers]
    with mg.no_grad():
        first = mg.sigmoid(network.layers[0](x)).numpy()
    ratios[spread] = felt[0] / felt[-1]
    saturated[spread] = float(((first < 0.01) | (first > 0.99)).mean())
    print(
        f"   ×{spread:<3} first/last gradient {ratios[spread]:.1e}, "
        f"saturated {saturated[spread]:.0%}, cost {cost.item():.1f}"
    )
lesson.check("first/last gradient, ×1", ratios[1], below=1e-3)
lesson.check("first/last gradient, ×32", ratios[32], above=0.1)
lesson.check("saturated neurons, ×4", saturated[4], at_most=0.1)
lesson.check("saturated neurons, ×32", saturated[32], at_least=0.4)

# %% [markdown]
# ## 3. XOR with two sigmoids
#
# With a large weight k a sigmoid is nearly a switch: σ(k·(x₁ + x₂ − ½)) is on if at least one input
# is 1, σ(k·(x₁ + x₂ − 3/2)) if both are. The difference is XOR, up to e^(−k/2).

# %%
k = 40.0
for one, two in ((0, 0), (0, 1), (1, 0), (1, 1)):
    count = Scalar(one) + Scalar(two)
    answer = ((count - 0.5) * k).sigmoid() - ((count - 1.5) * k).sigmoid()
    lesson.check(f"XOR({one}, {two})", answer.data, near=float(one != two), within=1e-8)

# %%
lesson.finish()
