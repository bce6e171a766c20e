# %% [markdown]
# # Chapter 2: a cost, and the way down
#
# The two ideas behind lesson `ch02_digits` in their smallest form: a number that says how wrong an
# answer is, and a ball that rolls downhill.

# %%
import numpy as np

import microgpt as mg
from microgpt import Scalar
from microgpt.learn import images, start

lesson = start("Chapter 2: the cost, and gradient descent in one and two dimensions")
digits, is_mnist = images(lesson)

# %% [markdown]
# ## How wrong is an answer?
#
# The image shows a 3. The wish is 1 for the output "3" and 0 for the nine others, and the cost is
# Σ(a − y)², the sum of the squared differences. Guess the order of these answers, and run the cell.


# %%
def cost_of(answer, wish):
    """Σ(a − y)² of one example."""
    return sum((a - y) ** 2 for a, y in zip(answer, wish, strict=True))


three = [0, 0, 0, 1, 0, 0, 0, 0, 0, 0]
answers = {
    "A: 3, but perhaps an 8": [0.0, 0.1, 0.1, 0.7, 0.0, 0.1, 0.0, 0.0, 0.3, 0.0],
    "B: surely a 3": [0.0, 0.0, 0.0, 0.95, 0.0, 0.1, 0.0, 0.0, 0.0, 0.0],
    "C: torn between 3, 5 and 8": [0.1, 0.0, 0.2, 0.5, 0.0, 0.6, 0.0, 0.1, 0.5, 0.2],
    "D: surely an 8": [0.0, 0.0, 0.1, 0.1, 0.0, 0.2, 0.0, 0.0, 0.9, 0.0],
}
costs = {name: cost_of(answer, three) for name, answer in answers.items()}
for name, value in costs.items():
    print(f"  {name:<28} {value:.4f}")
order = ">".join(name[0] for name in sorted(costs, key=costs.get, reverse=True))
lesson.check("order of the costs", order, equals="D>C>A>B")

# %% [markdown]
# Being sure and wrong is the most expensive. And saying nothing, ten zeros, costs exactly 1.

# %%
lesson.check("cost of ten zeros", cost_of([0.0] * 10, three), equals=1.0)

# %% [markdown]
# ## The best answer without looking
#
# One and the same answer to every image, all digits equally frequent: let gradient descent find
# the best one. It is ten numbers c, (10,), with cost Σ(c − y)² for each of the wishes (10, 10).

# %%
wishes = mg.eye(10, dtype="float64")
c = mg.rand(10, generator=lesson.generator(), dtype="float64", requires_grad=True)
for _ in range(60):
    c.grad = None
    blind_cost = mg.sum((c - wishes) ** 2) / 10.0
    blind_cost.backward()
    c.data = c.data - 0.25 * c.grad
print("the best blind answer:", np.round(c.numpy(), 6))
floor = mg.sum((c.detach() - wishes) ** 2) / 10.0
lesson.check("furthest output from 0.1", mg.max(mg.abs(c.detach() - 0.1)), at_most=1e-12)
lesson.check("cost of the best blind answer", floor, near=0.9, within=1e-12)

# %% [markdown]
# So 0.9 = 9·0.1² + 0.9² is the floor for an answer that knows nothing. A network whose cost stays
# there has learned how many digits there are, and nothing else. (In real data the digits are not
# quite equally frequent; with shares p the floor is 1 − Σp².)

# %%
shares = np.bincount(digits.y_train, minlength=10) / len(digits.y_train)
print(f"floor for the digits of {digits.name}: {1 - (shares**2).sum():.4f}")

# %% [markdown]
# ## A network that knows nothing
#
# A fresh network is worse: its answers are not cautious but random. Take the 784-16-16-10 of the
# video twenty times, with weights and biases from the normal distribution N(0, 1), and twenty
# times with the weights divided by √(number of inputs), which keeps the sums moderate.

# %%
x = mg.tensor(digits.x_train[:1000].reshape(-1, 784))  # (1000, 784)
y = mg.one_hot(mg.tensor(digits.y_train[:1000]), 10)  # (1000, 10)
squared = mg.nn.SumSquaredError()


def random_network(generator, scaled):
    """784-16-16-10 with normal weights and biases."""
    network = mg.models.MLP((784, 16, 16, 10), "sigmoid", generator=generator)
    for layer in network.layers:
        spread = layer.in_features**-0.5 if scaled else 1.0
        mg.nn.init.normal_(layer.weight, std=spread, generator=generator)
        mg.nn.init.normal_(layer.bias, generator=generator)
    return network


def first_cost(stream, scaled):
    """Cost of the untrained network number `stream`."""
    with mg.no_grad():
        return squared(random_network(lesson.generator(stream), scaled)(x), y).item()


