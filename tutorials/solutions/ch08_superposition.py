# %% [markdown]
# # Solutions for chapter 8: superposition

# %%
import numpy as np

import microgpt as mg
from microgpt.learn import start

lesson = start("Chapter 8, solutions: superposition")
lesson.uses("generated: sparse features, and sums of random directions")

# %% [markdown]
# ## 1. Where is the border?
#
# The opposite pair fails only if both are active (p²), and then it loses the smaller of the two,
# twice: once from each. For two uniform numbers the smaller one has the mean square 1/6, so
# the error is p²/3. Guessing the mean of a feature costs its variance, p/3 - p²/4. The pair wins
# as long as p²/3 < p/3 - p²/4, that is for p < 4/7: even if they are active every second time.

# %%
generator = lesson.generator()
for p, pair_wins in ((0.1, True), (0.5, True), (0.65, False)):
    x = generator.random((200_000, 2)) * (generator.random((200_000, 2)) < p)
    h = mg.tensor(x[:, 0] - x[:, 1])
    y = mg.stack([mg.relu(h), mg.relu(-h)], axis=1).numpy()
    pair = np.square(y - x).sum(axis=1).mean()
    alone = x[:, 1].var()
    print(f"p = {p}: error of the pair {pair:.4f}, of one alone {alone:.4f}")
    lesson.check(f"p = {p}: error of the pair / (p²/3)", pair / (p**2 / 3), near=1, within=0.15)
    lesson.check(f"p = {p}: the pair wins", bool(pair < alone), equals=pair_wins)

# %% [markdown]
# ## 2. Without ReLU
#
# Then y = WᵀW x + b is linear, and WᵀW has rank 5. What leaks between features can no longer be cut
# off, and is there for every x, however rare. The best such map keeps five directions and no more:
# superposition needs the nonlinearity.

# %%
features, room, p, batch = 20, 5, 0.01, 256
importance = mg.tensor(0.85 ** np.arange(features), dtype="float32")
represented = {}
for name, cut in (("with ReLU", mg.relu), ("without", lambda z: z)):
    generator = lesson.generator(1)
    start_values = 0.3 * generator.standard_normal((room, features))
    W = mg.tensor(start_values, dtype="float32", requires_grad=True)
    b = mg.zeros(features, dtype="float32", requires_grad=True)
    optimizer = mg.optim.Adam([W, b], lr=0.03)
    steps = lesson.pick(1500, 500)
    schedule = mg.optim.CosineAnnealingLR(optimizer, T_max=steps)
    for _ in lesson.progress(range(steps), name):
        active = generator.random((batch, features)) < p
        x = mg.tensor(generator.random((batch, features)) * active, dtype="float32")
        loss = mg.mean(importance / p * mg.square(cut(x @ W.mT @ W + b) - x))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    share = np.square(W.detach().numpy()).sum(axis=0)
    represented[name] = int((share > 0.5).sum())
    print(f"{name}: {represented[name]} of {features} features in {room} numbers")
lesson.check("with ReLU: features represented", represented["with ReLU"], above=room)
lesson.check("without ReLU: features represented", represented["without"], at_most=room)

# %% [markdown]
# ## 3. Activity for nothing
#
# With 60 neurons for vectors of 16 numbers there are countless ways to be exact; nothing favours
# the one that uses the true directions. The price on activity is what finds them.

# %%
scores = {}
for price in (0.0, 0.2):
    world = lesson.generator(2)
    truth = world.standard_normal((40, 16))
    truth /= np.linalg.norm(truth, axis=1, keepdims=True)
    rows = world.standard_normal((60, 16))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    encoder = mg.tensor(rows.T, dtype="float32", requires_grad=True)  # (16, 60)
    decoder = mg.tensor(rows, dtype="float32", requires_grad=True)  # (60, 16)
    c = mg.zeros(60, dtype="float32", requires_grad=True)
    steps = lesson.pick(1000, 500)
    optimizer = mg.optim.Adam([encoder, decoder, c], lr=0.02)
    schedule = mg.optim.CosineAnnealingLR(optimizer, T_max=steps)
    for _ in lesson.progress(range(steps), f"price {price}"):
        amounts = world.random((128, 40)) * (world.random((128, 40)) < 0.05)
        x = mg.tensor(amounts @ truth, dtype="float32")
        f = mg.relu(x @ encoder + c)
        y = f @ (decoder / mg.sqrt(mg.sum(decoder * decoder, axis=1, keepdims=True)))
        loss = mg.mean(mg.sum(mg.square(y - x), axis=1)) + price * mg.mean(mg.sum(f, axis=1))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    columns = decoder.detach().numpy()
    columns = columns / np.linalg.norm(columns, axis=1, keepdims=True)
    scores[price] = (truth @ columns.T).max(axis=1).mean()
    print(f"price {price}: mean best cosine {scores[price]:.3f}")
lesson.check("price 0: mean best cosine", scores[0.0], below=0.75)
lesson.check("price 0.2: mean best cosine", scores[0.2], at_least=0.8)

# %%
lesson.finish()
