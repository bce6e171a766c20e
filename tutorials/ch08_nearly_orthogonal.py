# %% [markdown]
# # Chapter 8: how many directions fit into a space?
#
# If ideas are directions, a space of d dimensions seems to hold d of them: no more can be
# perpendicular to each other. Allow them to be *nearly* perpendicular, and there is suddenly room
# for very many; that is what the end of the chapter is about. Its demonstration went wrong,
# though, as the written lesson admits. Here is what happened, why it could not have worked, what
# does, and how big the numbers really get.

# %%
import math

import numpy as np

import microgpt as mg
from microgpt.learn import start
from microgpt.viz.style import BLUE, COLOURS, GREY, RED

lesson = start("Chapter 8: nearly perpendicular vectors")
lesson.uses("generated: random vectors")


def normalised(v):
    """Every row of v, (n, d), at length 1."""
    return v / mg.sqrt(mg.sum(v * v, axis=1, keepdims=True))


def random_vectors(n, d, stream=0):
    """n random directions in d dimensions."""
    return normalised(mg.randn(n, d, generator=lesson.generator(stream)))


def dot_products(v):
    """v·w of every pair of rows, each pair once."""
    return (v @ v.mT).numpy()[np.triu_indices(v.shape[0], 1)]


def angles(dots):
    """Angles in degrees."""
    return np.degrees(np.arccos(np.clip(dots, -1, 1)))


# %% [markdown]
# ## Chance does much of the work
#
# In the plane two random directions enclose any angle. In high dimensions nearly all angles are
# close to 90°: a dot product of random unit vectors has mean 0 and variance 1/d. We draw 10,000
# vectors in 100 dimensions, as the video does. That makes 50 million pairs, counted in blocks.

# %%
n, d = lesson.pick(10_000, 1_000), 100
v = random_vectors(n, d)
within = {1: 0, 5: 0}
squares = 0.0
for i in range(0, n, 1000):
    dots = v[i : i + 1000] @ v.mT  # (1000, n)
    squares += mg.sum(dots * dots).item()
    for degrees in within:
        close = mg.abs(dots) < math.sin(math.radians(degrees))
        within[degrees] += mg.sum(close.astype("float32")).item()
pairs = n * (n - 1)  # every pair twice; a vector with itself is at 0°, and its square is 1
share = {degrees: count / pairs for degrees, count in within.items()}
rms = math.sqrt((squares - n) / pairs)

# %% [markdown]
# What should come out: the dot product x of two random directions has a density proportional to
# (1 - x²)^((d-3)/2). Its integral gives the share within some degrees of 90°.


# %%
def expected_share(degrees, d):
    """Probability that random directions are within so many degrees of perpendicular."""
    x = np.linspace(0, 1, 200_001)
    density = (1 - x * x) ** ((d - 3) / 2)
    return density[x < math.sin(math.radians(degrees))].sum() / density.sum()


for degrees in (1, 5):
    theory = expected_share(degrees, d)
    print(f"within ±{degrees}°: {share[degrees]:.2%}, expected {theory:.2%}")
    lesson.check(
        f"pairs within ±{degrees}°", share[degrees], near=theory, within=lesson.pick(0.001, 0.01)
    )
lesson.check("root mean square of the dot products", rms, near=1 / math.sqrt(d), within=0.001)

# %% [markdown]
# ## The video's demonstration, and its bug
#
# Only 14 % within ±1°. So the demonstration lets gradient descent push the vectors apart. The
# cost adds up, over all pairs, by how much |v·w| exceeds 0.01, with a second term that keeps the
# lengths at 1. Afterwards the histogram is a sharp peak at 90°: it looks as if all pairs were
# between 89° and 91°. We do the same with a tenth of the vectors.


# %%
def push_apart(n, d, steps, lr):
    """Minimise the sum of |dot product| - 0.01 where that is positive."""
    v = random_vectors(n, d, 1).detach()
    v.requires_grad = True
    optimizer = mg.optim.Adam([v], lr=lr)
    for _ in lesson.progress(range(steps), "pushing apart"):
        off = v @ v.mT - mg.eye(n)
        lengths = mg.sum(v * v, axis=1) - 1
        cost = mg.sum(mg.relu(mg.abs(off) - 0.01)) + n * mg.sum(mg.square(lengths))
        optimizer.zero_grad()
        cost.backward()
        optimizer.step()
    return normalised(v.detach())