wild = [first_cost(stream, scaled=False) for stream in range(20)]
calm = [first_cost(stream, scaled=True) for stream in range(20)]
for name, found in (("N(0, 1)", wild), ("N(0, 1/√n)", calm)):
    print(f"  {name:<11} mean cost {np.mean(found):.2f}, from {min(found):.2f} to {max(found):.2f}")

# %% [markdown]
# Over seeds 1–5 the means of twenty were 3.5–4.1 and 3.0–3.3 (single networks: 1.5–5.9). Saying
# nothing costs 1, and answering ½ everywhere 2.5; these networks are worse, because many of their
# outputs are near 1.

# %%
lesson.check("mean cost, N(0, 1)", np.mean(wild), at_least=2, at_most=6)
lesson.check("mean cost, N(0, 1/√n)", np.mean(calm), at_least=2, at_most=6)
lesson.check("lowest cost of forty networks", min(wild + calm), above=0.9)

# %% [markdown]
# ## Downhill in one dimension
#
# Forget networks for a moment: f(x) = ½(x − 3)² + 2. Its slope is x − 3: it points uphill and
# shrinks near the bottom. Step against it, x ← x − η·f'(x), and by the algebra of this function the
# distance to the bottom is multiplied by (1 − η) in every step, wherever one starts.


# %%
def bowl(x):
    """½(x − 3)² + 2"""
    return 0.5 * (x - 3) ** 2 + 2


def descend(f, x, rate, steps):
    """The places that gradient descent visits, the start first."""
    path = [x]
    for _ in range(steps):
        x = Scalar(path[-1])
        f(x).backward()
        path.append(x.data - rate * x.grad)
    return path


RATES = (0.3, 1.7, 2.1)
worst = 0.0
for rate in RATES:
    for begin in (-2.0, 0.5, 7.0):
        away = np.array(descend(bowl, begin, rate, 15)) - 3
        worst = max(worst, float(np.abs(away[1:] / away[:-1] - (1 - rate)).max()))
    print(f"  η = {rate}: each step multiplies the distance to 3 by {away[1] / away[0]:+.2f}")
lesson.check("distance ratio = 1−η, largest error", worst, at_most=1e-9)
lesson.check("η=1.7 still arrives", abs(descend(bowl, 7.0, 1.7, 60)[-1] - 3), at_most=1e-6)
lesson.check("η=2.1 runs away", abs(descend(bowl, 7.0, 2.1, 60)[-1] - 3), above=4.0)

# %% [markdown]
# With η between 1 and 2 the ball jumps over the bottom and still comes to rest; beyond 2 every jump
# is longer than the last.
#
# ## Two valleys
#
# Where the ball starts decides where it ends, and it never knows of the deeper valley next door.


# %%
def valleys(x):
    """Two valleys, the left one deeper."""
    return 0.25 * x**4 - x**2 + 0.3 * x + 2


STARTS = (-2.4, -0.2, 0.5, 2.3)
runs = {begin: descend(valleys, begin, 0.08, 200) for begin in STARTS}
for begin, path in runs.items():
    print(f"  from {begin:+.1f} to {path[-1]:+.4f}, height {valleys(path[-1]):.4f}")
left, right = runs[-2.4][-1], runs[2.3][-1]
lesson.check("two different valleys", right - left, above=2.0)
gap = runs[0.5][-1] - runs[-0.2][-1]
lesson.check("nearby starts can part", gap, near=right - left, within=1e-6)

# %% [markdown]
# ## Two dimensions: which way is down?
#
# g(x, y) = 3/2·x² + ½·y². Now there is no single slope but a direction: the gradient collects both
# derivatives, (3x, y). At (1, 1) it is (3, 1), which says two things: uphill is that way, and a
# nudge of x matters three times as much as one of y. The second can be pictured in 13,002
# dimensions, too.


# %%
def long_bowl(place):
    """3/2 x² + ½ y² of a tensor (2,)."""
    return mg.sum(mg.tensor([1.5, 0.5], dtype=place.dtype) * place**2)


here = mg.tensor([1.0, 1.0], dtype="float64", requires_grad=True)
long_bowl(here).backward()
lesson.check("gradient at (1, 1)", str(tuple(here.grad.tolist())), equals="(3.0, 1.0)")

# %% [markdown]
# Is it the steepest way? Try 3,600 directions and see in which the ground rises most.

# %%
angles = np.radians(np.arange(3600) / 10)
around = 1 + 1e-6 * np.array([np.cos(angles), np.sin(angles)])
heights = 1.5 * around[0] ** 2 + 0.5 * around[1] ** 2
steepest = np.degrees(angles[heights.argmax()])
of_gradient = np.degrees(np.arctan2(1, 3))
lesson.check("steepest direction in degrees", steepest, near=of_gradient, within=0.1)

