# %% [markdown]
# # Chapter 8: superposition, or more ideas than neurons
#
# If a model can use nearly perpendicular directions, it can work with more ideas (features) than
# it has numbers to store them in. That is one explanation for why single neurons so rarely stand
# for a single clean idea. Here a small network discovers the trick by itself, and a sparse
# autoencoder then undoes it.
#
# The experiment follows Elhage et al., Toy Models of Superposition (2022); the autoencoder,
# Cunningham et al. (2023) and Bricken et al. (2023).

# %%
import numpy as np

import microgpt as mg
from microgpt.learn import start
from microgpt.viz.style import BLUE, COLOURS, DIVERGING, GREY

lesson = start("Chapter 8: superposition")
lesson.uses("generated: sparse features, and sums of random directions")

# %% [markdown]
# ## Two features in one number, by hand
#
# Two features x₁ and x₂, between 0 and 1, are to be stored in a single number h and read back. Let
# x₁ push h up and x₂ push it down: h = x₁ - x₂. Read back with ReLU: x₁ ≈ relu(h), x₂ ≈ relu(-h).
#
# As long as only one of them is active this is perfect. The ReLU removes what the other would
# have leaked in. Only if both are active at once do they destroy each other.


# %%
def store_and_read(x1, x2):
    """Through one number and back, in scalars."""
    h = mg.Scalar(x1) - mg.Scalar(x2)
    return mg.relu(h).item(), mg.relu(-h).item()


for pair in ((0.7, 0.0), (0.0, 0.4), (0.0, 0.0)):
    lesson.check(f"one at a time: {pair}", store_and_read(*pair) == pair, equals=True)
lesson.check("both at once: (0.7, 0.7)", str(store_and_read(0.7, 0.7)), equals="(0.0, 0.0)")

# %% [markdown]
# So it is a bet on sparsity: if each feature is active with probability p, the bet is lost in p² of
# all cases only, while a number per feature is saved always.
#
# ## Twenty features in five numbers
#
# Now nothing is given by hand. Features x (20) → h = W x (5) → y = ReLU(Wᵀ h + b) (20), and the
# wish is y = x. Each feature is 0 most of the time, else uniform in [0, 1]. They are not equally
# important: the error of feature i counts 0.85ⁱ.
#
# We train the same network for five densities p at once, side by side in one batch.
# Shapes: x (5 densities, batch, 20), W (5 densities, 5, 20).

# %%
features, room = 20, 5
densities = np.array([1.0, 0.3, 0.1, 0.03, 0.01])
importance = 0.85 ** np.arange(features)


def sparse(generator, batch):
    """Features (densities, batch, 20), each active with the probability of its row."""
    shape = (len(densities), batch, features)
    return generator.random(shape) * (generator.random(shape) < densities[:, None, None])


def learn(steps, batch, lr):
    """W and b of the networks, one for each density."""
    generator = lesson.generator()
    start = 0.3 * generator.standard_normal((len(densities), room, features))
    W = mg.tensor(start, dtype="float32", requires_grad=True)
    b = mg.zeros((len(densities), 1, features), dtype="float32", requires_grad=True)
    # A sparse network has small errors: weigh by 1/p, or the dense one decides everything.
    weight = mg.tensor(importance / densities[:, None, None], dtype="float32")
    optimizer = mg.optim.Adam([W, b], lr=lr)
    schedule = mg.optim.CosineAnnealingLR(optimizer, T_max=steps)
    for _ in lesson.progress(range(steps), "20 features, 5 numbers"):
        x = mg.tensor(sparse(generator, batch), dtype="float32")
        h = x @ W.mT  # (densities, batch, 5)
        y = mg.relu(h @ W + b)  # (densities, batch, 20)
        loss = mg.mean(weight * mg.square(y - x))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return W.detach().numpy(), b.detach().numpy()


W, b = learn(*lesson.pick((1500, 256, 0.01), (500, 128, 0.03)))

# %% [markdown]
# Column i of W is the direction of feature i. Its squared length is the share of the feature that
# comes back, since y = Wᵀ W x; a feature counts as represented if at least half of it does.

# %%
lengths = np.linalg.norm(W, axis=1)  # (densities, 20)
represented = (lengths**2 > 0.5).sum(axis=1)
for density, count in zip(densities, represented, strict=True):
    print(f"active {density:4.0%} of the time: {count:2} of 20 features in 5 numbers")

