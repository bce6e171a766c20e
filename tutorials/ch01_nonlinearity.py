# %% [markdown]
# # Chapter 1: why squeeze at all, and why no longer with the sigmoid
#
# After every weighted sum comes a bent function, the sigmoid σ(x) or ReLU(x) = max(x, 0). What if
# we left it out? And why do people say that the sigmoid is a slow learner?

# %%
import numpy as np

import microgpt as mg
from microgpt import Scalar
from microgpt.learn import images, start

lesson = start("Chapter 1: nonlinearity, sigmoid and ReLU")
digits, is_mnist = images(lesson)
style = mg.viz.style

# %% [markdown]
# ## Without a bend, many layers are one
#
# W₂(W₁x + b₁) + b₂ = (W₂W₁)x + (W₂b₁ + b₂): two layers of weighted sums are one layer of weighted
# sums. So are four. The depth is an illusion. Shapes: x (50, 7), then (50, 20), (50, 20), (50, 20)
# and (50, 3); the one matrix that replaces them all is (3, 7).

# %%
source = lesson.generator()
with mg.configure(dtype="float64"):
    stack = [
        mg.nn.Linear(n, m, generator=source) for n, m in ((7, 20), (20, 20), (20, 20), (20, 3))
    ]
    x = mg.randn(50, 7, generator=source)

with mg.no_grad():
    through = x
    W, b = mg.eye(7, dtype="float64"), mg.zeros(7, dtype="float64")
    for layer in stack:
        through = layer(through)
        W, b = layer.weight @ W, layer.weight @ b + layer.bias
    at_once = x @ W.T + b
lesson.check("shape of the one matrix", str(W.shape), equals="(3, 7)")
lesson.check("four layers = one, difference", mg.max(mg.abs(through - at_once)), at_most=1e-10)

with mg.no_grad():
    bent = x
    for layer in stack:
        bent = mg.relu(layer(bent))
lesson.check("with ReLU they are not", mg.max(mg.abs(bent - at_once)), above=0.01)

# %% [markdown]
# ## What one layer cannot do: "either, but not both"
#
# XOR is 1 if exactly one of two inputs is 1. Let s be the weighted sum plus bias of a single
# neuron. For any weights, s(0,0) + s(1,1) = s(0,1) + s(1,0). XOR wants the left two negative and
# the right two positive, so it cannot be had: at best three of four are right. Try 20,000 neurons.

# %%
corners = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
xor = np.array([0, 1, 1, 0])

draws = source.normal(size=(20_000, 3))
sums = draws[:, :2] @ corners.T + draws[:, 2:]  # (20000, 4)
balance = np.abs(sums[:, 0] + sums[:, 3] - sums[:, 1] - sums[:, 2]).max()
scores = ((sums > 0) == xor).mean(1)
for score in (0.0, 0.25, 0.5, 0.75, 1.0):
    print(f"  {score:>4.0%} right: {(scores == score).sum():>6,} of 20,000 lines")
lesson.check("s(0,0)+s(1,1) − s(0,1)−s(1,0)", balance, at_most=1e-12)
lesson.check("best of 20,000 lines", scores.max(), equals=0.75)

# %% [markdown]
# Two bent neurons are enough, and one can write them down. The first counts the inputs, the second
# notices when both are there: XOR = ReLU(x₁ + x₂) − 2·ReLU(x₁ + x₂ − 1).

# %%
for (one, two), wish in zip(corners, xor, strict=True):
    count = Scalar(one) + Scalar(two)
    answer = count.relu() - 2 * (count - 1.0).relu()
    print(f"  {one:.0f} {two:.0f} → {answer.data:.0f}")
    lesson.check(f"XOR({one:.0f}, {two:.0f}), by hand", answer.data, equals=float(wish))

# %% [markdown]
# And can it be learned? A network 2-4-1 sees the four points 300 times. The cost is the
# cross-entropy of a yes/no answer; the answer is "yes" where the last sum is positive.