n_bug, d_bug = lesson.pick((1000, 100), (300, 30))
buggy = dot_products(push_apart(n_bug, d_bug, *lesson.pick((250, 0.01), (150, 0.02))))
good = np.mean(np.abs(angles(buggy) - 90) < 1)
copies = np.mean(np.abs(buggy) > 0.9)
print(f"{good:.1%} of the pairs within ±1°; {copies:.2%} with |v·w| above 0.9")
lesson.check("video's cost: pairs within ±1°", good, at_least=lesson.pick(0.98, 0.95))
lesson.check("video's cost: pairs nearly parallel", copies, above=0)

# %% [markdown]
# About 1 % of the pairs are nearly parallel or opposite. They vanish beside the peak, and a picture
# that shows only 85° to 95° does not have them at all.
#
# Why does it happen? The cost grows linearly. One pair that coincides costs 0.99, as much as 99
# pairs that are off by 0.02 each, so gradient descent buys a clean peak with a few total losses.
# The cheapest arrangement is d perpendicular directions with about n/d copies of each. With equal
# groups the share of lost pairs is (n/d - 1)/(n - 1); groups of different sizes lose a few more.

# %%
collapse = (n_bug / d_bug - 1) / (n_bug - 1)
print(f"{d_bug} equal groups of copies would make {collapse:.2%}")
lesson.check("nearly parallel, %", 100 * copies, at_least=100 * collapse, at_most=150 * collapse)

# %% [markdown]
# ## Why no cost could have worked
#
# Write the n unit vectors as the rows of V, (n, d), and look at all dot products together, G = VVᵀ.
# The sum of all squared entries of VVᵀ equals that of VᵀV, which is only d×d. The diagonal of VᵀV
# sums to n (n vectors of length 1), and d numbers with sum n have squares with sum n²/d at least.
# Take away the n ones on the diagonal of G, divide by the n(n-1) pairs, and there is the
# **Welch bound**:
#
# mean of (v·w)² over all pairs ≥ (n - d) / (d (n - 1))
#
# and the worst pair is at least as bad as the mean.


# %%
def welch(n, d):
    """No n unit vectors in d dimensions have a smaller root mean square dot product."""
    return math.sqrt((n - d) / (d * (n - 1)))


V = normalised(mg.randn(50, 7, generator=lesson.generator(2), dtype="float64"))
big, small = mg.sum(mg.square(V @ V.mT)).item(), mg.sum(mg.square(V.mT @ V)).item()
lesson.check("ΣΣ(VVᵀ)² - ΣΣ(VᵀV)²", big - small, near=0, within=1e-9)
lesson.check("ΣΣ(VVᵀ)² against n²/d", big, at_least=50**2 / 7)

# Equality can be had: rows cut from a matrix with perpendicular columns of equal length.
wave = np.exp(2j * np.pi * np.outer(np.arange(50), (1, 2, 3)) / 50)
tight = mg.tensor(np.hstack([wave.real, wave.imag]) / math.sqrt(3), dtype="float64")  # (50, 6)
mean_square = (mg.sum(mg.square(tight @ tight.mT)).item() - 50) / (50 * 49)
lesson.check("a set at the bound", math.sqrt(mean_square), near=welch(50, 6), within=1e-12)

bound = welch(10_000, 100)
least = math.degrees(math.asin(bound))
print(f"10,000 in 100-D: root mean square at least {bound:.4f}, some pair {least:.2f}° off")
lesson.check("10,000 in 100-D: some pair is off, °", least, near=5.71, within=0.005)
lesson.check(
    "random vectors are hardly worse",
    rms / welch(n, d),
    at_least=1.0,
    at_most=lesson.pick(1.02, 1.1),
)

# %% [markdown]
# Random vectors already have a root mean square of 0.100, and nothing gets below 0.0995. Ten
# thousand vectors within ±1° are impossible in 100 dimensions. How many are possible? Solve the
# bound for n: with ε = sin 1°, n ≤ d (1 - ε²) / (1 - d ε²).