# Over seeds 1-5: 5 always active, 9-10 at 30 %, 10-11 at 10 %, 14-15 at 3 %, 16-17 at 1 %.
lesson.check("always active: features represented", represented[0], at_most=room)
lesson.check("active 10 %: features represented", represented[2], above=room)
lesson.check("active 1 %: features represented", represented[4], at_least=2 * room)

# %% [markdown]
# Features that are always active: the network keeps the five most important ones, one dimension
# each, and gives up the rest. Rare features: it takes in three times as many as it has room for.
# The products of the columns show how. WᵀW is the picture of who disturbs whom: the diagonal says
# how well each feature is kept, blue and red beside it is what leaks from one into the other.

# %%
gram = np.swapaxes(W, 1, 2) @ W  # (densities, 20, 20)
pairs_30 = gram[1] / np.maximum(np.outer(lengths[1], lengths[1]), 0.25)
opposite = int((np.triu(pairs_30, 1) < -0.9).sum())
print(f"at 30 % there are {opposite} pairs of opposite features, as in the example by hand")
lesson.check("opposite pairs at 30 %", opposite, at_least=3, at_most=room)

# %% [markdown]
# It is the trick from above, found by gradient descent: at 30 % most dimensions hold a pair of
# opposite features, x₁ up and x₂ down.
#
# Was the bet a good one? Compare with five numbers that store the five most important features
# perfectly and guess the mean of the others: that is what the dense network does.

# %%
x = sparse(lesson.generator(1), 4000)
errors = np.square(np.maximum(x @ np.swapaxes(W, 1, 2) @ W + b, 0) - x) * importance
clean = np.square(x - x.mean(axis=1, keepdims=True)) * importance
ratio = errors.sum(axis=(1, 2)) / clean[:, :, room:].sum(axis=(1, 2))
print("error, as a share of that of five clean features:", np.round(ratio, 2))
lesson.check("dense: nothing gained", ratio[0], at_least=0.95)
lesson.check("active 3 %: share of the error left", ratio[3], below=0.5)

# %% [markdown]
# ## A sparse autoencoder finds the directions again
#
# In a real model nobody tells us the features. We see only activations: vectors in which several
# directions are added up. Which ones? A *sparse autoencoder* has many more neurons than the
# vectors have numbers, and must explain every vector with few of them:
#
# f = ReLU(E x + c), y = D f, cost = |y - x|² + λ Σ f
#
# The columns of D have length 1; λ makes activity expensive. The test: 40 true directions in
# only 16 dimensions, of which two on average are active. The autoencoder, with 60 neurons, sees
# nothing but the sums. Afterwards we look for each true direction's best match among its columns.
#
# In a space as small as this, chance alone matches rather well: the score before training is the
# floor.

# %%
true_count, width, neurons, active = 40, 16, 60, 0.05
world = lesson.generator(2)
truth = world.standard_normal((true_count, width))
truth /= np.linalg.norm(truth, axis=1, keepdims=True)


def activations(batch):
    """Sums of the true directions that happen to be active, (batch, 16), and how much of each."""
    amounts = world.random((batch, true_count)) * (world.random((batch, true_count)) < active)
    return mg.tensor(amounts @ truth, dtype="float32"), amounts


class SparseAutoencoder(mg.nn.Module):
    """Explains vectors of `width` numbers by few of `neurons` directions."""

    def __init__(self, width, neurons, *, generator):
        super().__init__()
        self.encoder = mg.nn.Linear(width, neurons, generator=generator)
        self.decoder = mg.nn.Linear(neurons, width, bias=False, generator=generator)
        rows = generator.standard_normal((neurons, width))
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        self.encoder.weight.data = rows.astype(np.float32)
        self.encoder.bias.data = np.zeros(neurons, np.float32)
        self.decoder.weight.data = np.ascontiguousarray(rows.T, np.float32)

    def directions(self):
        """(neurons, width), each of length 1."""
        rows = self.decoder.weight.mT
        return rows / mg.sqrt(mg.sum(rows * rows, axis=1, keepdims=True))

    def forward(self, x):
        f = mg.relu(self.encoder(x))
        return f @ self.directions(), f


def best_cosines(model):
    """How well each true direction is matched by the best of the columns."""
    return (truth @ model.directions().detach().numpy().T).max(axis=1)


model = SparseAutoencoder(width, neurons, generator=lesson.generator(3))
floor = best_cosines(model)
steps, lr = lesson.pick((1500, 0.01), (500, 0.02))
optimizer = mg.optim.Adam(model.parameters(), lr=lr)
schedule = mg.optim.CosineAnnealingLR(optimizer, T_max=steps)
for _ in lesson.progress(range(steps), "sparse autoencoder"):
    x, _ = activations(256)
    y, f = model(x)
    loss = mg.mean(mg.sum(mg.square(y - x), axis=1)) + 0.2 * mg.mean(mg.sum(f, axis=1))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    schedule.step()

