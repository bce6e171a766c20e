# %% [markdown]
# # Chapter 6: softmax with temperature
#
# A language model ends with one number for every token it knows: the logits. They may be negative
# or huge and add up to nothing in particular. Softmax makes probabilities of them, and the
# temperature says how far from the favourite the model may stray when it draws a token.

# %%
import math
from itertools import pairwise

import microgpt as mg
from microgpt.learn import start
from microgpt.viz.style import COLOURS, GREY

lesson = start("Chapter 6: softmax with temperature")
lesson.uses("seven logits of the video; the words other than Snape are ours")

# %% [markdown]
# ## From scores to probabilities
#
# Someone's least favourite teacher, a professor, is about to be named. Seven words are in the
# running. What is wanted of them: numbers between 0 and 1 with the sum 1, the larger the larger
# the logit. Softmax takes the exponential, which is positive whatever the logit is, and divides by
# the sum of all exponentials:
#
# pᵢ = exp(zᵢ) / Σⱼ exp(zⱼ)
#
# First one number at a time, as the formula says it.

# %%
WORDS = ["McGonagall", "tree", "Lupin", "Flitwick", "Snape", "owl", "Trelawney"]
LOGITS = [-0.8, -5.0, 0.5, 1.5, 3.4, -2.3, 2.5]
SNAPE = WORDS.index("Snape")


def softmax_of_scalars(scores):
    """Probabilities of a list of numbers: exponentials, divided by their sum."""
    exponentials = [z.exp() for z in scores]
    total = sum(exponentials)
    return [e / total for e in exponentials]


scalars = softmax_of_scalars([mg.Scalar(z) for z in LOGITS])
for word, z, p in zip(WORDS, LOGITS, scalars, strict=True):
    print(f"{word:<12} logit {z:5.1f}   probability {p.data:.4f}")

# %% [markdown]
# The same for all seven at once, a tensor of shape (words,). Both must agree, in float64 to the
# last digits.

# %%
logits = mg.tensor(LOGITS, dtype="float64")
p = mg.softmax(logits)

gap = max(abs(a.data - b) for a, b in zip(scalars, p.tolist(), strict=True))
lesson.check("scalars against tensor", gap, at_most=1e-12)
lesson.check("sum of the probabilities", p.sum(), near=1.0, within=1e-12)

first, second, third = sorted(p.tolist(), reverse=True)[:3]
lesson.check("Snape", p[SNAPE], near=0.6136, within=5e-5)
lesson.check("Snape is the favourite", first == p[SNAPE].item(), equals=True)
lesson.check("the second", second, near=0.2495, within=5e-5)
lesson.check("the third", third, near=0.0918, within=5e-5)

# %% [markdown]
# ## What logits mean
#
# Only differences count. A logit that is larger by d makes a token exp(d) times as likely, whatever
# the others are; the same number added to all of them changes nothing.
#
# That is more than a curiosity. Logits of 1000 have exponentials that no float can hold, so every
# serious softmax first subtracts the largest logit: the answer is the same and nothing overflows.

# %%
odds = (p[SNAPE] / p[WORDS.index("Flitwick")]).item()
lesson.check("odds Snape : Flitwick", odds, near=math.exp(3.4 - 1.5), within=1e-12)

moved = mg.softmax(logits + 1000.0)
lesson.check("all logits + 1000: change", mg.max(mg.abs(moved - p)), at_most=1e-12)
try:
    math.exp(3.4 + 1000.0)
    answer = "a number"
except OverflowError:
    answer = "overflow"
lesson.check("exp(1003.4) without the trick", answer, equals="overflow")

# %% [markdown]
# ## Temperature
#
# Divide the logits by a number T before the softmax:
#
# pᵢ(T) = exp(zᵢ / T) / Σⱼ exp(zⱼ / T)
#
# A small T stretches the differences, and the favourite takes all. A large T shrinks them, and all
# words become equally likely. T = 1 is what the network was trained with. An infinite T needs no
# special treatment: z / ∞ = 0 for all words.
#
# T = 0 does, since nothing can be divided by it. There the agreement is: probability 1 for the
# largest logit, the first one if several are equally large.