# %%
def most(degrees, d):
    """Upper bound on the number of vectors that are all so close to perpendicular."""
    e2 = math.sin(math.radians(degrees)) ** 2
    return math.floor(d * (1 - e2) / (1 - d * e2)) if d * e2 < 1 else math.inf


print(f"100-D: at most {most(1, 100)} vectors within ±1°, {most(5, 100)} within ±5°")
lesson.check("most vectors within ±1° in 100-D", most(1, 100), equals=103)
lesson.check("103 of them are allowed", math.degrees(math.asin(welch(103, 100))), at_most=1.0)
lesson.check("104 are not", math.degrees(math.asin(welch(104, 100))), above=1.0)

# %% [markdown]
# One hundred and three: three more than perpendicular ones. The bound lets go only when d·ε²
# exceeds 1, at ±5.74° in 100 dimensions: the magic of many dimensions begins at about 1/√d.
#
# ## An honest cost
#
# To bring *all* pairs close to 90°, minimise the worst one. The maximum has a gradient for one
# pair only; its smooth relative log Σ exp(β·(v·w)²)/β has one for all that are nearly as bad. We
# let β grow on the way.


# %%
def spread(n, d, steps, stream):
    """n directions whose worst pair is as close to perpendicular as gradient descent gets it."""
    v = mg.randn(n, d, generator=lesson.generator(stream), requires_grad=True)
    optimizer = mg.optim.Adam([v], lr=0.02)
    schedule = mg.optim.CosineAnnealingLR(optimizer, T_max=steps)
    skip = 10 * mg.eye(n)  # of a vector with itself
    for step in lesson.progress(range(steps), f"spreading {n}"):
        u = normalised(v)
        beta = 100 * 300 ** (step / steps)
        bad = mg.square(u @ u.mT) - skip
        cost = mg.logsumexp(mg.reshape(bad, (-1,)) * beta) / beta
        optimizer.zero_grad()
        cost.backward()
        optimizer.step()
        schedule.step()
    return normalised(v.detach())


honest = {}
for number, steps, goal in lesson.pick(((200, 1000, 4.6), (400, 500, 6.5)), ((60, 300, 9.5),)):
    size = lesson.pick(100, 30)
    honest[number] = dot_products(spread(number, size, steps, number))
    worst = np.abs(angles(honest[number]) - 90).max()
    floor = math.degrees(math.asin(welch(number, size)))
    print(f"{number} in {size}-D: all within ±{worst:.2f}°; no arrangement beats ±{floor:.2f}°")
    lesson.check(f"{number} vectors: the worst pair, °", worst, at_most=goal, at_least=floor)

# %% [markdown]
# Twice as many directions as dimensions, all within 4.5° of perpendicular (4.46-4.47° over
# seeds 1-5; four times as many, within 6.1-6.2°): modest, and true. Look at what the two
# costs did. Above right is the picture that seems to prove the claim, below left the same pairs in
# full. Below right nothing is lost, and hardly anything is at 90° either.

