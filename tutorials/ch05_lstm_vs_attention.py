# %% [markdown]
# # Chapter 5: one word after the other, or all at once
#
# Before 2017 language models read as we do, word after word, with a memory that each word changes
# a little: recurrent networks, of which the LSTM was the best. The transformer takes the whole text
# in at once. The video names the reason: not that it reads better, but that it can be computed in
# parallel. Here are both, to the last multiplication, and a stop-watch.

# %%
from time import perf_counter

import numpy as np

import microgpt as mg
from microgpt.learn import long_text, start

lesson = start("Chapter 5: LSTM against attention")

# %% [markdown]
# ## One unit with a memory
#
# An LSTM unit keeps a number c, its memory, and shows h, what it makes of it. At every step it
# looks at the input x and at the h of the step before, four times: three gates between 0 and 1 say
# how much of the memory is kept (f), how much is written (i), how much is shown (o), and g, between
# -1 and 1, is what would be written.
#
#     i, f, o = σ(w·x + u·h + b), g = tanh(w·x + u·h + b)     with weights of its own each
#     c' = f·c + i·g,   h' = o·tanh(c')
#
# With single numbers, reading a text of five of them:

# %%
small = mg.nn.LSTM(1, 1, bias="single", generator=lesson.generator(1), dtype="float64")
w, u, b = (
    [mg.Scalar(value) for value in weight.numpy().reshape(4)]
    for weight in (small.weight_ih_l0, small.weight_hh_l0, small.bias_ih_l0)
)


def unit(x, h, c):
    """One step of one unit; the four rows of the weights are i, f, g, o."""
    i, f, g, o = (w[k] * x + u[k] * h + b[k] for k in range(4))
    c = f.sigmoid() * c + i.sigmoid() * g.tanh()
    return o.sigmoid() * c.tanh(), c


text_of_numbers = [0.5, -1.0, 2.0, 0.3, -0.7]
h, c = mg.Scalar(0.0), mg.Scalar(0.0)
for x in text_of_numbers:
    h, c = unit(x, h, c)
    print(f"x = {x:+.1f}   memory {c.data:+.4f}   shows {h.data:+.4f}")
h.backward()

states, _ = small(mg.tensor(np.array(text_of_numbers).reshape(5, 1, 1)))
states[-1].sum().backward()
by_engine = small.weight_hh_l0.grad.numpy().reshape(4)
difference = abs(h.data - states[-1].item())
lesson.check("unit of numbers - nn.LSTM: h", difference, at_most=1e-12)
difference = np.abs([k.grad for k in u] - by_engine).max()
lesson.check("unit of numbers - nn.LSTM: gradient", difference, at_most=1e-12)

# %% [markdown]
# ## A layer of them, and a layer of attention
#
# With d units, h and c are vectors, and each of the four is a matrix product: (d) → (d). Next to it
# causal self-attention, which was given its own chapter: every place makes a query, a key and a
# value; the pattern softmax(q·kᵀ/√d) says how much of which value each place gets.

# %%
d = 4


def lstm(x, layer):
    """(T, d) → (T, d): step t needs h and c of step t - 1."""
    w, u, b = layer.weight_ih_l0, layer.weight_hh_l0, layer.bias_ih_l0
    h = c = mg.zeros((1, d), dtype="float64")
    shown = []
    for t in range(x.shape[0]):
        i, f, g, o = mg.split(x[t : t + 1] @ w.T + h @ u.T + b, 4, axis=1)
        c = mg.sigmoid(f) * c + mg.sigmoid(i) * mg.tanh(g)
        h = mg.sigmoid(o) * mg.tanh(c)
        shown.append(h)
    return mg.concat(shown, axis=0)


def attention(x, w_q, w_k, w_v):
    """(T, d) → (T, d): every place at once."""
    q, k, v = x @ w_q, x @ w_k, x @ w_v
    unseen = np.triu(np.ones((len(x), len(x)), dtype=bool), 1)
    scores = mg.where(mg.tensor(unseen), -np.inf, q @ k.T / d**0.5)  # (T, T)
    return mg.softmax(scores, axis=-1) @ v


layer = mg.nn.LSTM(d, d, bias="single", generator=lesson.generator(2), dtype="float64")
w_qkv = [mg.randn(d, d, generator=lesson.generator(3), dtype="float64") for _ in range(3)]
x = mg.randn(7, d, generator=lesson.generator(4), dtype="float64")
with mg.no_grad():
    difference = (lstm(x, layer) - layer(x.reshape((7, 1, d)))[0].reshape((7, d))).numpy()
    lesson.check("LSTM by hand - nn.LSTM", np.abs(difference).max(), at_most=1e-12)
    together = mg.scaled_dot_product_attention(*(x @ w for w in w_qkv), causal=True)
    difference = (attention(x, *w_qkv) - together).numpy()
    lesson.check("attention by hand - the package's", np.abs(difference).max(), at_most=1e-12)