# %%
def with_temperature(logits, temperature):
    """Probabilities (…, words) of logits (…, words) at a temperature of 0 or more."""
    if temperature == 0:
        words = logits.shape[-1]
        return mg.one_hot(mg.argmax(logits, axis=-1), words).astype(logits.dtype)
    return mg.softmax(logits / temperature)


print("      T  Snape   all words")
for temperature in (0, 0.2, 1, 2, 5, 10, math.inf):
    row = with_temperature(logits, temperature).tolist()
    print(f"{temperature:7}  {row[SNAPE]:.4f}  " + " ".join(f"{value:.3f}" for value in row))

for temperature, expected in ((0.2, 0.9889), (2, 0.4075), (5, 0.2489), (10, 0.1944)):
    snape = with_temperature(logits, temperature)[SNAPE]
    lesson.check(f"Snape at T = {temperature}", snape, near=expected, within=5e-5)
uniform = with_temperature(logits, math.inf)
lesson.check("T = ∞: distance from 1/7", mg.max(mg.abs(uniform - 1 / 7)), at_most=1e-12)

# %% [markdown]
# ### The two ends
#
# At T = 0 the distribution is a single 1. The limit T → 0 goes there too, unless there is a tie:
# then the limit shares the 1 among the largest, while the rule for 0 gives it to the first.

# %%
frozen = with_temperature(logits, 0)
one_hot = [float(word == "Snape") for word in WORDS]
lesson.check("T = 0 is one-hot at Snape", frozen.tolist() == one_hot, equals=True)
almost = with_temperature(logits, 0.01)[SNAPE]
lesson.check("Snape at T = 0.01", almost, near=1.0, within=1e-12)

tie = mg.tensor([1.0, 3.0, 3.0], dtype="float64")
limit, rule = with_temperature(tie, 0.001), with_temperature(tie, 0)
print(f"a tie at T = 0.001: {limit.tolist()}, at T = 0: {rule.tolist()}")
lesson.check("tie at T = 0.001: the two share", limit[1], near=0.5, within=1e-12)
lesson.check("tie at T = 0: the first takes it", rule[1], equals=1.0)

# %% [markdown]
# ### Entropy
#
# One number that says how undecided a distribution is: H = Σ p·log₂(1/p), in bits. It is 0 when one
# word is certain, and log₂ 7 = 2.81 bits when all seven are equally likely. It rises with the
# temperature all the way.


# %%
def entropy(p):
    """Bits: the sum of p·log₂(1/p), in which a probability of 0 counts for nothing."""
    surprises = mg.log(1 / mg.where(p > 0, p, 1.0))
    return ((p * surprises).sum() / math.log(2)).item()


steps = mg.linspace(-1.0, 2.0, lesson.pick(121, 31), dtype="float64").tolist()
temperatures = [10**step for step in steps]
rows = [with_temperature(logits, t) for t in temperatures]
entropies = [entropy(row) for row in rows]
rises = [after - before for before, after in pairwise(entropies)]
lesson.check("smallest rise of the entropy", min(rises), above=0.0)
lesson.check("entropy at T = 0", entropy(frozen), equals=0.0)
lesson.check("entropy at T = ∞", entropy(uniform), near=math.log2(7), within=1e-12)

# %% [markdown]
# ### Without the logits
#
# Given only the probabilities one can still change the temperature: raise each to the power 1/T
# and divide by the sum. exp(z/T) is exp(z) to the power 1/T, and the old sum cancels.

# %%
gaps = []
for temperature in (0.2, 0.5, 2.0, 5.0, 10.0):
    power = mg.exp(mg.log(p) / temperature)  # p to the power 1/T
    gaps.append(mg.max(mg.abs(power / power.sum() - with_temperature(logits, temperature))).item())
lesson.check("p^(1/T) renormalised: largest gap", max(gaps), at_most=1e-12)

# %% [markdown]
# ## Drawing words
#
# What the probabilities are for. `Sampler` is what the GPT of this package uses to write: the same
# softmax, the same rule for 0, and a draw. Over seeds 1 to 8 the largest difference between a
# frequency in 5,000 draws and its probability was 0.005 to 0.015.
#
# A remark on "T may not be larger than 2", which some programming interfaces say: that is a policy
# of theirs, because the text turns to nonsense. Mathematically any T is fine, as seen above.