# %%
with mg.viz.styled() as make:
    figure = make(figsize=(11, 7.6))
    (a, b), (c, e) = figure.subplots(2, 2)
    degrees = np.linspace(0, 180, 721)
    for size, colour in zip((2, 3, 10, 100, 1000), COLOURS, strict=False):
        sample = angles(dot_products(random_vectors(500, size, 3)))
        heights, edges = np.histogram(sample, np.linspace(0, 180, 181), density=True)
        a.stairs(100 * heights, edges, color=colour, linewidth=1.6, label=f"{size:,} dimensions")
    a.set(xlim=(0, 180), xticks=range(0, 181, 30), ylabel="% of the pairs per degree")
    a.set_title("Random directions: the more dimensions, the closer to 90°")
    a.legend()

    b.hist(angles(buggy), np.linspace(85, 95, 101), color=BLUE)
    b.set(xlim=(85, 95), yticks=[], ylabel="pairs")
    b.set_title(f"“All between 89° and 91°”: {n_bug:,} vectors in {d_bug}-D, zoomed")

    c.hist(angles(buggy), np.linspace(0, 180, 181), color=BLUE, log=True)
    c.set(xlim=(0, 180), xticks=range(0, 181, 30), ylabel="pairs per degree (logarithmic)")
    c.set_title("The same pairs in full: copies at 0° and 180°")
    text = f"{copies:.1%} of all pairs:\nnearly parallel …"
    c.text(4, 0.02 * c.get_ylim()[1], text, color=RED)
    c.text(176, 0.02 * c.get_ylim()[1], "… or opposite", color=RED, ha="right")

    for (number, dots), colour in zip(honest.items(), COLOURS, strict=False):
        floor = math.degrees(math.asin(welch(number, lesson.pick(100, 30))))
        e.hist(angles(dots), np.linspace(78, 102, 121), color=colour, density=True, alpha=0.65,
               label=f"{number} vectors in {lesson.pick(100, 30)}-D")  # fmt: skip
        for x in (90 - floor, 90 + floor):
            e.axvline(x, ymax=0.68, color=colour, linestyle="--", linewidth=1.2)
    e.plot([], [], color=GREY, linestyle="--", linewidth=1.2, label="Welch bound on the worst pair")
    e.set(xlim=lesson.pick((80, 100), (78, 102)), yticks=[], ylabel="share of the pairs")
    e.set_ylim(0, 1.4 * e.get_ylim()[1])
    e.set_title("Honest cost: the worst pair counts, none is lost")
    e.legend(loc="upper center", ncols=2)
    for ax in (a, b, c, e):
        ax.set_xlabel("angle between two vectors, degrees")
lesson.picture(figure, "angles.png")

# %% [markdown]
# ## Where the exponential comes from: greedy packing
#
# Fix a tolerance instead, say 70° to 110°, and let the dimension grow. The simplest way to pack:
# try random directions one after the other, keep each that is far enough from all kept before.


# %%
def pack(d, tries):
    """How many directions are kept after each of the tries."""
    v = random_vectors(tries, d, d)
    fits = (mg.abs(v @ v.mT) <= math.cos(math.radians(70))).numpy()  # (tries, tries)
    free, kept = np.ones(tries, dtype=bool), np.zeros(tries, dtype=int)
    for i in range(tries):
        if free[i]:
            kept[i] = 1
            free &= fits[i]
    return kept.cumsum()


tries = lesson.pick(6000, 1500)
packed = {size: pack(size, tries) for size in (10, 25, 50, 100)}
for size, kept in packed.items():
    print(f"{size:4} dimensions: {kept[-1]:5} directions between 70° and 110°")

# Over seeds 1-5: 12-13, 55-61, 296-311 and 2,850-2,877.
around = lesson.pick({10: 13, 25: 57, 50: 301, 100: 2815}, {10: 12, 25: 48, 50: 210, 100: 1115})
for size, number in around.items():
    slack = max(4, 0.12 * number)
    lesson.check(f"packed in {size}-D", packed[size][-1], near=number, within=slack)

# %% [markdown]
# ## The big numbers of the correction
#
# How far does it go? Let p be the probability that two random directions are *not* within the
# tolerance, |x| > ε. From the density above: p = 2∫(1-x²)^((d-3)/2) dx from ε to 1, over the
# integral from -1 to 1. Below the integral put x/ε ≥ 1 in front, and it can be solved:
#
# p ≤ 2 (1-ε²)^((d-1)/2) / (ε (d-1) B), with B = √π Γ((d-1)/2) / Γ(d/2)
#
# * **Random:** among n vectors there are about n²/2 pairs, of which p n²/2 are too close. Up to
#   n = √(2/p) we expect fewer than one: throw that many, and likely as not all fit.
# * **Greedy:** each kept vector forbids a share p of all directions. As long as n·p < 1, some
#   direction is free. So at least 1/p vectors fit.
#
# The numbers are too large for floats, so their logarithms are computed.


# %%
def log10_p(degrees, d):
    """Base-10 logarithm of the bound on p: two directions more than so far from perpendicular."""
    e = math.sin(math.radians(degrees))
    log_B = 0.5 * math.log(math.pi) + math.lgamma((d - 1) / 2) - math.lgamma(d / 2)
    log_p = math.log(2) + (d - 1) / 2 * math.log1p(-e * e) - math.log(e * (d - 1)) - log_B
    return log_p / math.log(10)


