# %% [markdown]
# # Chapter 3: what backpropagation really does
#
# A network of 13,002 numbers is shown a 2 and answers rubbish. Backpropagation says, for every one
# of the 13,002 numbers at once, how it should be nudged to make the answer better. This lesson
# follows the nudges from the last layer to the first: with single numbers, with matrices, and
# then it checks all 13,002 of them in three independent ways.

# %%
import numpy as np

import microgpt as mg
from microgpt.learn import images, start
from microgpt.viz.style import BLUE, DIVERGING, GREY, RED

lesson = start("Chapter 3: backpropagation")
digits, is_mnist = images(lesson)

# %% [markdown]
# ## A network that knows nothing
#
# Weights from the normal distribution, so that its ten outputs are all over the place. Everything
# is computed in float64 here, so that we can tell equal from almost equal.

# %%
SIZES = (784, 16, 16, 10)
source = lesson.generator()
network = mg.models.MLP(SIZES, "sigmoid", generator=source).to(dtype="float64")
for p in network.parameters():
    deviation = 1 / 8 if p.shape[-1] == 784 else 1.0
    p.data = deviation * mg.randn(*p.shape, generator=source, dtype="float64")
lesson.check("parameters", network.num_parameters(), equals=13_002)

two = int(np.flatnonzero(digits.y_train == 2)[0])
x = mg.tensor(digits.x_train[two].reshape(784), dtype="float64")  # (784,)
y = mg.one_hot(mg.tensor(2), 10).astype("float64")  # (10,) the wish: 1 for "2", 0 for the others

activations = [x]  # of all layers
with mg.no_grad():
    for layer in network.layers:
        activations.append(mg.sigmoid(layer(activations[-1])))
print("outputs:", " ".join(f"{a:.2f}" for a in activations[-1].tolist()))

# %% [markdown]
# ## One neuron
#
# The output for "2" should go up. It is a = σ(z) with z = w₀·a₀ + … + w₁₅·a₁₅ + b, and its share of
# the cost is (a - 1)². Three things can be changed: the bias, the 16 weights, and (by way of the
# layers before) the 16 activations. As single numbers:

# %%
hidden = [mg.Scalar(a) for a in activations[-2].tolist()]
w = [mg.Scalar(v) for v in network.layers[2].weight[2].tolist()]
b = mg.Scalar(network.layers[2].bias[2].item())

z = sum((wk * ak for wk, ak in zip(w, hidden, strict=True)), b)
cost = (z.sigmoid() - 1.0) ** 2
cost.backward()

# A nudge is the negative gradient: where to go so that the cost falls.
print(f"nudge of the bias: {-b.grad:+.4f}")
print("nudges of weights / activations they belong to:")
print(" ".join(f"{-wk.grad / ak.data:+.4f}" for wk, ak in zip(w[:6], hidden, strict=False)), "…")
print("nudges of activations / weights they belong to:")
print(" ".join(f"{-ak.grad / wk.data:+.4f}" for wk, ak in zip(w[:6], hidden, strict=False)), "…")

# %% [markdown]
# The same number everywhere. Call it -δ. So
#
# - the bias should go up by δ's amount,
# - each weight in proportion to the activation it is multiplied with: bright neurons matter more
#   (neurons that fire together wire together),
# - each activation in proportion to its weight: those with positive weights up, the others down.

# %%
delta = b.grad
off = max(abs(wk.grad - delta * ak.data) for wk, ak in zip(w, hidden, strict=True))
lesson.check("nudges of weights ∝ activations: gap", off, at_most=1e-12)
off = max(abs(ak.grad - delta * wk.data) for wk, ak in zip(w, hidden, strict=True))
lesson.check("nudges of activations ∝ weights: gap", off, at_most=1e-12)
lesson.check("nudge of the bias of '2'", -delta, above=0.0)

# %% [markdown]
# ## All ten neurons
#
# Every output neuron has its own wish and its own δⱼ = 2(aⱼ - yⱼ)·σ'(zⱼ), where σ' = σ·(1 - σ). For
# the layer as a whole, with W (10, 16), activations a (16,) and δ (10,):
#
# - ∂C/∂b = δ
# - ∂C/∂W = δ aᵀ, a column times a row: ten rows, all of them multiples of a. It has rank 1.
# - ∂C/∂a = Wᵀ δ: what ten neurons wish of each activation, added up.
#
# The engine is asked for the left sides; the right sides we write down.

# %%
W, bias = network.layers[2].weight, network.layers[2].bias
a = mg.tensor(activations[-2], requires_grad=True)  # as if these 16 could be changed at will
out = mg.sigmoid(W @ a + bias)
((out - y) ** 2).sum().backward()

