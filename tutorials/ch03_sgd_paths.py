# %% [markdown]
# # Chapter 3: the drunk and the careful man
#
# The exact gradient needs all examples before the first step can be taken. Stochastic gradient
# descent asks a few of them, takes a step, asks the next few. Its way downhill is crooked, and it
# arrives long before the other has set out. This lesson measures both: on a cost of two weights,
# whose paths can be drawn, and on the network of 13,002 numbers.

# %%
import math
from itertools import pairwise

import numpy as np

import microgpt as mg
from microgpt.learn import images, start
from microgpt.viz.style import COLOURS, GREY

lesson = start("Chapter 3: stochastic gradient descent")
digits, is_mnist = images(lesson)

# %% [markdown]
# ## Two weights
#
# A single neuron is to tell 8s from 3s by two numbers: how much ink is in the left half of the
# image, and how much in the right (an 8 has more at the left). Its output w₁·x₁ + w₂·x₂ should be
# +1 for an 8 and -1 for a 3; the cost is the squared difference. Bold writers have more ink in both
# halves, so x₁ and x₂ rise and fall together, and the cost becomes a long, narrow valley.

# %%
chosen = np.isin(digits.y_train, (3, 8))
pictures = digits.x_train[chosen][: lesson.pick(10_000, 2_000)].astype(np.float64)
count = len(pictures) // 100 * 100  # so that there are 100 mini-batches of equal size
pictures = pictures[:count]
ink = np.stack([pictures[:, :, :14].mean((1, 2)), pictures[:, :, 14:].mean((1, 2))], axis=1)
features = (ink - ink.mean(0)) / ink.std(0)  # (count, 2)
targets = np.where(digits.y_train[chosen][:count] == 8, 1.0, -1.0)  # (count,)
size = count // 100
print(f"{count:,} images, 100 mini-batches of {size}")


def cost_of(w, x, t):
    """Mean squared error of a neuron with weights w (2,) on examples x (n, 2), t (n,)."""
    return mg.mean((x @ w - t) ** 2)


gradient = mg.grad(cost_of)
x = mg.tensor(features, dtype="float64")
t = mg.tensor(targets, dtype="float64")

# %% [markdown]
# For one example, in single numbers, that is: error = w₁·x₁ + w₂·x₂ - t, cost = error². The mean of
# its gradients over a mini-batch must be the gradient of the mini-batch.


# %%
def scalar_gradient(w1, w2, x1, x2, t):
    """∂C/∂w₁ and ∂C/∂w₂ of one example, by the scalar engine."""
    a, b = mg.Scalar(w1), mg.Scalar(w2)
    error = a * x1 + b * x2 - t
    (error**2).backward()
    return a.grad, b.grad


START = (-1.2, 0.2)
each = [scalar_gradient(*START, *features[i], targets[i]) for i in range(size)]
of_batch = gradient(mg.tensor(START, dtype="float64"), x[:size], t[:size])
off = np.abs(np.mean(each, axis=0) - of_batch.numpy()).max()
lesson.check("scalars averaged = mini-batch: gap", float(off), at_most=1e-12)

# %% [markdown]
# ## Every mini-batch is an estimate
#
# At fixed weights the 100 gradients of the 100 mini-batches average to the full gradient exactly:
# none is right, but they are not wrong in a common direction. Each costs a hundredth of the work.

# %%
order = lesson.generator(1).permutation(count)
parts = [mg.tensor(order[i : i + size]) for i in range(0, count, size)]
here = mg.tensor(START, dtype="float64")
estimates = np.stack([gradient(here, x[part], t[part]).numpy() for part in parts])  # (100, 2)
full = gradient(here, x, t).numpy()
off = float(np.abs(estimates.mean(axis=0) - full).max())
lesson.check("mini-batches", len(parts), equals=100)
lesson.check("examples of one / of all", len(parts[0]) / count, equals=1 / 100)
lesson.check("2 weights: mean of 100 = full: gap", off, at_most=1e-12)
print(f"full gradient {full.round(2)}, mini-batches {estimates.mean(0).round(2)} ± "
      f"{estimates.std(0).round(2)}")  # fmt: skip

# %% [markdown]
# The same for all 13,002 components of the network of chapter 1, in float64. (At the start nearly
# all images agree that outputs should be dark, so the directions hardly differ yet.)

# %%
network = mg.models.MLP((784, 16, 16, 10), "sigmoid", generator=lesson.generator())
network.to(dtype="float64")
many = lesson.pick(10_000, 1_000) // 100 * 100
images_all = digits.x_train[:many].reshape(-1, 784)
labels_all = digits.y_train[:many]
many = len(images_all) // 100 * 100