# %%
DRAWS = 5_000
off = []
for temperature in (0.2, 1.0, 5.0):
    sampler = mg.models.Sampler(temperature, generator=lesson.generator())
    drawn, _ = sampler(mg.broadcast_to(logits, (DRAWS, len(WORDS))))
    expected = with_temperature(logits, temperature).tolist()
    counted = [float((drawn == i).mean()) for i in range(len(WORDS))]
    off.append(max(abs(a - b) for a, b in zip(counted, expected, strict=True)))
    print(f"T = {temperature}: ", " ".join(WORDS[i] for i in drawn[:7]))
lesson.check("frequency minus probability, at most", max(off), at_most=0.03)

always, _ = mg.models.Sampler(0, seed=lesson.seed)(mg.broadcast_to(logits, (100, len(WORDS))))
lesson.check("draws of Snape at T = 0, of 100", int((always == SNAPE).sum()), equals=100)

# %% [markdown]
# ## The picture
#
# Above: the seven words at six temperatures. Below: each probability, and the entropy, as T runs
# from 0.1 to 100. Second places first gain and then lose: they live at medium temperatures.

# %%
order = sorted(range(len(WORDS)), key=lambda i: LOGITS[i])
shown = (0, 0.2, 1, 2, 5, math.inf)

with mg.viz.styled() as figure:
    fig = figure(figsize=(10, 6.6))
    above, below = fig.subfigures(2, 1, height_ratios=(1, 1.35))
    panels = above.subplots(1, len(shown), sharey=True)
    for ax, temperature in zip(panels, shown, strict=True):
        values = with_temperature(logits, temperature).tolist()
        ax.barh(range(len(order)), [values[i] for i in order], color=[COLOURS[i] for i in order])
        for place, i in enumerate(order):
            ax.text(values[i] + 0.03, place, f"{values[i]:.2f}", va="center", fontsize=8)
        ax.set(xlim=(0, 1.3), xticks=(), yticks=range(len(order)))
        ax.set_yticklabels([f"{WORDS[i]}  {LOGITS[i]:.1f}" for i in order])
        ax.tick_params(length=0)
        ax.spines["bottom"].set_visible(False)
        ax.set_title(f"T = {'∞' if temperature == math.inf else temperature}")
    above.suptitle("Cold: the favourite takes all. Hot: everyone has the same chance.")

    left, right = below.subplots(1, 2, width_ratios=(1.6, 1))
    for i in reversed(order):
        curve = [row[i].item() for row in rows]
        left.plot(temperatures, curve, color=COLOURS[i], label=WORDS[i])
    left.axhline(1 / 7, color=GREY, linewidth=1, linestyle=":")
    left.text(0.105, 1 / 7 + 0.012, "1/7", color=GREY, fontsize=9)
    left.set(ylabel="probability", ylim=(0, 1.02), title="Probability of each word")
    left.legend(loc="upper right")
    right.plot(temperatures, entropies, color="#222222")
    right.axhline(math.log2(7), color=GREY, linewidth=1, linestyle=":")
    right.text(0.105, math.log2(7) - 0.13, "log₂ 7", color=GREY, fontsize=9)
    right.set(ylabel="bits", ylim=(0, 3), title="Entropy: how undecided")
    for ax in (left, right):
        ax.set(xlabel="temperature T", xscale="log", xlim=(0.1, 100))
        ax.axvline(1, color=GREY, linewidth=1)
        ax.set_xticks((0.1, 1, 10, 100), ("0.1", "1", "10", "100"))
        ax.grid(axis="y")
lesson.picture(fig, "temperature.png")

# %% [markdown]
# ## Try this
#
# 1. At which temperature does Snape get exactly one half? Halve an interval until you know.
# 2. Which temperature gives Flitwick, the third, its highest probability, and how high is that?
# 3. Differentiate log p(Snape) by the logits at T = 1 and T = 2 with `backward()`. What rule do
#    you see? (It is the one that trains every language model.)
# 4. Draw with `mg.models.Sampler(5, top_k=3)`. What does that change, and what not?
#
# Solutions: `tutorials/solutions/ch06_softmax.py`.

# %%
lesson.finish()