exact = 1 - expected_share(20, 100)
over = 10 ** log10_p(20, 100) / exact
lesson.check("p in 100-D, ±20°: bound over integral", over, at_least=1.0, at_most=1.15)
random_gpt3, greedy_gpt3 = (math.log10(2) - log10_p(5, 12_288)) / 2, -log10_p(5, 12_288)
greedy_large = -log10_p(5, 116_000)
print(f"85°-95° in 12,288 dimensions: random 10^{random_gpt3:.2f}, greedy 10^{greedy_gpt3:.2f}")
print(f"85°-95° in 116,000 dimensions: greedy 10^{greedy_large:.1f}")
lesson.check("12,288-D, random: log10", random_gpt3, near=math.log10(7e10), within=0.05)
lesson.check("12,288-D, greedy: log10", greedy_gpt3, at_least=21)
lesson.check("116,000-D, greedy: log10", greedy_large, at_least=193)

# %% [markdown]
# The correction to the lesson claims more than 4·10¹⁰ and likely more than 10¹⁷ for the 12,288
# dimensions of GPT-3, and more than a googol (10¹⁰⁰) for 116,000. All true, with much to spare. The
# exponent is about d·ε²/2: as long as d is below 1/ε² nothing grows, and then everything does.

# %%
with mg.viz.styled() as make:
    figure = make(figsize=(11, 4.6))
    left, right = figure.subplots(1, 2)
    x = np.arange(1, tries + 1)
    for (size, kept), colour in zip(packed.items(), COLOURS, strict=False):
        left.plot(x, kept, color=colour, label=f"{size} dimensions")
        p = 1 - expected_share(20, size)
        left.plot(x, np.log1p(p * x) / p, color=colour, linestyle=":", linewidth=1.2)
        left.text(1.1 * x[-1], kept[-1], f"{size}-D: {kept[-1]:,}", va="center", color=colour)
    left.plot([], [], color=GREY, linestyle=":", label="ln(1 + p·tries) / p")
    left.set(xscale="log", yscale="log", xlim=(1, 9 * tries), ylim=(1, tries))
    left.set(xlabel="random directions tried", ylabel="directions kept")
    left.set_title("Greedy packing, all pairs between 70° and 110°")
    handles, labels = left.get_legend_handles_labels()
    left.legend(handles[-1:], labels[-1:], loc="upper left")

    grid = np.unique(np.logspace(2, math.log10(150_000), 200).astype(int))
    greedy = np.array([-log10_p(5, size) for size in grid])
    right.plot(grid, np.maximum(greedy, 0), color=BLUE, label="greedy: 1/p")
    chance = np.maximum((math.log10(2) + greedy) / 2, 0)
    right.plot(grid, chance, color=COLOURS[1], label="random: √(2/p)")
    right.plot(grid, np.log10(grid), color=GREY, linestyle="--", label="perpendicular: d")
    right.axhline(100, color=GREY, linewidth=0.8)
    right.text(110, 103, "a googol", color=GREY)
    for place, value in ((12_288, greedy_gpt3), (116_000, greedy_large)):
        right.plot(place, value, "o", color=BLUE)
        text = f"{place:,}-D: 10$^{{{math.floor(value)}}}$"
        right.annotate(text, (place, value), (-8, 6), textcoords="offset points", ha="right")
    right.set(xscale="log", xlim=(grid[0], grid[-1]), ylim=(0, 250))
    right.set_yticks(range(0, 251, 50), ["1", *(f"10$^{{{k}}}$" for k in range(50, 251, 50))])
    right.set(xlabel="dimensions", ylabel="directions that fit, at least")
    right.set_title("All pairs between 85° and 95°: nothing, then everything")
    right.legend(loc="upper left")
lesson.picture(figure, "packing.png")

# %% [markdown]
# ## Try this
#
# 1. Replace the video's cost by the sum of the *squared* dot products. Do copies still appear? How
#    close does the root mean square come to the Welch bound?
# 2. Real word vectors are no random directions. Measure the angles between the 10,020 words of
#    `mg.data.glove()`, once as they are and once after subtracting the mean vector.
# 3. In the plane (d = 2), which arrangement of n lines has the best worst pair? Compare it with the
#    Welch bound for n = 3.
#
# Solutions: `tutorials/solutions/ch08_nearly_orthogonal.py`.

# %%
lesson.finish()
