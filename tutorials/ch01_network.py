# %% [markdown]
# # Chapter 1: what is a neural network, anyway?
#
# The network of the video, before it has learned anything: what a neuron computes, what its weights
# and its bias are for, and why the squeezing function looks as it does. Nothing is trained here.

# %%
import math
from itertools import pairwise

import numpy as np

import microgpt as mg
from microgpt import Scalar
from microgpt.learn import images, start

lesson = start("Chapter 1: the structure of the network")
digits, is_mnist = images(lesson)

# %% [markdown]
# ## 13,002 dials
#
# 784 pixels, two layers of 16 neurons, 10 outputs. Each neuron has a weight for everything in the
# layer before, and one bias.

# %%
with mg.configure(dtype="float64"):
    network = mg.models.MLP((784, 16, 16, 10), "sigmoid", generator=lesson.generator())
for name, weights, biases in network.count():
    print(f"  {name:<8} {weights:>6,} weights  {biases:>2} biases")
lesson.check("weights", sum(w for _, w, _ in network.count()), equals=12_544 + 256 + 160)
lesson.check("biases", sum(b for _, _, b in network.count()), equals=16 + 16 + 10)
lesson.check("parameters", network.num_parameters(), equals=13_002)

# %% [markdown]
# ## A neuron, a layer, a network
#
# A neuron holds a number between 0 and 1. It multiplies what comes in with its weights, adds up,
# adds its bias and squeezes the sum with σ. A layer does so for each of its neurons, and the
# network layer after layer.


# %%
def neuron(weights, bias, inputs):
    """σ(w₁a₁ + w₂a₂ + … + b)"""
    total = bias
    for w, a in zip(weights, inputs, strict=True):
        total = total + w * a
    return mg.sigmoid(total)


def by_loops(network, activations):
    """The whole network, neuron by neuron, in plain floats."""
    for layer in network.layers:
        rows = zip(layer.weight.tolist(), layer.bias.tolist(), strict=True)
        activations = [neuron(weights, bias, activations) for weights, bias in rows]
    return activations


image = digits.x_test[0]
answers = by_loops(network, image.reshape(-1).tolist())
for digit, activation in enumerate(answers):
    print(f"  {digit}: {activation:.3f} " + "▪" * round(40 * activation))

# %% [markdown]
# The matrix form says the same in one line per layer: a' = σ(W a + b). Row j of W holds the weights
# of neuron j. Shapes: a (784,), W (16, 784), b (16,), a' (16,); then (16, 16), then (10, 16). It is
# not a different computation, only a shorter way to write it, and one that computers are fast at.


# %%
def by_matrices(network, a):
    """The whole network, layer by layer."""
    for layer in network.layers:
        a = mg.sigmoid(layer.weight @ a + layer.bias)
    return a


pixels = mg.tensor(image.reshape(-1), dtype="float64")
with mg.no_grad():
    vectors = by_matrices(network, pixels).numpy()
    model = network(pixels).numpy()
    again = network(pixels).numpy()
lesson.check("loops and matrices, difference", np.abs(vectors - answers).max(), at_most=1e-12)
lesson.check("matrices and the model, difference", np.abs(vectors - model).max(), at_most=1e-12)
lesson.check("same input, same output", bool((model == again).all()), equals=True)

# %% [markdown]
# The last line matters more than it looks: a network is a function. It has 13,002 parameters and it
# is complicated, but it has no moods.

# %%
if not lesson.fast:
    title = "An image on its way through an untrained network"
    lesson.picture(mg.viz.mlp_flow(network, image, title=title), "flow.png")

# %% [markdown]
# ## Weights as a picture: an edge detector
#
# The weights of a neuron of the first layer have as many numbers as the image, so they can be
# looked at like one. Here is a neuron with 24 weights of +1 in a bar of 2 × 12 pixels, and 16
# weights of −1 above and below; all others are 0. Four images:
#
# - A: nothing but black,
# - B: the pixels of the bar are white,
# - C: only the pixels above and below are white,
# - D: both.
#
# In which order does it like them? Think first.

# %%
PATCH = np.zeros((4, 12))
PATCH[1:3] = 1.0
PATCH[[0, 3], 2:10] = -1.0
mask = np.zeros((28, 28))
mask[12:16, 8:20] = PATCH
lesson.check("positive weights", int((mask > 0).sum()), equals=24)
lesson.check("negative weights", int((mask < 0).sum()), equals=16)

quiz = {"A": mask * 0, "B": mask > 0, "C": mask < 0, "D": mask != 0}
sums = {
    name: float(mg.sum(mg.tensor(mask) * mg.tensor(picture.astype(float))))
    for name, picture in quiz.items()
}
order = sorted(sums, key=sums.get, reverse=True)
print("  " + " > ".join(f"{name} = {sums[name]:g}" for name in order))
lesson.check("order", "".join(order), equals="BDAC")
for name, value in (("B", 24), ("D", 8), ("A", 0), ("C", -16)):
    lesson.check(f"weighted sum of {name}", sums[name], equals=value)