# %% [markdown]
# ## Who must wait for whom
#
# The graph that is recorded for the gradients knows which operation needs the result of which. The
# longest chain in it is the time that even a machine with endless hands would need, one operation
# after the other. For the LSTM it grows with the text; for attention it is the same for any text.


# %%
def longest_chain(result):
    """Operations that wait for each other, at most, on the way to `result`."""
    graph = mg.viz.Graph(result, max_nodes=None)
    steps = [0] * len(graph.nodes)
    for source, target in graph.edges:  # in the order of the targets
        steps[target] = max(steps[target], steps[source] + 1)
    return max(steps)


lengths = [4, 8, 16, 32, lesson.pick(64, 40)]
chains = {"LSTM": [], "attention": []}
for T in lengths:
    x = mg.randn(T, d, generator=lesson.generator(), dtype="float64", requires_grad=True)
    chains["LSTM"].append(longest_chain(lstm(x, layer)[-1]))
    chains["attention"].append(longest_chain(attention(x, *w_qkv)[-1]))
    print(f"{T:3} places: LSTM {chains['LSTM'][-1]:3}, attention {chains['attention'][-1]}")
growth = (chains["LSTM"][1] - chains["LSTM"][0]) // 4
straight = [chains["LSTM"][0] + growth * (T - lengths[0]) for T in lengths]
lesson.check("LSTM: operations per further place", growth, at_least=1)
lesson.check("LSTM: chain grows in a straight line", chains["LSTM"] == straight, equals=True)
lesson.check("attention: different lengths of chains", len(set(chains["attention"])), equals=1)

# %% [markdown]
# ## The stop-watch
#
# And on this machine? One layer of 64 units and one of attention of the same width read a text of T
# places, forward only. A graphics card has thousands of hands; a processor has a few, and gains
# mainly because few large products are quicker than many small ones. And it has to pay for what
# attention does more of: T·T scores. So here attention is ahead with short texts and falls back
# with long ones. (One core with NumPy: 6 times as quick with 64 places, 1.3 times with 2,048.
# Another machine or backend has other figures, so only the growth of the LSTM's time is checked.)


# %%
def seconds(compute):
    """The shortest of several runs: the one that was disturbed least."""
    compute()  # the first one may be slower
    runs = []
    for _ in range(lesson.pick(7, 3)):
        started = perf_counter()
        compute()
        runs.append(perf_counter() - started)
    return min(runs)


width = 64
lstm_layer = mg.nn.LSTM(width, width, bias="single", generator=lesson.generator())
attention_layer = mg.nn.MultiHeadAttention(width, 4, generator=lesson.generator())
places = [16, 32, 64, 128, 256, 512, 1024, 2048][: lesson.pick(8, 6)]
clock = {"LSTM": [], "attention": []}
for T in lesson.progress(places, "stop-watch"):
    x = mg.randn(T, 1, width, generator=lesson.generator())  # (T, 1, width)
    y = x.reshape((1, T, width))
    with mg.no_grad():
        clock["LSTM"].append(1e3 * seconds(lambda x=x: lstm_layer(x)[0].numpy()))
        clock["attention"].append(
            1e3 * seconds(lambda y=y: attention_layer(y, is_causal=True).numpy())
        )
for T, by_lstm, by_attention in zip(places, *clock.values(), strict=True):
    print(f"{T:5} places: LSTM {by_lstm:7.2f} ms, attention {by_attention:7.2f} ms")
ratio = clock["LSTM"][-1] / clock["LSTM"][0]
print(f"{places[-1] // places[0]} times the text: {ratio:.1f} times the time of the LSTM")
lesson.check("LSTM: time grows with the text", ratio, above=1)

# %%
with mg.viz.styled() as figure:
    picture = figure(figsize=(9, 3.8))
    left, right = picture.subplots(1, 2)
    for (name, chain), colour, mark in zip(
        chains.items(), mg.viz.style.COLOURS, "os", strict=False
    ):
        left.plot(lengths, chain, marker=mark, color=colour)
        right.plot(places, clock[name], marker=mark, color=colour)
        left.annotate(
            name, (lengths[-2], chain[-2]), (0, 9), textcoords="offset points", ha="right",
            color=colour, fontsize=11,
        )  # fmt: skip
        right.plot([], [], marker=mark, color=colour, label=name)
    left.set(title="Steps that wait for each other", xlabel="places in the text")
    left.set(ylabel="operations in a row", ylim=(0, None))
    right.set(title="Time on this machine", xlabel="places in the text")
    right.set_ylabel("milliseconds")
    right.set_xscale("log", base=2)
    right.set_yscale("log")
    right.set_xticks(places, [f"{T:,}" for T in places], fontsize=8)
    low, high = right.get_ylim()
    right.set_yticks([t for t in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100) if low <= t <= high])
    right.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    right.minorticks_off()
    right.legend()
    for axes in (left, right):
        axes.grid()