out = out.detach()
delta = 2 * (out - y) * out * (1 - out)  # (10,)


def gap(left, right):
    """The largest difference between two tensors."""
    return mg.max(mg.abs(left - right)).item()


lesson.check("∂C/∂b = δ: gap", gap(bias.grad, delta), at_most=1e-12)
lesson.check("∂C/∂W = δ·aᵀ: gap", gap(W.grad, mg.outer(delta, a.detach())), at_most=1e-12)
lesson.check("∂C/∂W: rank", int(np.linalg.matrix_rank(W.grad.numpy())), equals=1)
lesson.check("∂C/∂a = Wᵀδ: gap", gap(a.grad, W.detach().T @ delta), at_most=1e-12)
lesson.check("tensor = scalars, for '2': gap", abs(delta[2].item() - b.grad), at_most=1e-12)

# What each of the ten neurons (rows) wishes of each of the 16 activations (columns).
wishes = -(W.detach() * delta.reshape(10, 1))
lesson.check("ten wishes added up: gap", gap(wishes.sum(axis=0), -a.grad), at_most=1e-12)

nudges = (-bias.grad).tolist()
lesson.check("the bias of '2' goes up", nudges[2], above=0.0)
lesson.check("largest nudge of the other nine", max(nudges[:2] + nudges[3:]), below=0.0)
weight_nudges = -W.grad.numpy()  # (10, 16), for the picture
network.zero_grad()

# %% [markdown]
# One thing the pictures of the video leave out: there the nudge of an output is as large as its
# distance from the target. For the activation that is true, but bias and weights act through the
# sigmoid, and δ has its slope as a factor. An output of 0.98 that should be 0 is very wrong, yet
# σ' = 0.98 · 0.02, so it hardly gets nudged: it is *saturated*. (In the picture below, the longest
# grey bars have short arrows.)

# %% [markdown]
# ## Back, layer by layer
#
# Activations cannot be set at will: they come out of the layer before. But now we know what is
# wished of them, just as we knew what was wished of the outputs. So the same three formulas give
# the nudges of the layer before, and of the one before that. This is all of backpropagation:


# %%
def backpropagate(layers, activations, y):
    """Gradients of Σ(a-y)² by the weights and biases of all layers, the first layer first."""
    gradients = []
    wish = 2 * (activations[-1] - y)  # ∂C/∂a of the last layer
    for layer, a, before in zip(layers[::-1], activations[:0:-1], activations[-2::-1], strict=True):
        delta = wish * a * (1 - a)
        gradients.append((mg.outer(delta, before), delta))
        wish = layer.weight.detach().T @ delta
    return gradients[::-1]


by_hand = [g for pair in backpropagate(list(network.layers), activations, y) for g in pair]

cost = ((network(x) - y) ** 2).sum()
cost.backward()
by_engine = [p.grad for p in network.parameters()]  # weight, bias, weight, bias, …

worst = max(gap(left, right) for left, right in zip(by_hand, by_engine, strict=True))
lesson.check("ten lines = tensor engine: gap", worst, at_most=1e-12)

# %% [markdown]
# ## All 13,002, in single numbers
#
# The scalar engine knows no matrices. Here is the network as 13,002 `Scalar`s, the sums
# written out neuron by neuron: about 26,000 operations, and one backward pass through them.


# %%
def as_scalars(array):
    """Nested lists of Scalars."""
    return [as_scalars(part) if isinstance(part, list) else mg.Scalar(part) for part in array]


layers = [(as_scalars(la.weight.tolist()), as_scalars(la.bias.tolist())) for la in network.layers]
values = x.tolist()
for weights, biases in layers:
    sums = [
        sum((v * a for v, a in zip(row, values, strict=True)), b)
        for row, b in zip(weights, biases, strict=True)
    ]
    values = [z.sigmoid() for z in sums]
cost_of_scalars = sum((a - wish) ** 2 for a, wish in zip(values, y.tolist(), strict=True))
cost_of_scalars.backward()

by_scalars = []
for weights, biases in layers:
    by_scalars += [s.grad for row in weights for s in row] + [s.grad for s in biases]
by_scalars = np.array(by_scalars)  # (13002,)
engine = np.concatenate([g.numpy().reshape(-1) for g in by_engine])

lesson.check("components compared", len(by_scalars), equals=13_002)
worst = float(abs(by_scalars - engine).max())
lesson.check("scalar = tensor engine: gap", worst, at_most=1e-10)
lesson.check("the cost itself: gap", abs(cost_of_scalars.data - cost.item()), at_most=1e-12)