# %% [markdown]
# Light on the bar alone gives the most; light all around takes some of it back. So the neuron
# answers to a bright edge with darkness beside it. (Not perfectly: for a white area there are 8
# left. That is exercise 1.)
#
# A neuron looks at one place only. Slide the same weights over real digits, and you see where a
# neuron of this kind would speak up. Sliding weights are a convolution, the idea of lesson
# `ch02_cnn`.

# %%
chosen = [int(np.flatnonzero(digits.y_test == label)[0]) for label in (7, 5)]
batch = mg.tensor(digits.x_test[chosen][:, None], dtype="float64")  # (2, 1, 28, 28)
filters = mg.tensor(PATCH[None, None], dtype="float64")  # (1, 1, 4, 12)
where = mg.conv2d(batch, filters, padding=(2, 6)).numpy()[:, 0, 1:, 1:]  # (2, 28, 28)

style = mg.viz.style
with mg.viz.styled() as figure:
    fig = figure(figsize=(12.5, 5.6))
    grid = fig.subplots(2, 5)
    grid[0, 0].imshow(mask, cmap=style.DIVERGING, vmin=-1.3, vmax=1.3)
    grid[0, 0].set_title("the weights: blue +1, red −1")
    for ax, (name, picture) in zip(grid[0, 1:], quiz.items(), strict=True):
        ax.imshow(picture, cmap="gray", vmin=0, vmax=1)
        ax.set_title(f"{name}: weighted sum {sums[name]:+.0f}".replace("-", "−").replace("+0", "0"))
    bars = grid[1, 0]
    heights = [sums[name] for name in quiz]
    bars.bar(list(quiz), heights, color=[style.BLUE if h > 0 else style.RED for h in heights])
    bars.axhline(0, color=style.GREY, lw=0.8)
    bars.set(ylabel="weighted sum", ylim=(-20, 28))
    bars.set_title("what the neuron says")
    for k, at in enumerate(chosen):
        grid[1, 1 + 2 * k].imshow(digits.x_test[at], cmap="gray", vmin=0, vmax=1)
        grid[1, 1 + 2 * k].set_title(f"a {digits.y_test[at]}")
        grid[1, 2 + 2 * k].imshow(where[k], cmap=style.DIVERGING, vmin=-20, vmax=20)
        grid[1, 2 + 2 * k].contour(digits.x_test[at], [0.5], colors="#222222", linewidths=0.9)
        grid[1, 2 + 2 * k].set_title("where it would speak up")
    for ax in grid.flat:
        if ax is not bars:
            ax.set(xticks=[], yticks=[])
            ax.spines[:].set(visible=True, color="#bbbbbb")
    fig.suptitle("A neuron that looks for a horizontal edge")
lesson.picture(fig, "edge_masks.png")

# %% [markdown]
# ## The bias is a threshold
#
# Without bias a neuron is "on" (above ½) as soon as its weighted sum is positive. With a bias of
# −10 the sum must get past 10 first: σ(s − 10) > ½ exactly if s > 10. One neuron with three inputs
# and 2,000 random sets of weights:

# %%
source = lesson.generator(1)
mistaken, on = 0, 0
for _ in range(2000):
    weights = [Scalar(w) for w in source.uniform(0, 12, 3)]
    inputs = source.uniform(0, 1, 3)
    weighted_sum = sum(w * a for w, a in zip(weights, inputs, strict=True))
    output = (weighted_sum + -10.0).sigmoid()
    on += output.data > 0.5
    mistaken += (output.data > 0.5) != (weighted_sum.data > 10)
print(f"  {on} of 2,000 neurons are on")
lesson.check("neurons that break the rule", mistaken, equals=0)
lesson.check("neurons on", on, at_least=100, at_most=1900)
lesson.check("at the threshold exactly", mg.sigmoid(10.0 - 10.0), equals=0.5)

# %% [markdown]
# ## Squeezing: σ and ReLU
#
# σ(x) = 1 / (1 + e⁻ˣ) squeezes all numbers into (0, 1): both ends are approached, never reached,
# and nothing is negative. (Notes on the video sometimes say [−1, 1]; that is the range of its
# cousin tanh.) Typed in as it stands, the formula fails for x = −1000: e¹⁰⁰⁰ is no float. The
# package computes it as eˣ / (1 + eˣ) there.

# %%
try:
    1 / (1 + math.exp(1000))
    naive = "works"
except OverflowError:
    naive = "overflows"