found = best_cosines(model)
x, amounts = activations(2000)
y, f = model(x)
busy = (f.numpy() > 1e-3).sum(axis=1).mean()
cosines = truth @ model.directions().detach().numpy().T  # (40, 60)
partner = cosines.argmax(axis=1)
own = len(np.unique(partner))
print(f"mean best cosine {found.mean():.3f}, before training {floor.mean():.3f}")
print(f"{busy:.1f} neurons explain a vector; {(amounts > 0).sum(axis=1).mean():.1f} were active")

# Over seeds 1-5: 0.96-0.98; before training 0.52-0.56.
lesson.check("mean best cosine", found.mean(), at_least=lesson.pick(0.9, 0.85))
lesson.check("the floor: before training", floor.mean(), below=0.7)
lesson.check("directions with a neuron of their own", own, at_least=lesson.pick(36, 30))
lesson.check("neurons active per vector", busy, below=width / 2)

# %% [markdown]
# The directions come back although nobody named them, and although each of the 16 numbers is a
# jumble of all 40. That is how interpretable features were pulled out of real language models.
# Honesty requires a second look, though: λ was tuned. With a λ of 0.05 the score is only about
# 0.8, and in a real model there is no truth to tune against.

# %%
with mg.viz.styled() as make:
    figure = make(figsize=(11, 7.4))
    axes = figure.subplots(2, 3)
    for ax, k in zip(axes[0], (0, 1, 4), strict=True):
        image = ax.imshow(gram[k], cmap=DIVERGING, vmin=-1.3, vmax=1.3)
        how = "always active" if densities[k] == 1 else f"active {densities[k]:.0%} of the time"
        ax.set_title(f"{how}:\n{represented[k]} features in {room} numbers")
        ax.set(xlabel="feature (important → unimportant)", xticks=(), yticks=())
    axes[0, 0].set_ylabel("feature")
    figure.colorbar(image, ax=axes[0], label="who leaks into whom: WᵀW", shrink=0.85)

    a, b_, c = axes[1]
    a.plot(densities, represented, "o-", color=BLUE)
    a.axhline(room, color=GREY, linestyle="--")
    a.text(0.011, room - 0.4, "numbers to store them in", color=GREY, va="top")
    a.set(xscale="log", ylim=(0, features), xlabel="how often a feature is active")
    a.set_xticks(densities, [f"{p:.0%}" for p in densities])
    a.set(
        yticks=range(0, features + 1, 5),
        ylabel="features represented",
        title="The rarer the features,\nthe more of them fit",
    )

    bins = np.linspace(0.3, 1, 36)
    b_.hist(floor, bins, color=GREY, alpha=0.6, label="before training")
    b_.hist(found, bins, color=COLOURS[1], alpha=0.8, label="after")
    b_.set(xlabel="best cosine to a true direction", ylabel="true directions")
    b_.set_title("Sparse autoencoder: the hidden\ndirections are found")
    b_.legend(loc="upper left")

    # Neurons in the order of the true directions they match.
    matched = cosines[:, partner]
    shade = c.imshow(matched, cmap=DIVERGING, vmin=-1, vmax=1)
    c.set(xlabel="best neuron for each direction", ylabel="true direction", xticks=(), yticks=())
    c.set_title(f"{own} of {true_count} directions have\na neuron of their own")
    figure.colorbar(shade, ax=c, label="cosine", shrink=0.85)
lesson.picture(figure, "features.png")

# %% [markdown]
# ## What the series promised for later
#
# The chapter ends with two topics it leaves for another day. *Scaling laws*: the loss of language
# models falls as a power of parameters, data and computation, smoothly over many orders of
# magnitude. *Fine-tuning* with human feedback: turning a predictor of text into an assistant;
# `ch05_chat_rlhf.py` shows a toy of it. Nothing here proves either.
#
# ## Try this
#
# 1. Which density is the border? Two features of equal importance in one number, each active with
#    probability p: compare the mean squared error of the opposite pair with that of storing one
#    of them perfectly and guessing the mean of the other. For which p does the pair win?
# 2. Take the ReLU out of the toy network (y = Wᵀ h + b). How many features fit at 1 % now?
# 3. Give the autoencoder no price on activity (λ = 0). What happens to the score?
#
# Solutions: `tutorials/solutions/ch08_superposition.py`.

# %%
lesson.finish()