place = mg.tensor([1.0, 1.0], dtype="float64", requires_grad=True)
path = [place.tolist()]
for _ in range(25):
    place.grad = None
    long_bowl(place).backward()
    place.data = place.data - 0.2 * place.grad
    path.append(place.tolist())
path = np.array(path)
lesson.check("distance to the bottom after 25 steps", np.hypot(*path[-1]), below=0.01)

# %%
style = mg.viz.style
with mg.viz.styled() as figure:
    fig = figure(figsize=(13, 4))
    one, two, contour = fig.subplots(1, 3)

    line = np.linspace(-4, 10, 200)
    one.plot(line, bowl(line), color=style.GREY, lw=1)
    for rate, colour in zip(RATES, style.COLOURS, strict=False):
        visited = np.array(descend(bowl, 6.0, rate, 5))
        one.plot(visited, bowl(visited), "o-", color=colour, ms=4, lw=1.2, label=f"η = {rate}")
    one.plot(6, bowl(6.0), "ko", ms=7)
    one.set(xlabel="x", ylabel="cost", ylim=(-1.5, 16), xlim=(-3, 9))
    one.set_title("Five steps: creep, overshoot, run away")
    one.legend(loc="lower left")

    line = np.linspace(-2.6, 2.5, 200)
    two.plot(line, valleys(line), color=style.GREY, lw=1)
    for (begin, visited), colour in zip(runs.items(), style.COLOURS, strict=False):
        visited = np.array(visited)
        two.plot(visited, valleys(visited), ".-", color=colour, lw=1.2)
        two.plot(begin, valleys(begin), "o", color=colour, ms=8)
    for end in (left, right):
        low, text = valleys(end), f"ends at {end:.2f}".replace("-", "−")
        two.annotate(text, (end, low - 0.05), (end, low - 0.75), ha="center",
                     arrowprops={"arrowstyle": "->", "color": style.GREY})  # fmt: skip
    two.set(xlabel="x", ylabel="cost", ylim=(-1, 4.6))
    two.set_title("Two valleys: the start decides")

    grid = np.linspace(-1.5, 1.5, 121)
    across, up = np.meshgrid(grid, grid)
    levels = [0.02, 0.1, 0.25, 0.5, 0.9, 1.4, 2, 2.8]
    ground = 1.5 * across**2 + 0.5 * up**2
    contour.contour(across, up, ground, levels, colors="#bbbbbb", linewidths=1)
    contour.plot(*path.T, "o-", color=style.BLUE, ms=4, lw=1.2)
    arrow = {"arrowstyle": "-|>", "color": style.RED, "lw": 2}
    contour.annotate("", (1 + 3 / 8, 1 + 1 / 8), (1, 1), arrowprops=arrow)
    contour.text(1.4, 1.2, "gradient (3, 1)", color=style.RED, ha="right",
                 bbox={"fc": "white", "ec": "none", "pad": 1})  # fmt: skip
    contour.set(xlabel="x", ylabel="y", aspect="equal", xlim=(-1.35, 1.5), ylim=(-1.35, 1.35))
    contour.set_title("Against the gradient, step by step")
lesson.picture(fig, "descent_1d_2d.png")

# %% [markdown]
# ## Back to the network: one weight of 12,960
#
# Turn a single weight and watch the cost of 100 images: a curve as above, and the component of the
# gradient that belongs to this weight is its slope. (We need many digits now, hence float64.)

# %%
with mg.configure(dtype="float64"):
    network = random_network(lesson.generator(100), scaled=False)
pixels = mg.tensor(digits.x_train[:100].reshape(-1, 784), dtype="float64")
targets = mg.one_hot(mg.tensor(digits.y_train[:100]), 10).double()
squared(network(pixels), targets).backward()

weights = [layer.weight for layer in network.layers]
slopes = [weight.grad.numpy() for weight in weights]
strongest = max(range(3), key=lambda i: np.abs(slopes[i]).max())
W, dW = weights[strongest], slopes[strongest]
strong = np.unravel_index(np.abs(dW).argmax(), dW.shape)
weak = np.unravel_index(np.abs(np.abs(dW) - abs(dW[strong]) / 32).argmin(), dW.shape)
start_values = W.numpy()


def with_weight(place, value, squash=mg.sigmoid):
    """The cost when the weight at `place` has another value."""
    changed = start_values.copy()
    changed[place] = value
    W.data = changed
    with mg.no_grad():
        a = pixels
        for layer in network.layers:
            a = squash(layer(a))
        cost = squared(a, targets).item()
    W.data = start_values
    return cost


for name, spot in (("strong", strong), ("weak", weak)):
    w, h = start_values[spot], 1e-4
    measured = (with_weight(spot, w + h) - with_weight(spot, w - h)) / (2 * h)
    lesson.check(f"{name} slope, relative error", abs(measured / dW[spot] - 1), at_most=1e-6)