lesson.check("the formula as it stands, at −1000", naive, equals="overflows")
lesson.check("σ(−1000)", mg.sigmoid(-1000.0), equals=0.0)
lesson.check("σ(−1000), as a tensor", mg.sigmoid(mg.tensor([-1000.0])).item(), equals=0.0)
xs = np.linspace(-30, 30, 601)
ys = np.array([mg.sigmoid(float(x)) for x in xs])
lesson.check("smallest σ on [−30, 30]", ys.min(), above=0.0)
lesson.check("1 − largest σ on [−30, 30]", 1 - ys.max(), above=0.0)

# %% [markdown]
# What decides how well a neuron learns is the slope: how much a nudge of the sum moves the answer.
# σ'(0) = ¼ is the most there is, and at x = 10 hardly anything is left: the neuron is saturated.
# ReLU(x) = max(x, 0) has slope 1 wherever it is on (and at 0, where it has no slope, we take 0).

# %%
slope_of_sigmoid, slope_of_relu = mg.grad(mg.sigmoid), mg.grad(mg.relu)
lesson.check("σ'(0)", slope_of_sigmoid(0.0), equals=0.25)
lesson.check("σ'(10)", slope_of_sigmoid(10.0), near=4.54e-5, within=5e-8)
positive = lesson.generator(2).exponential(size=500).tolist()
lesson.check("ReLU' = 1, of 500 x > 0", sum(slope_of_relu(x) == 1 for x in positive), equals=500)
lesson.check("ReLU' = 0, of 500 x < 0", sum(slope_of_relu(-x) == 0 for x in positive), equals=500)

with mg.viz.styled() as figure:
    fig = figure(figsize=(9, 3.6))
    line = np.linspace(-7, 7, 281)
    for ax, function, name, top in zip(
        fig.subplots(1, 2), (mg.sigmoid, mg.relu), ("sigmoid", "ReLU"), (1.1, 5), strict=True
    ):
        slopes = [mg.grad(function)(float(x)) for x in line]
        ax.plot(line, [function(float(x)) for x in line], color=style.BLUE, label=name)
        ax.plot(line, slopes, "--", color=style.COLOURS[1], label=f"slope of {name}")
        ax.set(xlabel="weighted sum + bias", ylim=(-0.05 * top, top))
        ax.legend(loc="upper left")
        ax.grid(True)
    fig.suptitle("The sigmoid goes flat on both sides, ReLU only on one")
lesson.picture(fig, "squash.png")

# %% [markdown]
# ## How good is a network that has learned nothing?
#
# Twenty networks with twenty sets of random weights. Most give the same answer to nearly every
# image, and a stopped clock is right one time in ten.

# %%
test = digits.head(1, lesson.pick(10_000, 2_000))
some = mg.tensor(test.x_test.reshape(-1, 784))
accuracies, favourites = [], []
for stream in range(20):
    untrained = mg.models.MLP((784, 16, 16, 10), generator=lesson.generator(10 + stream))
    with mg.no_grad():
        guesses = mg.argmax(untrained(some), axis=1).numpy()
    accuracies.append(float((guesses == test.y_test).mean()))
    favourites.append(np.bincount(guesses).max() / len(guesses))
print(f"  from {min(accuracies):.1%} to {max(accuracies):.1%}; the favourite answer of a network")
print(f"  is given to {np.mean(favourites):.0%} of the images on average")
lesson.check("mean accuracy of 20 networks", np.mean(accuracies), near=0.10, within=0.03)

# %% [markdown]
# (Over seeds 1–5 the mean lay between 9.8 % and 10.1 %.)
#
# ## Your own digit, in the form the network knows
#
# The network has seen digits of one size, in one place. A drawing must be brought into that form:
# cut out, its longer side scaled to 20 pixels, and put on a field of 28 × 28 such that the centre
# of mass of its ink lies in the middle. Here are five drawings: strokes of a thick pen on a canvas
# of 200 × 200, of random size and in a random place.

# %%
STROKES = {  # corners of each stroke, x to the right and y down
    "1": [[(0.3, 0.2), (0.55, 0), (0.55, 1)]],
    "2": [[(0.05, 0.2), (0.3, 0), (0.65, 0.1), (0.7, 0.35), (0, 1), (0.75, 1)]],
    "4": [[(0.55, 1), (0.55, 0), (0, 0.65), (0.8, 0.65)]],
    "7": [[(0, 0), (0.7, 0), (0.25, 1)], [(0.2, 0.5), (0.65, 0.5)]],
    "0": [[(0.35 + 0.3 * math.sin(t), 0.5 - 0.5 * math.cos(t)) for t in np.linspace(0, 6.3, 30)]],
}