# %%
points, wishes = mg.tensor(corners, dtype="float32"), mg.tensor(xor[:, None], dtype="float32")


def learn_xor(sizes, activation, generator):
    """A trained network, and its share of right answers."""
    network = mg.models.MLP(sizes, activation, squash=False, generator=generator)
    optimizer = mg.optim.Adam(network.parameters(), lr=0.1)
    for _ in range(300):
        network.zero_grad()
        mg.binary_cross_entropy_with_logits(network(points), wishes).backward()
        optimizer.step()
    with mg.no_grad():
        return network, float(((network(points).numpy()[:, 0] > 0) == xor).mean())


line, line_score = learn_xor((2, 1), "tanh", lesson.generator(1))
tries = lesson.pick(10, 4)
trained = {
    activation: [learn_xor((2, 4, 1), activation, lesson.generator(2 + k)) for k in range(tries)]
    for activation in ("tanh", "relu")
}
bend, bend_score = max(trained["tanh"], key=lambda found: found[1])
solved = {name: sum(score == 1.0 for _, score in found) for name, found in trained.items()}
print(f"  of {tries} networks solved it: {solved['tanh']} with tanh, {solved['relu']} with ReLU")
lesson.check("XOR with one layer", line_score, at_most=0.75)
lesson.check("XOR with 2-4-1, tanh", bend_score, equals=1.0)
lesson.check("share of tanh networks that solve it", solved["tanh"] / tries, at_least=0.5)

# %% [markdown]
# (Over seeds 1–5: 9 or 10 of 10 with tanh, 3 to 8 with ReLU.) ReLU is no good choice here: of four
# neurons, one that is off for all points is never told how to get on again, and there are no
# others to do its work. In wide networks there always are.

# %%
ticks = np.linspace(-0.5, 1.5, 81)
across, up = np.meshgrid(ticks, ticks)
places = mg.tensor(np.stack([across.ravel(), up.ravel()], 1), dtype="float32")
with mg.viz.styled() as figure:
    fig = figure(figsize=(8.6, 4.2))
    for ax, network, title in zip(
        fig.subplots(1, 2),
        (line, bend),
        (f"One layer hedges: {line_score:.0%} right", f"2-4-1: {bend_score:.0%} right"),
        strict=True,
    ):
        with mg.no_grad():
            surface = mg.sigmoid(network(places)).numpy().reshape(across.shape)
        image = ax.pcolormesh(
            across, up, surface, cmap=style.DIVERGING, vmin=0, vmax=1, rasterized=True
        )
        for (one, two), wish in zip(corners, xor, strict=True):
            ax.plot(one, two, "o", ms=19, mfc=style.BLUE if wish else style.RED, mec="white", mew=2)
            ax.text(one, two, str(wish), color="white", ha="center", va="center", weight="bold")
        ax.set(xlabel="x₁", ylabel="x₂", aspect="equal", xticks=[0, 1], yticks=[0, 1])
        ax.set_title(title)
    fig.colorbar(image, ax=fig.axes[:2], label="the network's answer", shrink=0.85)
    fig.suptitle("XOR: what the network answers everywhere, in the circles the wish")
lesson.picture(fig, "xor.png")

# %% [markdown]
# ## The slow learner
#
# Now digits, and a deep network: six hidden layers of 30 neurons, 784-30-30-30-30-30-30-10. The
# output is a softmax with cross-entropy in all cases; an answer that knows nothing costs
# ln 10 = 2.30. Two networks differ in the bend only, σ or ReLU, each started as its textbook says:
# weights from N(0, 1/n) for σ and N(0, 2/n) for ReLU (which switches off half of what comes in),
# where n is the number of inputs; biases 0.

# %%
HIDDEN = 6