# %% [markdown]
# In the video one component of the gradient is 3.2 and another 0.1: the first weight is 32 times as
# sensitive. We picked two weights whose components come as close to that ratio as they can. Does
# it come out when we nudge them by the same small amount?

# %%
h = 1e-6
now = with_weight(strong, start_values[strong])
rises = [with_weight(spot, start_values[spot] + h) - now for spot in (strong, weak)]
expected = dW[strong] / dW[weak]
print(f"ratio of the components {expected:+.3f}, of the changes in cost {rises[0] / rises[1]:+.3f}")
lesson.check("ratio of effects / components", rises[0] / rises[1] / expected, near=1.0, within=1e-3)

# %% [markdown]
# ## Why neurons are not switches
#
# Early artificial neurons were switches: 1 if the weighted sum is positive, else 0. Let the engine
# differentiate (step(w·a + b) − 1)², and the same with a sigmoid, for 1,000 random w and b.


# %%
def step(z):
    """1 for z > 0, 0 for z < 0."""
    return (mg.sign(z) + 1) * 0.5


source = lesson.generator(200)
flat, felt = 0, 0
for _ in range(1000):
    for squash in (step, mg.sigmoid):
        w, b = Scalar(source.normal()), source.normal()
        ((squash(w * 0.8 + b) - 1.0) ** 2).backward()
        flat += squash is step and w.grad == 0
        felt += squash is mg.sigmoid and w.grad != 0
lesson.check("switches with gradient 0, of 1,000", flat, equals=1000)
lesson.check("sigmoids with gradient ≠ 0, of 1,000", felt, equals=1000)

# %% [markdown]
# The cost of a whole network of switches is a staircase: turn a weight far enough and an image tips
# over. But every stair is flat, all 13,002 components are exactly 0: no way down to be seen.

# %%
network.zero_grad()
a = pixels
for layer in network.layers:
    a = step(layer(a))
squared(a, targets).backward()
largest = max(float(mg.max(mg.abs(p.grad))) for p in network.parameters())
lesson.check("largest of 13,002 components", largest, equals=0.0)

sweep = np.linspace(-8, 8, lesson.pick(401, 161))
stairs = np.array([with_weight(strong, value, step) for value in sweep])
smooth = np.array([with_weight(strong, value) for value in sweep])
faint = np.array([with_weight(weak, value) for value in sweep])
lesson.check("the staircase has more than one stair", len(np.unique(stairs)), above=1)

# %%
with mg.viz.styled() as figure:
    fig = figure(figsize=(13, 4))
    panels = fig.subplots(1, 3)
    for ax, spot, curve, name in (
        (panels[0], strong, smooth, "A weight that matters"),
        (panels[1], weak, faint, f"One that matters {abs(expected):.0f} times less"),
    ):
        w, here_cost = start_values[spot], with_weight(spot, start_values[spot])
        ax.plot(sweep, curve, color=style.BLUE)
        near = np.array([w - 2, w + 2])
        ax.plot(near, here_cost + dW[spot] * (near - w), "--", color=style.RED, lw=1.4)
        ax.plot(w, here_cost, "o", color=style.RED)
        ax.text(0.03, 0.95, f"slope here = ∂C/∂w = {dW[spot]:+.3f}", color=style.RED,
                transform=ax.transAxes, va="top")  # fmt: skip
        ax.set(xlabel="value of the weight", ylabel="cost of 100 images")
        ax.set_title(name)
    low = min(smooth.min(), faint.min(), now - 2 * abs(dW[strong]))
    high = max(smooth.max(), faint.max(), now + 2 * abs(dW[strong]))
    for ax in panels[:2]:
        ax.set_ylim(low - 0.1 * (high - low), high + 0.25 * (high - low))
    panels[2].step(sweep, stairs, where="mid", color=style.COLOURS[1])
    panels[2].set(xlabel="value of the weight", ylabel="cost of 100 images")
    panels[2].set_title("The first weight again, neurons as switches")
lesson.picture(fig, "cost_one_weight.png")

# %% [markdown]
# ## Try this
#
# 1. Which constant answer is best if 91 % of the images show a 1 and each other digit 1 %? What
#    does it cost?
# 2. Add momentum to `descend`: v ← 0.9·v − η·f'(x), x ← x + v. Does the ball that starts at 2.3 now
#    get over the hill?
# 3. On 3/2·x² + ½·y², how large may η be before the path runs away? And which η gets closest to
#    the bottom in 25 steps?
# 4. Give the step a gentle slope: σ(k·z) with k = 1, 10, 100. What becomes of the gradient?
#
# Solutions: `tutorials/solutions/ch02_descent.py`.

# %%
lesson.finish()