# %% [markdown]
# ## Without any engine
#
# The definition of a derivative needs no engine: nudge one number, see what the cost does. With the
# network in plain NumPy and a step to both sides that is 26,004 evaluations of the cost, where
# backpropagation takes one pass. (With `--fast` every 20th number is nudged.)


# %%
def plain_cost(arrays, x, y):
    """The cost, by NumPy alone."""
    a = x
    for weight, bias in zip(arrays[::2], arrays[1::2], strict=True):
        a = 1 / (1 + np.exp(-(weight @ a + bias)))
    return ((a - y) ** 2).sum()


arrays = [p.numpy() for p in network.parameters()]  # copies, which we may change
host_x, host_y = x.numpy(), y.numpy()
flat = [(array.reshape(-1), i) for array in arrays for i in range(array.size)]
step, every = 1e-5, lesson.pick(1, 20)

slopes = []
for numbers, i in lesson.progress(flat[::every], "nudging each number"):
    old = numbers[i]
    numbers[i] = old + step
    up = plain_cost(arrays, host_x, host_y)
    numbers[i] = old - step
    down = plain_cost(arrays, host_x, host_y)
    numbers[i] = old
    slopes.append((up - down) / (2 * step))

relative = abs(np.array(slopes) - engine[::every]).max() / abs(engine).max()
lesson.check("finite differences: relative gap", float(relative), at_most=1e-6)

# %% [markdown]
# In training one uses float32, which is twice as fast and has 7 digits. On the backend of this run
# (try `--backend opencl`) the gradient in float32, against the scalars:

# %%
single = mg.models.MLP(SIZES, "sigmoid", generator=lesson.generator())
for p, exact in zip(single.parameters(), network.parameters(), strict=True):
    p.data = exact.detach().astype("float32")
((single(x.astype("float32")) - y.astype("float32")) ** 2).sum().backward()
floats = np.concatenate([p.grad.numpy().reshape(-1) for p in single.parameters()])
relative = abs(floats - by_scalars).max() / abs(by_scalars).max()
lesson.check("float32 gradient: relative gap", float(relative), at_most=1e-4)

# %% [markdown]
# ## What if it only ever saw 2s?
#
# So far only one image was asked. Follow its wishes, and those of other 2s, and the network learns
# the easiest way to please them: call everything a 2. Here are two networks, trained alike for a
# short while, one on 2s only and one on all digits. (Over seeds 1 to 5 the first calls all of the
# test images a 2, after 100 steps as after 1,000.)


# %%
def rows(x, y):
    """Images as rows of 784 numbers, labels as rows of ten."""
    return x.reshape(-1, 784), mg.one_hot(y, 10)


def answers_after(images, labels, steps):
    """Train a new network on these images; its answers to all test images."""
    learner = mg.models.MLP(SIZES, "sigmoid", generator=lesson.generator(1))
    mg.train.fit(
        learner,
        mg.nn.SumSquaredError(),
        mg.optim.SGD(learner.parameters(), lr=1.5),
        mg.data.batches(images, labels, batch_size=10, seed=lesson.seed, transform=rows),
        steps=steps,
        progress=False,
    )
    with mg.no_grad():
        outputs = learner(mg.tensor(digits.x_test.reshape(-1, 784)))
        return mg.argmax(outputs, axis=1).numpy()


steps = lesson.pick(1_000, 100)
twos = digits.y_train == 2
one_sided = answers_after(digits.x_train[twos], digits.y_train[twos], steps)
balanced = answers_after(digits.x_train, digits.y_train, steps)
print(f"only 2s seen:     {(one_sided == 2).mean():.2%} of the test images are called 2")
print(f"all digits seen:  {(balanced == 2).mean():.2%}")
lesson.check("only 2s seen: called 2", float((one_sided == 2).mean()), at_least=0.99)
lesson.check("all digits seen: called 2", float((balanced == 2).mean()), at_most=0.5)

# %% [markdown]
# ## So everybody is asked
#
# The gradient of the cost over many images is the mean of the gradients of each. A batch computes
# that mean in one go; image by image it comes out the same.

# %%
count = lesson.pick(100, 20)
many_x = mg.tensor(digits.x_train[:count].reshape(-1, 784), dtype="float64")
many_y = mg.one_hot(mg.tensor(digits.y_train[:count]), 10).astype("float64")


def gradient(x, y):
    """All 13,002 components of the gradient of the mean cost of the images x (n, 784)."""
    network.zero_grad()
    mg.nn.SumSquaredError()(network(x), y).backward()
    return [p.grad for p in network.parameters()]


