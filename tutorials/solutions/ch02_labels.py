# %% [markdown]
# # Solutions to chapter 2: true labels against random ones
#
# The exercises stand at the end of `tutorials/ch02_labels.py`.

# %%
import numpy as np

import microgpt as mg
from microgpt.learn import images, start
from microgpt.viz.style import COLOURS

lesson = start("Solutions to chapter 2: labels")
everything, is_mnist = images(lesson)
count = lesson.pick(1_000, 300) if is_mnist else 100
digits = everything.head(count, 2_000 if is_mnist else 360)
random = lesson.generator(1)
random_labels = random.integers(0, 10, size=count)
x_train = mg.asarray(digits.x_train.reshape(-1, 784))
x_test = mg.asarray(digits.x_test.reshape(-1, 784))
cost = mg.nn.SumSquaredError()


def train(network, labels, epochs, name, seed=lesson.seed, after_epoch=lambda: None):
    """Train with the squared cost and batches of 10."""
    wishes = mg.one_hot(mg.tensor(labels), 10).numpy()
    batches = mg.data.batches(digits.x_train.reshape(-1, 784), wishes, batch_size=10, seed=seed)
    optimizer = mg.optim.SGD(network.parameters(), lr=1.5)
    for _ in lesson.progress(range(epochs), name):
        for x, y in batches:
            optimizer.zero_grad()
            cost(network(x), y).backward()
            optimizer.step()
        after_epoch()


def right(network, x, labels):
    """Share of the labels that the network finds."""
    with mg.no_grad():
        return mg.train.accuracy(network(x), labels)


# %% [markdown]
# ## 1. Half of the labels at random
#
# The true half has a structure, so it is learned first, and the network does well on test images
# although half of what it is told is nonsense. With time it learns the nonsense by heart as well,
# image by image, and pays for it on the test images. Whoever stops early keeps the better network.

# %%
half = digits.y_train.copy()
half[: count // 2] = random_labels[: count // 2]
network = mg.models.MLP((784, 100, 10), "sigmoid", generator=lesson.generator())
on_train, on_test = [], []


def look():
    """Accuracies after an epoch."""
    on_train.append(right(network, x_train, half))
    on_test.append(right(network, x_test, digits.y_test))


train(
    network, half, lesson.pick(100, 45) if is_mnist else 150, "half of the labels", after_epoch=look
)
best = int(np.argmax(on_test))
print(
    f"best at epoch {best + 1}: {on_test[best]:.1%} of the test images; in the end "
    f"{on_test[-1]:.1%}, with {on_train[-1]:.1%} of the labels it was taught"
)
with mg.viz.styled() as figure:
    fig = figure(figsize=(7, 4))
    ax = fig.subplots()
    epochs = range(1, len(on_test) + 1)
    for values, name, colour in zip(
        (on_train, on_test),
        ("training images, labels as taught", "test images, true labels"),
        COLOURS,
        strict=False,
    ):
        ax.plot(epochs, [100 * v for v in values], color=colour, label=name)
    ax.set(xlabel="epoch", ylabel="right answers [%]", ylim=(0, 103))
    ax.set_title("Half of the labels are nonsense: first the rule, then the nonsense")
    ax.grid()
    ax.legend(loc="lower right")
lesson.picture(fig, "half_random.png")
lesson.check("test images right at best", on_test[best], at_least=0.45)
lesson.check("what stopping early is worth, points", 100 * (on_test[best] - on_test[-1]), above=2)

# %% [markdown]
# ## 2. Fewer neurons
#
# To learn by heart takes room. Five neurons have to fold all the images into five numbers, and get
# stuck; with 80 there is room for a trick for almost every image.

# %%
by_heart = {}
for n in (5, 20, 80):
    network = mg.models.MLP((784, n, 10), "sigmoid", generator=lesson.generator())
    train(network, random_labels, lesson.pick(80, 50) if is_mnist else 200, f"{n} neurons")
    by_heart[n] = right(network, x_train, random_labels)
    print(f"784-{n}-10: {by_heart[n]:.1%} of {count:,} random labels learned by heart")
lesson.check("by heart with 5 neurons", by_heart[5], below=by_heart[20])
lesson.check("by heart with 20 neurons", by_heart[20], below=by_heart[80] + 0.02)
lesson.check("by heart with 80 neurons", by_heart[80], at_least=0.75)

# %% [markdown]
# ## 3. From valley to valley
#
# The two networks are equally good, and the straight line between them leads over a mountain.
# Neuron 3 of the one has nothing to do with neuron 3 of the other; half of each is no
# detector of anything.

# %%
ends = []
for seed in (lesson.seed, lesson.seed + 1):
    network = mg.models.MLP((784, 16, 16, 10), "sigmoid", generator=mg.generator(seed))
    train(network, digits.y_train, lesson.pick(20, 30) if is_mnist else 60, "a valley", seed)
    ends.append([p.numpy().copy() for p in network.parameters()])
wishes = mg.one_hot(mg.tensor(digits.y_train), 10)
way = []
for t in np.linspace(0, 1, 11):
    for parameter, a, b in zip(network.parameters(), *ends, strict=True):
        parameter.data = ((1 - t) * a + t * b).astype(a.dtype)
    with mg.no_grad():
        way.append(cost(network(x_train), wishes).item())
print("cost on the way:", ", ".join(f"{c:.2f}" for c in way))
lesson.check("cost half way / cost at the worse end", way[5] / max(way[0], way[-1]), at_least=2)

# %%
lesson.finish()