def deep(activation, spread, generator):
    """784-30-…-30-10 with weights from N(0, spread²/n)."""
    network = mg.models.MLP(
        (784, *[30] * HIDDEN, 10), activation, squash=False, generator=generator
    )
    for layer in network.layers:
        width = spread * layer.in_features**-0.5
        mg.nn.init.normal_(layer.weight, std=width, generator=generator)
        mg.nn.init.zeros_(layer.bias)
    return network


# %% [markdown]
# Before any training: how much does each layer feel? We take the gradient of the cost of 200
# images, and for every layer the typical size (root mean square) of its components.

# %%
first = mg.tensor(digits.x_train[:200].reshape(-1, 784))
labels = mg.tensor(digits.y_train[:200])
SPREADS = {"ReLU": ("relu", 2**0.5), "sigmoid": ("sigmoid", 1.0), "sigmoid ×4": ("sigmoid", 4.0)}
felt = {}
for name, (activation, spread) in SPREADS.items():
    network = deep(activation, spread, lesson.generator(50))
    mg.cross_entropy(network(first), labels).backward()
    felt[name] = [float(mg.sqrt(mg.mean(layer.weight.grad**2))) for layer in network.layers]
    ratio = felt[name][0] / felt[name][-1]
    print(f"  {name:<10} first layer {felt[name][0]:.1e}, last {felt[name][-1]:.1e}, {ratio:.1e}")
lesson.check("first/last gradient, sigmoid", felt["sigmoid"][0] / felt["sigmoid"][-1], below=1e-3)
lesson.check("first/last gradient, ReLU", felt["ReLU"][0] / felt["ReLU"][-1], above=0.1)

# %% [markdown]
# Over seeds 1–5 the ratio of the first layer to the last is about 1 to 10,000 for the sigmoid
# (6e-5 to 2e-4), and 0.5 to 0.8 for ReLU. The reason is in chapter 4: on its way back through a
# layer the gradient is multiplied by σ', which is at most ¼. ReLU' is 1 wherever a neuron is on.
#
# (The third row: with weights four times as large the ¼ is made up for. Keep it in mind.)
#
# ## The race
#
# The same mini-batches of 50 for all. The step sizes are the best of those tried (0.01 to 0.3 for
# ReLU, 0.3 to 10 for σ, with Adam 0.003 and 0.01). A network has arrived when the mean cost of 50
# steps is below the target.

# %%
steps, target = lesson.pick((2000, 0.5), (500, 1.2))
some = digits.head(10_000, 1)
print(f"{steps} steps, the target is a cost of {target}")


def rows(x, y):
    """Images as rows of 784 numbers."""
    return x.reshape(-1, 784), y


def race(activation, spread, optimizer, **options):
    """The cost of every step of a training."""
    network = deep(activation, spread, lesson.generator(50))
    batches = mg.data.batches(
        some.x_train, some.y_train, batch_size=50, seed=lesson.seed, transform=rows
    )
    chosen = optimizer(network.parameters(), **options)
    history = mg.train.fit(network, mg.nn.CrossEntropyLoss(), chosen, batches, steps=steps)
    return np.array(history.losses)


def arrival(costs):
    """The step at which the target is reached, or None."""
    means = np.convolve(costs, np.ones(50) / 50, "valid")
    below = np.flatnonzero(means < target)
    return int(below[0]) + 50 if len(below) else None


SGD, Adam = mg.optim.SGD, mg.optim.Adam
curves = {
    "ReLU": race("relu", 2**0.5, SGD, lr=0.1),
    "sigmoid": race("sigmoid", 1.0, SGD, lr=1.0),
    "sigmoid, weights ×4": race("sigmoid", 4.0, SGD, lr=1.0),
}
if not lesson.fast:
    curves["ReLU, Adam"] = race("relu", 2**0.5, Adam, lr=0.003)
    curves["sigmoid, Adam"] = race("sigmoid", 1.0, Adam, lr=0.01)