singles = [gradient(many_x[i : i + 1], many_y[i : i + 1]) for i in range(count)]
means = [sum(parts) / count for parts in zip(*singles, strict=True)]
batch = gradient(many_x, many_y)
worst = max(gap(left, right) for left, right in zip(means, batch, strict=True))
lesson.check("mean of single gradients = batch: gap", worst, at_most=1e-12)

# %% [markdown]
# ## The picture
#
# Blue: up; red: down. Left above: the 2, the ten outputs and where each should go. Right above:
# what each of the ten neurons wishes of the 16 activations before it, and under the line the sum,
# which is what travels on backwards. Below: the nudges of the weights, each row the same
# pattern, that of the activations; and what ten different digits wish of the ten output biases.
# Every digit wants its own up and all others down; their mean is a compromise.

# %%
examples = [int(np.flatnonzero(digits.y_train == digit)[0]) for digit in range(10)]
columns = []
for i in examples:
    image = mg.tensor(digits.x_train[i].reshape(1, 784), dtype="float64")
    wish = mg.one_hot(mg.tensor(digits.y_train[i : i + 1]), 10).astype("float64")
    columns.append(-gradient(image, wish)[-1].numpy())
bias_nudges = np.stack([*columns, -batch[-1].numpy()], axis=1)  # (10, 11)
wished = np.concatenate([wishes.numpy(), wishes.numpy().sum(axis=0, keepdims=True)])  # (11, 16)


def signed(ax, values, gap_at=None):
    """A table of nudges: blue up, red down; one row or column may stand apart."""
    end = abs(values).max()
    ax.imshow(values, cmap=DIVERGING, vmin=-end, vmax=end, aspect="auto")
    if gap_at == "row":
        ax.axhline(len(values) - 1.5, color="#222222", linewidth=1.5)
    if gap_at == "column":
        ax.axvline(values.shape[1] - 1.5, color="#222222", linewidth=1.5)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)


with mg.viz.styled() as figure:
    fig = figure(figsize=(12, 8))
    above, below = fig.subfigures(2, 1)
    shown, outputs, table = above.subplots(1, 3, width_ratios=(0.8, 1, 1.9))
    shown.imshow(digits.x_train[two], cmap="gray")
    shown.set_axis_off()
    shown.set_title("this is shown")
    values = activations[-1].tolist()
    outputs.barh(range(10), values, color="#c8c8c8", height=0.7)
    for j, (value, nudge) in enumerate(zip(values, nudges, strict=True)):
        length = 0.6 * nudge / max(map(abs, nudges))
        outputs.annotate(
            "", (value + length, j), (value, j),
            arrowprops={"arrowstyle": "-|>", "color": BLUE if nudge > 0 else RED, "lw": 2},
        )  # fmt: skip
    outputs.set(yticks=range(10), xlim=(-0.65, 1.65), ylim=(9.6, -0.6), xticks=(0, 1))
    outputs.axvline(0, color=GREY, linewidth=0.8)
    outputs.set_title("its outputs (grey), nudges of the biases")
    outputs.set(xlabel="activation", ylabel="output neuron")
    signed(table, wished, "row")
    table.set_yticks(range(11), [*range(10), "sum"])
    table.set(xticks=range(16), xlabel="activation before the output layer")
    table.set_title("what each output neuron wishes of them: -δⱼ·wⱼₖ")

    left, right = below.subplots(1, 2)
    signed(left, weight_nudges)
    left.set(xticks=range(16), yticks=range(10), ylabel="output neuron", xlabel="weight")
    left.set_title("nudges of the weights: -δⱼ·aₖ, rank 1")
    signed(right, bias_nudges, "column")
    right.set_xticks(range(11), [*range(10), "mean"])
    right.set(yticks=range(10), xlabel=f"digit shown, and mean over {count} images")
    right.set_title("what each digit wishes of the ten output biases")
    fig.suptitle("Nudges: blue up, red down")
lesson.picture(fig, "nudges.png")

# %% [markdown]
# ## Try this
#
# 1. In `backpropagate`, replace the wish `2 * (a - y)` by `a - y`. Which cost has that gradient?
# 2. Show the network a 2 and follow its gradient alone, with a small step. Does the cost of that
#    image fall? What happens to the cost of a 7?
# 3. How many steps on 2s does it take until 99 % of all test images are called 2?
# 4. Compute ∂C/∂(pixel) for the 2: which pixels would the network like to be brighter?
#
# Solutions: `tutorials/solutions/ch03_backprop.py`.

# %%
lesson.finish()