def draw(strokes, generator):
    """A canvas (200, 200) from 0 to 1."""
    size, pen = generator.uniform(60, 110), generator.uniform(4, 8)
    left, top = generator.uniform(10, 80, 2)
    y, x = np.mgrid[:200, :200]
    ink = np.zeros((200, 200))
    for stroke in strokes:
        corners = np.array(stroke) * size + (left, top)
        for (x0, y0), (x1, y1) in pairwise(corners):
            length2 = (x1 - x0) ** 2 + (y1 - y0) ** 2
            along = np.clip(((x - x0) * (x1 - x0) + (y - y0) * (y1 - y0)) / length2, 0, 1)
            away = np.hypot(x - x0 - along * (x1 - x0), y - y0 - along * (y1 - y0))
            ink = np.maximum(ink, np.clip(pen + 0.5 - away, 0, 1))
    return ink


def box(picture):
    """First and last row and column with ink."""
    rows, columns = np.flatnonzero(picture.any(1)), np.flatnonzero(picture.any(0))
    return rows[0], rows[-1] + 1, columns[0], columns[-1] + 1


def centre_of_mass(picture):
    """(row, column)"""
    y, x = np.mgrid[: picture.shape[0], : picture.shape[1]]
    return (picture * y).sum() / picture.sum(), (picture * x).sum() / picture.sum()


MIDDLE = 14  # MNIST's: the pixel whose upper left corner is the centre of the field


def prepare(drawing):
    """A drawing of any size as MNIST would have it, (28, 28)."""
    top, bottom, left, right = box(drawing)
    cut = drawing[top:bottom, left:right]
    high, wide = (max(round(20 * n / max(cut.shape)), 1) for n in cut.shape)
    fine = mg.data.resize(cut, (4 * high, 4 * wide))  # finer first, then means of 4 × 4
    small = fine.reshape(high, 4, wide, 4).mean((1, 3))
    field = np.zeros((68, 68))  # a margin of 20, so that any place fits
    row, column = (20 + round(MIDDLE - c) for c in centre_of_mass(small))
    field[row : row + high, column : column + wide] = small
    return field[20:48, 20:48]


source = lesson.generator(3)
drawings = [draw(strokes, source) for strokes in STROKES.values()]
prepared = [prepare(drawing) for drawing in drawings]
off = [max(abs(c - MIDDLE) for c in centre_of_mass(p)) for p in prepared]
sides = {max(b - t, r - l) for t, b, l, r in map(box, prepared)}
lesson.check("centre of mass off the middle, in pixels", max(off), at_most=0.5)
lesson.check("longer side of all five", str(sorted(map(int, sides))), equals="[20]")

# %% [markdown]
# Is that really what MNIST did? Its makers say so; the images can be asked. The middle turns out to
# be pixel (14, 14), counted from 0, half a pixel to the lower right of the exact one.

# %%
if is_mnist:
    real = digits.x_train[: lesson.pick(60_000, 2_000)]
    ink, index = real.sum((1, 2)), np.arange(28)
    rows, columns = (real.sum(2) @ index) / ink, (real.sum(1) @ index) / ink
    centred = (np.abs(rows - 14) <= 0.5) & (np.abs(columns - 14) <= 0.5)
    print(f"  mean centre of mass ({rows.mean():.3f}, {columns.mean():.3f})")
    lesson.check("MNIST images centred within ½ pixel", centred.mean(), at_least=0.999)

with mg.viz.styled() as figure:
    fig = figure(figsize=(10, 4.4))
    for (drawn, small), drawing, picture, name in zip(
        fig.subplots(2, 5).T, drawings, prepared, STROKES, strict=True
    ):
        drawn.imshow(drawing, cmap="gray_r")
        drawn.set_title(f"drawn: a {name}")
        small.imshow(picture, cmap="gray", extent=(-0.5, 27.5, 27.5, -0.5))
        row, column = centre_of_mass(picture)
        small.plot(column, row, "+", color=style.COLOURS[4], ms=14, mew=2)
        small.set_title("28 × 28")
        for ax in (drawn, small):
            ax.set(xticks=[], yticks=[])
            ax.spines[:].set(visible=True, color="#bbbbbb")
    fig.suptitle("Above: as drawn. Below: as the network wants it, the cross is the centre of mass")
lesson.picture(fig, "drawn.png")

# %% [markdown]
# The hope of the video, that the second layer picks up edges and the third loops and lines, is a
# hope about *trained* weights. Lesson `ch02_digits` looks at them.
#
# ## Try this
#
# 1. Change the negative weights of the edge detector so that a white area (image D) gives 0.
# 2. Which bias makes a neuron with that mask answer above ½ to image B and below ½ to D, A and C?
# 3. How many parameters has 784-100-10? And how many layers of 16 would it take to have as many?
# 4. Skip the centring in `prepare`: put the digit into the upper left corner. How far is its
#    centre of mass from the middle?
#
# Solutions: `tutorials/solutions/ch01_network.py`.

# %%
lesson.finish()