arrived = {name: arrival(costs) for name, costs in curves.items()}
for name, step in arrived.items():
    print(f"  {name:<20} {f'arrives at step {step}' if step else 'does not arrive'}")

# %% [markdown]
# Over seeds 1–5 on MNIST, ReLU arrives after 226–257 steps and the sigmoid network never: in 2,000
# steps it does not leave ln 10, "knowing nothing". That is worse than a slow learner, but it is not
# the whole truth either. Adam, which enlarges small gradients, gets it going: 483–1,110 steps,
# against 122–189 for ReLU with Adam. And with weights four times as large plain descent takes
# 344–432 steps. Then ReLU is ahead by a factor of 1.4 to 1.7 only (and on the small embedded digits
# they are level): much of the sigmoid's bad name belongs to a bad start.

# %%
late = steps + 1  # for those that do not arrive
lesson.check("ReLU arrives at step", arrived["ReLU"] or late, at_most=steps // 2)
lesson.check("steps ReLU / sigmoid", (arrived["ReLU"] or late) / (arrived["sigmoid"] or late),
             at_most=0.5)  # fmt: skip
lesson.check("sigmoid, last costs", curves["sigmoid"][-100:].mean(), at_least=2.2)
lesson.check("sigmoid ×4 arrives at step", arrived["sigmoid, weights ×4"] or late, at_most=steps)
if not lesson.fast:
    with_adam = (arrived["ReLU, Adam"] or late) / (arrived["sigmoid, Adam"] or late)
    lesson.check("with Adam, steps ReLU / sigmoid", with_adam, at_most=0.5)

# %%
with mg.viz.styled() as figure:
    fig = figure(figsize=(12, 4.4))
    left, right = fig.subplots(1, 2)
    colours = {"ReLU": style.COLOURS[1], "sigmoid": style.COLOURS[0]}
    for (name, sizes), mark in zip(felt.items(), "os^", strict=True):
        colour, dashes = colours[name.split()[0]], "--" if "×4" in name else "-"
        label = name.replace(" ×4", ", weights ×4")
        left.semilogy(range(1, HIDDEN + 2), sizes, dashes, marker=mark, color=colour, label=label)
    left.set(xlabel="layer, from the image to the answer", ylabel="typical gradient of a weight")
    left.set_title("Before training: what each layer feels")
    left.legend(loc="lower right")
    for name, costs in curves.items():
        colour = colours[name.split(",")[0]]
        dashes = "--" if "×4" in name else ":" if "Adam" in name else "-"
        means = np.convolve(costs, np.ones(50) / 50, "valid")
        right.plot(np.arange(50, len(costs) + 1), means, dashes, color=colour, label=name)
    right.axhline(np.log(10), color=style.GREY, lw=0.8)
    right.text(steps, 2.42, "knowing nothing: ln 10", color=style.GREY, ha="right")
    right.text(steps, target + 0.03, "target", color=style.GREY, ha="right")
    right.axhline(target, color=style.GREY, lw=0.8)
    right.set(xlabel="step", ylabel="cost (mean of 50 steps)", ylim=(0, 2.6))
    right.set_title("The race")
    right.legend(loc="upper right", bbox_to_anchor=(1, 0.86))
    fig.suptitle("Six hidden layers of sigmoids: the first ones feel nothing, and nothing happens")
lesson.picture(fig, "sigmoid_vs_relu.png")

# %% [markdown]
# ## Try this
#
# 1. At which number of hidden layers (1, 2, 3, 4) does the sigmoid network with N(0, 1/n) stop
#    learning within 500 steps?
# 2. Start the sigmoid network with weights 2, 4, 8, 16 and 32 times as large, and look at the
#    gradients of its layers. Is there such a thing as too much?
# 3. Solve XOR by hand with two sigmoids instead of two ReLUs (hint: large weights).
#
# Solutions: `tutorials/solutions/ch01_nonlinearity.py`.

# %%
lesson.finish()