lesson.picture(picture, "serial_parallel.png")

# %% [markdown]
# ## Two language models
#
# Which of them writes better? An LSTM of 128 units that reads letter by letter, and a transformer
# with about as many weights, on the same windows of 64 letters of the same text, the same number of
# steps. An LSTM has 4·(V·h + h² + h) parameters, with V inputs and h units, and h·V + V more for
# the logits.


# %%
text = long_text(lesson)
tokenizer = mg.text.CharTokenizer.from_text(text.text)
V, T = tokenizer.vocab_size, lesson.pick(64, 32)
letters = np.array(tokenizer.encode(text.text[: lesson.pick(None, 200_000)]))
learnt, kept_back = mg.data.split(letters, 0.1)
kept_back = kept_back[: lesson.pick(30_000, 6_000)]

units = lesson.pick(128, 64)
config = mg.models.GPTConfig(V, T, lesson.pick(64, 32), n_layer=2, n_head=4, tied=False)
models = {
    "LSTM": mg.models.CharLSTM(V, units, generator=lesson.generator()),
    "attention": mg.models.GPT(config, generator=lesson.generator()),
}
for part, weights, biases in models["LSTM"].count():
    print(f"{part:<28}{weights:>8,} weights{biases:>6,} biases")
formula = 4 * (V * units + units**2 + units) + units * V + V
lesson.check("parameters of the LSTM", models["LSTM"].num_parameters(), equals=formula)
print(f"the transformer has {models['attention'].num_parameters():,}")


# %%
def next_letter_loss(outputs, targets):
    """Mean of -ln p(the letter that came); the LSTM gives its state along with the logits."""
    logits = outputs[0] if isinstance(outputs, tuple) else outputs
    return mg.cross_entropy(logits.reshape((-1, V)), targets.reshape((-1,)))


steps = lesson.pick(600, 120)
rates = {"LSTM": lesson.pick(1e-2, 2e-2), "attention": lesson.pick(4e-3, 6e-3)}
losses, per_step = {}, {}
for name, model in models.items():
    optimizer = mg.optim.AdamW(model.parameters(), lr=rates[name])
    started = perf_counter()
    run = mg.train.fit(
        model,
        next_letter_loss,
        optimizer,
        mg.data.token_batches(learnt, T, batch_size=16, seed=lesson.seed),
        steps=steps,
        schedule=mg.optim.WarmupCosine(optimizer, warmup=steps // 20, total=steps),
        clip_norm=1.0,
        val=mg.data.token_batches(kept_back, T, batch_size=32, order="consecutive"),
        eval_every=steps // 2,
    )
    losses[name] = run.evaluations[-1]["val_loss"]
    per_step[name] = 1e3 * (perf_counter() - started) / steps

# %%
share = np.bincount(learnt, minlength=V) + 1.0
share /= share.sum()
pairs = np.zeros((V, V))
np.add.at(pairs, (learnt[:-1], learnt[1:]), 1.0)
follows = (pairs + share) / (pairs.sum(axis=1, keepdims=True) + 1)
unigram = -np.log(share[kept_back[1:]]).mean()
bigram = -np.log(follows[kept_back[:-1], kept_back[1:]]).mean()
print(f"loss by counting letters {unigram:.3f}, by counting pairs of letters {bigram:.3f}")
for name, loss in losses.items():
    print(f"{name:>9}: loss on unseen text {loss:.3f}, {per_step[name]:.0f} ms per step")
    lesson.check(f"{name}: loss on unseen text", loss, below=lesson.pick(bigram, unigram))

# %% [markdown]
# With a hundred thousand weights and half a minute on one core, the LSTM is ahead, with 2.02 to
# 2.04 against 2.17 to 2.20 over seeds 1–5, and its steps take half the time. It is no worse a
# reader. What decided is that the transformer can be trained on a whole text at once, so that a
# machine with many hands can be given ten thousand times as much of it.
#
# Writing, by the way, is one token after the other for both: there the transformer has lost its
# advantage, and the LSTM's step costs the same however long the text has become.

# %%
for name, model in models.items():
    print(f"---- {name}")
    print(model.generate("The ", lesson.pick(250, 80), 0.8, seed=lesson.seed, tokenizer=tokenizer))

# %% [markdown]
# ## Try this
#
# 1. How far back does each of them reach? Change one letter of a text and look at how much the
#    prediction after its end changes, for letters at different distances.
# 2. The LSTM was given 64 letters at a time, but its state could be carried on. Does it predict
#    better if it starts each window with the state in which the one before ended?
# 3. Write 200 letters with each and watch the clock per letter. Which of the two gets slower?
#
# Solutions: `tutorials/solutions/ch05_lstm_vs_attention.py`.

# %%
lesson.finish()
