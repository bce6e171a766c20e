# %% [markdown]
# # Chapter 8: Michael Jordan plays basketball
#
# Two thirds of GPT-3's weights are neither embeddings nor attention: they sit in the multilayer
# perceptrons between the attention blocks, and much of what a language model knows seems to be
# stored there. This lesson builds one such fact by hand, counts the parameters, and then lets
# gradient descent store a hundred facts of its own.

# %%
import math

import numpy as np

import microgpt as mg
from microgpt.learn import start
from microgpt.viz.style import BLUE, COLOURS, GREY, RED, SEQUENTIAL

lesson = start("Chapter 8: how a language model may store facts")
lesson.uses("made up: directions drawn at random, and 100 invented athletes")

# %% [markdown]
# ## Ideas are directions
#
# Suppose that four directions in the space of the vectors mean "first name Michael", "last name
# Jordan", "first name Alexis", "last name Phelps", and one more means "basketball". Suppose
# further that they are perpendicular and of length 1. Then a dot product asks a question:
# v·M is 1 if v contains Michael, and 0 if it contains something else.
#
# Attention has already worked: the vector above the last name has collected the first name too.

# %%
size = 16  # numbers per vector; GPT-3 has 12,288
frame, _ = np.linalg.qr(lesson.generator().standard_normal((size, size)))
M, J, A, P, B = (mg.tensor(frame[:, i], dtype="float64") for i in range(5))

people = {
    "Michael Jordan": M + J,
    "Michael Phelps": M + P,
    "Alexis Jordan": A + J,
    "Alexis Phelps": A + P,
}
lesson.check("M·M", (M @ M).item(), near=1.0, within=1e-12)
lesson.check("M·J: perpendicular", (M @ J).item(), near=0.0, within=1e-12)

# %% [markdown]
# ## One neuron, one AND gate
#
# A neuron whose weights are M + J counts how many of the two names it finds: 2, 1, 1 or 0. The
# bias -1 turns that into 1, 0, 0, -1, and ReLU lets only what is positive through. The neuron is
# active for both names together, and for nothing less.
#
# First as the video draws it: single numbers, multiplied and added.


# %%
def neuron(weights, bias, inputs):
    """Weighted sum and bias of one neuron, in scalars."""
    total = mg.Scalar(bias)
    for w, x in zip(weights, inputs, strict=True):
        total = total + w * x
    return total


row = M + J
scalar_sums = {}
for name, vector in people.items():
    inputs = [mg.Scalar(x) for x in vector.numpy().tolist()]
    scalar_sums[name] = neuron(row.numpy().tolist(), -1.0, inputs)

for (name, z), wanted in zip(scalar_sums.items(), (1, 0, 0, 0), strict=True):
    lesson.check(f"ReLU neuron, {name}", mg.relu(z).item(), near=wanted, within=1e-12)

# %% [markdown]
# GPT uses a smoother relative of ReLU: GELU(x) = x·Φ(x), where Φ(x) is the probability that a
# normally distributed number is below x. The gate becomes soft. Michael Jordan gives Φ(1), a half
# match still gives exactly 0, and no match gives slightly less than nothing.

# %%
phi = 0.5 * (1 + math.erf(1 / math.sqrt(2)))  # Φ(1) = 0.8413…
for (name, z), wanted in zip(scalar_sums.items(), (phi, 0, 0, phi - 1), strict=True):
    lesson.check(f"GELU neuron, {name}", mg.gelu(z).item(), near=wanted, within=1e-12)

# %% [markdown]
# ## Rows ask, columns add
#
# The same as matrices. W_up has one row per neuron; row i holds the question of neuron i. W_down
# has one column per neuron; column i is what neuron i adds to the vector when it is active. Our
# neuron's column is B, "basketball". Two more neurons ask and add something random.
#
# Shapes: E (tokens, 16), W_up (3, 16), W_down (16, 3).