def network_gradient(rows):
    """All components of the gradient of the mean cost of some images, as one array."""
    pixels = mg.tensor(images_all[rows], dtype="float64")
    wishes = mg.one_hot(mg.tensor(labels_all[rows]), 10).astype("float64")
    network.zero_grad()
    mg.nn.SumSquaredError()(network(pixels), wishes).backward()
    return np.concatenate([p.grad.numpy().reshape(-1) for p in network.parameters()])


exact = network_gradient(slice(0, many))
mean, cosines = np.zeros_like(exact), []
for i in lesson.progress(range(100), "mini-batches"):
    estimate = network_gradient(slice(i * many // 100, (i + 1) * many // 100))
    mean += estimate / 100
    cosines.append(float(estimate @ exact / np.sqrt((estimate @ estimate) * (exact @ exact))))
off = float(np.abs(mean - exact).max())
lesson.check("13,002: mean of 100 = full: gap", off, at_most=1e-12)
lesson.check("least cosine to the full gradient", min(cosines), above=0.0)
print(f"cosine between mini-batch and full gradient: {min(cosines):.2f} to {max(cosines):.2f}")

# %% [markdown]
# ## Three ways down
#
# Same start, same step size 0.05, same number of steps: with all examples, with mini-batches, and
# with a single example for each step (that one by the scalar engine).

# %%
RATE, STEPS = 0.05, 150


def walk(batch):
    """STEPS steps with so many examples each: the weights after every step, (STEPS + 1, 2)."""
    w, path = mg.tensor(START, dtype="float64"), [START]
    for step in range(STEPS):
        rows = np.arange(step * batch, (step + 1) * batch) % count
        part = slice(None) if batch == count else mg.tensor(order[rows])
        w = w - RATE * gradient(w, x[part], t[part])
        path.append(tuple(w.tolist()))
    return path


def stagger(steps):
    """The same with one example for each step."""
    path = [START]
    for step in range(steps):
        i = order[step % count]
        g1, g2 = scalar_gradient(*path[-1], *features[i].tolist(), float(targets[i]))
        path.append((path[-1][0] - RATE * g1, path[-1][1] - RATE * g2))
    return path


paths = {"all examples": walk(count), "mini-batches": walk(size), "single examples": stagger(STEPS)}
lengths = {name: sum(math.dist(a, b) for a, b in pairwise(path)) for name, path in paths.items()}
lowest = np.linalg.solve(features.T @ features, features.T @ targets)
for name, path in paths.items():
    away = math.dist(path[-1], lowest)
    print(f"{name:<16} path {lengths[name]:6.2f} long, ends {away:.2f} from the lowest point")

# %% [markdown]
# The straight line from the start to the lowest point is 2.2 long. Over seeds 1 to 5 the three
# paths measure 2.4, 3.1–3.3 and 14.0–19.2: a careful man, a tipsy one, a drunk.

# %%
lesson.check("path: mini-batches / all", lengths["mini-batches"] / lengths["all examples"], above=1)
ratio = lengths["single examples"] / lengths["mini-batches"]
lesson.check("path: single / mini-batches", ratio, above=1)

# %% [markdown]
# ## What it costs
#
# But steps are not what takes time. Examples are. After each example has been looked at once, the
# careful man has taken one step, mini-batches 100 of them.
#
# (The drunk, who took one for each example, is down there too, but cannot keep still: every example
# pulls him elsewhere, and with a fixed step size he goes on reeling around the lowest point.)


# %%
def height(path):
    """The cost over all examples at each point of a path (points, 2)."""
    w = mg.tensor(path, dtype="float64")
    return mg.mean((w @ x.T - t) ** 2, axis=1).tolist()


one_pass = {
    "all examples": height(paths["all examples"][:2])[-1],
    "mini-batches": height(paths["mini-batches"][:101])[-1],
}
floor = height([tuple(lowest)])[0]
print(f"lowest possible cost {floor:.3f}; after one pass: ", end="")
print(", ".join(f"{name} {value:.3f}" for name, value in one_pass.items()))
lesson.check(
    "2 weights: cost after one pass", one_pass["mini-batches"], below=one_pass["all examples"]
)

# %% [markdown]
# And the network? One pass over the images again: 100 steps with mini-batches, or one with all,
# which may choose the best of five step sizes.


# %%
def rows(x, y):
    """Images as rows of 784 numbers, labels as rows of ten."""
    return x.reshape(-1, 784), mg.one_hot(y, 10)


def cost_after(batch, rate):
    """Train for one pass; the cost over the same images."""
    learner = mg.models.MLP((784, 16, 16, 10), "sigmoid", generator=lesson.generator(2))
    cost = mg.nn.SumSquaredError()
    data = mg.data.batches(
        images_all[:many], labels_all[:many], batch_size=batch, seed=lesson.seed, transform=rows
    )
    optimizer = mg.optim.SGD(learner.parameters(), lr=rate)
    mg.train.fit(learner, cost, optimizer, data, epochs=1, progress=False)
    pixels, wishes = rows(mg.tensor(images_all[:many]), mg.tensor(labels_all[:many]))
    with mg.no_grad():
        return cost(learner(pixels), wishes).item()


careful = {rate: cost_after(many, rate) for rate in (0.5, 1.5, 5.0, 15.0, 50.0)}
print("one step with all:", ", ".join(f"η={rate} {cost:.3f}" for rate, cost in careful.items()))
quick = cost_after(many // 100, 1.5)
print(f"100 steps with mini-batches, η=1.5: {quick:.3f}")
lesson.check("13,002: cost after one pass", quick, below=min(careful.values()))

# %% [markdown]
# ## The picture
#
# Three paths over the contour lines of the cost, and below the cost against the examples looked at.

# %%
drunk = stagger(count)  # on and on
curves = {
    "all examples": (count, paths["all examples"]),
    "mini-batches": (size, paths["mini-batches"]),
    "single examples": (1, drunk),
}
reach = 1.1 * max(abs(np.array(path) - lowest).max() for path in paths.values())
axis1, axis2 = (np.linspace(low - reach, low + reach, 80) for low in lowest)
grid = np.stack(np.meshgrid(axis1, axis2), axis=-1).reshape(-1, 2)
surface = np.concatenate([height(part) for part in np.split(grid, 80)]).reshape(80, 80)

with mg.viz.styled() as figure:
    fig = figure(figsize=(12, 8))
    above, below = fig.subfigures(2, 1, height_ratios=(1.35, 1))
    panels = above.subplots(1, 3, sharex=True, sharey=True)
    for ax, (name, path), colour in zip(panels, paths.items(), COLOURS, strict=False):
        levels = floor + 0.05 * 2.0 ** np.arange(9)
        ax.contour(axis1, axis2, surface, levels=levels, colors="#b8b8b8", linewidths=0.8)
        ax.plot(*zip(*path, strict=True), color=colour, linewidth=1.4)
        ax.plot(*START, "o", color="#222222", markersize=6)
        ax.plot(*lowest, "*", color="#222222", markersize=12)
        ax.set_title(f"{name}: {lengths[name]:.1f} long", color=colour)
        ax.set(xlabel="w₁ (ink at the left)", aspect="equal")
    panels[0].set_ylabel("w₂ (ink at the right)")
    above.suptitle(f"{STEPS} steps downhill: careful, tipsy, drunk (● start, ★ lowest point)")
    ax = below.subplots()
    for (name, (batch, path)), colour in zip(curves.items(), COLOURS, strict=False):
        stops = sorted({int(s) for s in np.geomspace(1, len(path) - 1, 300)})
        excess = np.array(height([path[s] for s in stops])) - floor
        ax.plot([batch * s for s in stops], excess, color=colour, label=name,
                linewidth=0.9 if batch == 1 else 1.8)  # fmt: skip
    ax.axvline(count, color=GREY, linestyle=":", linewidth=1)
    ax.text(count * 1.05, 0.00012, "one pass over the data", color=GREY, fontsize=9)
    ax.set(xscale="log", yscale="log", ylim=(1e-4, None), xlabel="examples looked at")
    ax.set(ylabel="cost above the lowest", title="The drunk and the tipsy arrive first")
    ax.legend(loc="lower left")
    ax.grid()
lesson.picture(fig, "paths.png")

# %% [markdown]
# ## Try this
#
# 1. How does the spread of the mini-batch gradients fall with the size of the batch? Measure it for
#    sizes 1, 4, 16, 64 and find the law.
# 2. Let the drunk take smaller and smaller steps, 0.05 / (1 + step / 200). Where does he end?
# 3. Is the order of the examples important? Walk with mini-batches of only 3s, then only 8s.
#
# Solutions: `tutorials/solutions/ch03_sgd_paths.py`.

# %%
lesson.finish()