# %%
others = lesson.generator(1)
W_up = mg.stack([row, *mg.randn(2, size, generator=others, dtype="float64")])
W_down = mg.stack([B, *mg.randn(2, size, generator=others, dtype="float64")]).mT
b_up = mg.tensor([-1.0, 0.0, 0.0], dtype="float64")
E = mg.stack(list(people.values()))  # (4, 16): four tokens of a text


def mlp(x):
    """(tokens, 16) → (tokens, 16): what the MLP adds to every token."""
    return mg.relu(x @ W_up.mT + b_up) @ W_down.mT


tensor_sums = (E @ W_up.mT + b_up)[:, 0].numpy()
scalars = np.array([z.item() for z in scalar_sums.values()])
lesson.check("scalars against tensors", np.abs(tensor_sums - scalars).max(), at_most=1e-12)

activations = mg.relu(E[0] @ W_up.mT + b_up)
columns = mg.zeros(size, dtype="float64")
for i in range(3):
    columns = columns + activations[i] * W_down[:, i]
difference = mg.max(mg.abs(W_down @ activations - columns))
lesson.check("W·x against Σ xᵢ·columnᵢ", difference, at_most=1e-12)

# %% [markdown]
# The result is added to the vector that came in (the residual connection). With the fact neuron
# alone, the vector of Michael Jordan changes by exactly B, and the others not at all. So the dot
# product with B, zero before, now says whether basketball is in there.
#
# Every token goes through by itself: changing one changes nothing for the others. That is why all
# tokens can be handled in parallel.

# %%
fact_up, fact_down = W_up[:1], W_down[:, :1]
out = E + mg.relu(E @ fact_up.mT - 1.0) @ fact_down.mT
change = out - E
lesson.check("Michael Jordan: output - input - B", mg.max(mg.abs(change[0] - B)), at_most=1e-12)
lesson.check("the others: output - input", mg.max(mg.abs(change[1:])), at_most=1e-12)

replaced = mg.concat([5.0 * E[:1], E[1:]])
moved = mg.max(mg.abs(mlp(replaced) - mlp(E))[1:])
lesson.check("change of tokens 2-4 by token 1", moved, equals=0.0)

# %% [markdown]
# Left: the plane of the two questions. The gate opens only in the corner where both are answered
# yes. Right: "how much basketball" the MLP writes into each vector, with ReLU and with GELU.

# %%
with mg.viz.styled() as make:
    figure = make(figsize=(11, 4.6))
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.15))
    side = np.linspace(-0.5, 1.5, 200)
    plane = mg.relu(mg.tensor(side[:, None] + side[None, :] - 1.0)).numpy()
    edge = (side[0], side[-1])
    shade = left.imshow(
        plane, origin="lower", extent=(*edge, *edge), cmap=SEQUENTIAL, vmin=0, vmax=2
    )
    left.plot([side[0], side[-1]], [1 - side[0], 1 - side[-1]], color=GREY, linestyle="--")
    left.text(0.42, 0.42, "the bias puts\nthe border here", color=GREY, fontsize=9, ha="right")
    for name, vector in people.items():
        x, y = (vector @ M).item(), (vector @ J).item()
        on = name == "Michael Jordan"
        left.plot(x, y, "o", color=RED if on else "#222222", markersize=9)
        left.annotate(
            name.replace(" ", "\n"), (x, y), xytext=(-8, -6), textcoords="offset points",
            ha="right", va="top", color="#222222", weight="bold" if on else "normal",
        )  # fmt: skip
    left.set(xlim=edge, ylim=edge, xticks=(0, 1), yticks=(0, 1))
    left.set_xlabel("is Michael in it?   v·M")
    left.set_ylabel("is Jordan in it?   v·J")
    left.set_title("One neuron is an AND gate:\nactive only if both names are there")
    figure.colorbar(shade, ax=left, label="activation (ReLU)", shrink=0.85)

    z = mg.tensor(tensor_sums)
    places = np.arange(len(people))
    for shift, colour, label, values in (
        (-0.2, BLUE, "ReLU", mg.relu(z).numpy()),
        (0.2, COLOURS[4], "GELU, as in GPT", mg.gelu(z).numpy()),
    ):
        right.bar(places + shift, values, 0.36, color=colour, label=label)
        for place, value in zip(places, values, strict=True):
            value = 0.0 if abs(value) < 1e-9 else value  # no "-0.00"
            text = f"{value:.2f}".replace("-", "−")
            right.text(place + shift, max(value, 0) + 0.02, text, ha="center", size=9)
    right.axhline(0, color="#444444", linewidth=0.8)
    right.set_xticks(places, [name.replace(" ", "\n") for name in people])
    right.set(ylim=(-0.25, 1.2), ylabel="change of v·B by the MLP")
    right.set_title("How much “basketball” is written into each vector")
    right.legend(loc="upper right")
lesson.picture(figure, "and_gate.png")

# %% [markdown]
# ## Counting
#
# GPT-3 has 4·12,288 = 49,152 neurons in each MLP, and 96 of them. The counter below computes the
# numbers from the sizes; it is the one that counts the parameters of every model in this package.

# %%
sizes = mg.models.GPTConfig.gpt3()
table = mg.models.GPT.count(sizes, everything=False)  # weight matrices only, as the video counts
d, n, layers = sizes.n_embd, sizes.width, sizes.n_layer
both = table["Up"].weights + table["Down"].weights
lesson.check("weights of one matrix", table["Up"].weights // layers, equals=603_979_776)
lesson.check("weights of one MLP", 2 * n * d, equals=1_207_959_552)
lesson.check("weights of all MLPs", both, equals=115_964_116_992)
lesson.check("share of all weights, %", 100 * both / table.total, near=66.2, within=0.05)
lesson.check("activations per MLP, 2,048 tokens", n * sizes.block_size, equals=100_663_296)
lesson.check("parameters of ReLU", mg.nn.ReLU().num_parameters(), equals=0)

# %% [markdown]
# What that count leaves out: the biases of the MLPs and the layer norms. The lesson mentions
# "49,000" parameters of normalisation. That is per layer (two norms with two vectors of 12,288
# each); all of them, with the last norm before the output, are 4.7 million. Next to 175 billion
# even that is nothing.

# %%
norms = mg.models.GPT.count(sizes)["Norms"].weights
biases = (n + d) * layers
lesson.check("norms, per layer", 4 * d, equals=49_152)
lesson.check("norms, all", norms, equals=4_743_168)
lesson.check("MLP biases, all", biases, equals=5_898_240)
lesson.check("both, % of all weights", 100 * (norms + biases) / table.total, below=0.01)

# A model that fits in memory shows that the formula counts what is really there.
small = mg.models.GPT(mg.models.GPTConfig(50, 8, 16, 2, 4), generator=lesson.generator())
weights = sum(p.size for name, p in small.named_parameters() if ".mlp." in name and p.ndim == 2)
counted = mg.models.GPT.count(small)
formula = counted["Up"].weights + counted["Down"].weights
lesson.check("a real model: MLP weights", weights, equals=formula)

# %% [markdown]
# ## A hundred invented facts
#
# Ten first names, ten last names, and for each of the 100 athletes one of ten sports, drawn at
# random. No name alone says much, so whoever wants to know the sport must combine both.
#
# The network reads two tokens and predicts the third: embedding → attention → MLP → logits. The
# embeddings stay as they were drawn: names have no room for facts. What is learned is attention,
# MLP and output, once with MLPs of several widths and once without any.
#
# Shapes: tokens (100, 2) → vectors (100, 2, 8) → that of the last name (100, 8) → logits (100, 10).

# %%
firsts, lasts, sports = 10, 10, 10
first, last = np.divmod(np.arange(firsts * lasts), lasts)
tokens = mg.tensor(np.stack([first, firsts + last], axis=1))
sport = lesson.generator(2).integers(sports, size=len(first))
answers = mg.tensor(sport)


class Reader(mg.nn.Module):
    """First name, last name → sport; with an MLP of `width` neurons, or none for 0."""

    def __init__(self, width, attention=True, size=8, *, generator):
        super().__init__()
        place = {"generator": generator}
        self.embedding = mg.nn.Embedding(firsts + lasts, size, **place)
        self.embedding.weight.requires_grad = False
        self.attention = mg.nn.MultiHeadAttention(size, 1, **place) if attention else None
        self.norm = mg.nn.LayerNorm(size)
        self.up = mg.nn.Linear(size, width, **place) if width else None
        self.down = mg.nn.Linear(width, size, **place) if width else None
        self.unembedding = mg.nn.Linear(size, sports, **place)

    def forward(self, tokens):
        x = self.embedding(tokens)  # (100, 2, 8)
        if self.attention is not None:
            x = x + self.attention(x, is_causal=True)
        x = x[:, 1]  # above the last name, (100, 8)
        if self.up is not None:
            x = x + self.down(mg.relu(self.up(self.norm(x))))
        return self.unembedding(x)


def learn(width, attention=True):
    """Train a reader on all facts; the share of them that it then knows."""
    model = Reader(width, attention, generator=lesson.generator(3))
    trained = [p for p in model.parameters() if p.requires_grad]
    steps = lesson.pick(600, 300)
    optimizer = mg.optim.Adam(trained, lr=lesson.pick(0.01, 0.02))
    schedule = mg.optim.CosineAnnealingLR(optimizer, T_max=steps)
    for _ in lesson.progress(range(steps), f"MLP of {width}"):
        loss = mg.cross_entropy(model(tokens), answers)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return mg.train.accuracy(model(tokens), answers)


known = {}
for width in lesson.pick((0, 4, 16, 64, 128), (0, 128)):
    known[width] = learn(width)
    print(f"{width:4} neurons: {known[width]:4.0%} of the facts")

# Over seeds 1-5: 100 % with 128 neurons, 84-99 % with 4, 73-86 % with attention alone.
lesson.check("128 neurons: facts known", known[128], at_least=lesson.pick(1.0, 0.9))
lesson.check("attention alone: facts known", known[0], below=min(known[128], 0.95))
if not lesson.fast:
    lesson.check("4 neurons: no more", known[4], at_most=known[128])

# %% [markdown]
# The MLP knows them all; attention alone, with the same vectors, does not. But it is not empty
# handed either: how strongly a last name attends to a first name depends on both, so attention
# patterns store some facts as well. The division "attention moves, MLPs remember" is a tendency,
# not a law. Exercise 2 asks how far attention gets with longer vectors.
#
# The other ablation is a law. Without attention the vector above "Jordan" has never heard of
# Michael, and no MLP can do better than to name the commonest sport of each last name.

# %%
counts = np.zeros((lasts, sports), dtype=int)
np.add.at(counts, (last, sport), 1)
best = counts.max(axis=1).sum() / len(sport)
blind = learn(128, attention=False)
print(f"without attention {blind:.0%}; the best possible is {best:.0%}")
lesson.check("MLP without attention", blind, at_most=float(best))

# %% [markdown]
# ## Try this
#
# 1. Our neuron also fires for twice Michael, M + M. Show that no weights and no bias keep a neuron
#    silent for M + M and for J + J and still make it fire for M + J. What changes if every vector
#    is first brought to length 1, much as GPT's layer norm does in front of each MLP?
# 2. Give the attention-only reader 32 numbers per name (`Reader(0, size=32, …)`). How many facts
#    does it know now?
# 3. Switch off the 128 neurons of a trained reader one at a time. Is there one neuron per fact?
#
# Solutions: `tutorials/solutions/ch08_michael_jordan.py`.

# %%
lesson.finish()
