# %% [markdown]
# # The talk: a transformer from end to end
#
# The talk goes through the whole machine in one go: tokens become vectors, attention lets them
# exchange information, multilayer perceptrons let them think by themselves, and the last vector
# says what comes next. This lesson does it with a trained GPT, that of `ch06_train_gpt.py`: every
# step by hand from its weights, every claim of the chapters checked once more on this machine.

# %%
import numpy as np

import microgpt as mg
from microgpt.learn import long_text, start

lesson = start("Talk: a transformer from end to end")

# %% [markdown]
# ## A trained GPT
#
# The one that chapter 6 saved in the folder for results; if there is none, a smaller one that is
# trained here for a few seconds, and knows less.


# %%
def trained_here():
    """A small GPT and its tokenizer, after a few seconds of training."""
    learnt = long_text(lesson).text[: lesson.pick(400_000, 100_000)]
    tokenizer = mg.text.BPETokenizer.train(learnt, vocab_size=512)
    sizes = dict(block_size=32, n_embd=lesson.pick(64, 32), n_layer=2, n_head=4, tied=False)
    model = mg.models.GPT(mg.models.GPTConfig(512, **sizes), generator=lesson.generator())
    optimizer = mg.optim.AdamW(model.parameters(), lr=5e-3)
    steps = lesson.pick(300, 100)
    mg.train.fit(
        model,
        lambda logits, y: mg.cross_entropy(logits.reshape((-1, 512)), y.reshape((-1,))),
        optimizer,
        mg.data.token_batches(np.array(tokenizer.encode(learnt)), 32, 16, seed=lesson.seed),
        steps=steps,
        schedule=mg.optim.WarmupCosine(optimizer, steps // 20, steps),
        clip_norm=1.0,
    )
    return model, tokenizer


saved = [lesson.out / "mini_gpt.safetensors", lesson.out / "mini_gpt_fast.safetensors"]
saved = [file for file in saved if file.is_file()]
if saved:
    model = mg.models.GPT.from_safetensors(saved[0])
    tokenizer = mg.text.load(saved[0].with_suffix(".tokens.json"))
    lesson.uses(f"the GPT of chapter 6, {saved[0]}")
else:
    print(f"There is no mini_gpt.safetensors in {lesson.out}: a small GPT is trained here.")
    model, tokenizer = trained_here()
config = model.config
V, C, L, H = config.vocab_size, config.n_embd, config.n_layer, config.n_head
size = C // H  # of a head: d_k in the chapters

# %% [markdown]
# ## Where the parameters are
#
# One formula counts GPT-3, as the video does (its eight kinds of matrices: no biases, norms or
# positions), and ours. What the formula says is compared with the arrays that really are there.

# %%
gpt3 = mg.models.GPT.count(mg.models.GPTConfig.gpt3(), everything=False)
lesson.check("GPT-3: weights", gpt3.total, equals=175_181_291_520)
lesson.check("GPT-3: matrices", gpt3.matrices, equals=27_938)

exact = mg.models.GPT(config, dtype="float64")  # to compare to ten digits
exact.load_state_dict(model.state_dict())
w = exact.state_dict()


def held(part):
    """Numbers in all arrays whose names have this part."""
    return sum(array.size for name, array in w.items() if part in name)


in_memory = {
    "Embedding": held("wte"),
    "Key": held("c_attn.weight") // 3,  # query, key and value lie in one array
    "Query": held("c_attn.weight") // 3,
    "Value↓": held("c_attn.weight") // 3,
    "Value↑": held("attn.c_proj.weight"),
    "Up": held("c_fc.weight"),
    "Down": held("mlp.c_proj.weight"),
    "Unembedding": held("lm_head"),
}
ours = model.count(everything=False)
print(ours)
rows = {row.kind: row.weights for row in ours}
wrong = [kind for kind, count in in_memory.items() if rows[kind] != count]
lesson.check("ours: kinds that differ from the formula", len(wrong), equals=0)
lesson.check("ours: all parameters", model.num_parameters(), equals=model.count().total)

# %% [markdown]
# Most of GPT-3 is in the multilayer perceptrons, two thirds of it. In a small model the words
# themselves weigh more, for a vocabulary does not shrink as easily.

# %%
shares = {}
for name, table in (("GPT-3", gpt3), ("ours", ours)):
    mlp = sum(row.weights for row in table if row.kind in ("Up", "Down"))
    heads = sum(row.weights for row in table if row.kind[:3] in ("Key", "Que", "Val"))
    shares[name] = mlp / table.total
    print(
        f"{name:>6}: perceptrons {mlp / table.total:.1%}, attention {heads / table.total:.1%}, "
        f"words {1 - (mlp + heads) / table.total:.1%}"
    )
d, n, T3 = 12_288, 49_152, 2_048
lesson.check("GPT-3: weights of Up in one layer", n * d, equals=603_979_776)
lesson.check("GPT-3: weights of one perceptron", 2 * n * d, equals=1_207_959_552)
lesson.check("GPT-3: weights of all perceptrons", 2 * n * d * 96, equals=115_964_116_992)
lesson.check("GPT-3: their share", shares["GPT-3"], near=0.662, within=0.0005)
lesson.check("GPT-3: activations per perceptron", n * T3, equals=100_663_296)
lesson.check("ours: weights of one perceptron", in_memory["Up"] * 2 // L, equals=8 * C * C)
lesson.check("parameters of the GELU", exact.h[0].mlp.act.num_parameters(), equals=0)

# %% [markdown]
# ## The whole way by hand
#
# A text of T tokens. Each token takes its row of the embedding, plus the row of its position:
# (T, C). In each head, every place makes a query, a key and a value of `size` numbers; the pattern
# (T, T) says who listens to whom; Value↑ turns what was heard back into C numbers, which are
# *added*. So are those of the perceptron. At the end, the unembedding: (T, V).

# %%
sentence = "To be, or not to be, that is the"
ids = np.array(tokenizer.encode(sentence))
T = len(ids)
print(" · ".join(tokenizer.pieces(sentence)))


def norm(x, name):
    return mg.layer_norm(x, w[f"{name}.weight"], w[f"{name}.bias"])


def linear(x, name):
    return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]


future = mg.tensor(np.triu(np.ones((T, T), dtype=bool), 1))


def by_hand(x):
    """(T, C) vectors → logits, vectors after every stage, and scores and patterns of each head."""
    stages, scores, patterns = [x], [], []
    for layer in range(L):
        name = f"h.{layer}"
        q, k, v = mg.split(linear(norm(x, f"{name}.ln_1"), f"{name}.attn.c_attn"), 3, axis=1)
        for head in range(H):
            own = slice(head * size, (head + 1) * size)
            scores.append(q[:, own] @ k[:, own].T)  # row: who asks, column: who is asked
            masked = mg.where(future, -np.inf, scores[-1] / size**0.5)
            patterns.append(mg.softmax(masked, axis=-1))
            heard = patterns[-1] @ v[:, own]  # (T, size)
            x = x + heard @ w[f"{name}.attn.c_proj.weight"][:, own].T
        x = x + w[f"{name}.attn.c_proj.bias"]
        stages.append(x)
        hidden = mg.gelu(linear(norm(x, f"{name}.ln_2"), f"{name}.mlp.c_fc"), "tanh")
        x = x + linear(hidden, f"{name}.mlp.c_proj")
        stages.append(x)
    return norm(x, "ln_f") @ w["lm_head.weight"].T, stages, scores, patterns


embedded = mg.take(w["wte.weight"], mg.tensor(ids), axis=0) + w["wpe.weight"][:T]
with mg.no_grad():
    logits, stages, scores, patterns = by_hand(embedded)
    difference = np.abs(logits.numpy() - exact(ids[None]).numpy()[0]).max()
lesson.check("by hand - the model", difference, at_most=1e-10)

# %% [markdown]
# ## Attention, checked
#
# Every row of a pattern sums to 1. (The videos draw queries in columns: transposed, the columns
# do.) And what comes later has no influence, not even a little: the derivative of what is said at
# place t with respect to the vector at place s > t is exactly 0.

# %%
sums = np.array([pattern.numpy().sum(axis=1) for pattern in patterns])
lesson.check("sums of the rows - 1", np.abs(sums - 1).max(), at_most=1e-12)
columns = np.array([pattern.T.numpy().sum(axis=0) for pattern in patterns])
lesson.check("the video's way: sums of columns - 1", np.abs(columns - 1).max(), at_most=1e-12)

upper = np.triu_indices(T, 1)
above = np.array([pattern.numpy()[upper] for pattern in patterns])
lesson.check("-∞ before the softmax: future weights", np.abs(above).max(), equals=0.0)
unmasked = [mg.softmax(score / size**0.5, axis=-1).numpy() for score in scores]
zeroed = np.array([np.tril(pattern).sum(axis=1) for pattern in unmasked])
print(f"zeros put in after the softmax: rows sum to {zeroed.min():.3f} … {zeroed.max():.3f}")
lesson.check("0 after the softmax: smallest row sum", zeroed.min(), below=0.99)

influence = np.zeros((T, T))
for t in range(T):
    leaf = mg.tensor(embedded, requires_grad=True)
    (by_hand(leaf)[0][t] ** 2).sum().backward()
    influence[t] = np.sqrt((leaf.grad.numpy() ** 2).sum(axis=1))
lesson.check("influence of the future", influence[upper].max(), equals=0.0)
lesson.check("influence of the past, smallest", influence[np.tril_indices(T)].min(), above=0)

# %% [markdown]
# Why the scores are divided by √d_k: products of longer vectors are larger, and a softmax of large
# numbers listens to one place only. With random vectors of 128 numbers, as in GPT-3, and 16 keys;
# then with the queries and keys of our own model, whose heads have fewer.

# %%
random = lesson.generator(1)
q, k = random.standard_normal((400, 128)), random.standard_normal((400, 16, 128))
raw = np.einsum("nd,nkd->nk", q, k)


def top_weight(scores):
    """Mean of the largest weight in each row."""
    return mg.softmax(mg.tensor(scores), axis=-1).numpy().max(axis=-1).mean()


scaled = raw / 128**0.5
print(f"random: deviation {raw.std():.1f} → {scaled.std():.2f}, ", end="")
print(f"largest weight {top_weight(raw):.2f} → {top_weight(scaled):.2f}")
lesson.check("random: deviation of the scores", raw.std(), near=11.3, within=0.5)
lesson.check("random: deviation after division", scaled.std(), near=1.0, within=0.05)
lesson.check("random: largest weight", top_weight(raw), near=0.89, within=0.03)
lesson.check("random: largest weight after division", top_weight(scaled), near=0.25, within=0.02)

last = np.array([score.numpy()[-1] for score in scores])  # the last place sees all of them
before, after = top_weight(last), top_weight(last / size**0.5)
print(f"ours, d_k = {size}: largest weight {before:.2f} → {after:.2f}")
lesson.check("ours: largest weight after division", after, below=before)

# %% [markdown]
# And the price: every place looks at every other. The pattern has T² entries in every head.

# %%
entries = 2_048**2
lesson.check("GPT-3: entries of a pattern", entries, equals=4_194_304)
lesson.check("GPT-3: entries of all patterns", entries * 96 * 96, equals=38_654_705_664)
lesson.check("twice the context: times the entries", (2 * T) ** 2 / T**2, equals=4)

# %% [markdown]
# ## The flow
#
# What would each vector say, if it were asked for the next word already? The unembedding can be
# applied at every stage. At first a vector knows little more than its own token; on the way up it
# becomes a prediction. Lines: who listens to whom, in the colour of the head, the darker the more.


# %%
def says(x):
    """The likeliest next token of each vector, and its probability."""
    with mg.no_grad():
        p = mg.softmax(norm(x, "ln_f") @ w["lm_head.weight"].T, axis=-1).numpy()
    return p.argmax(axis=1), p.max(axis=1)


labels = ["embedding"]
for layer in range(L):
    labels += [f"attention {layer + 1}", f"perceptron {layer + 1}"]
with mg.viz.styled() as figure:
    picture = figure(figsize=(max(0.78 * T, 8) + 1.2, 1.05 * len(stages) + 1.6))
    axes = picture.subplots()
    for stage, x in enumerate(stages):
        for t, (token, p) in enumerate(zip(*says(x), strict=True)):
            box = dict(boxstyle="round,pad=0.25", edgecolor="#888888", linewidth=0.6)
            box["facecolor"] = mg.viz.style.colour_map(mg.viz.style.SEQUENTIAL)(0.9 * p)
            label = mg.viz.style.shown(tokenizer.token(int(token)), most=7)
            white = "white" if mg.viz.style.dark(0.9 * p) else "#222222"
            axes.text(
                t, stage + 1, label, ha="center", va="center", fontsize=9, color=white, bbox=box
            )
        for t in range(T):
            axes.plot([t, t], [stage + 0.25, stage + 0.75], color="#dddddd", linewidth=1, zorder=0)
        if stage % 2:  # what came in through attention
            heads = patterns[(stage // 2) * H : (stage // 2 + 1) * H]
            for head, pattern in enumerate(heads):
                weights, aside = pattern.numpy(), 0.05 * (head - (H - 1) / 2)
                for t, s in zip(*np.nonzero(weights > 0.2), strict=True):
                    axes.plot(
                        [s + aside, t + aside], [stage + 0.25, stage + 0.75],
                        color=mg.viz.style.COLOURS[1 + head % 6], alpha=float(weights[t, s]),
                        linewidth=2, zorder=0,
                    )  # fmt: skip
    for t, token in enumerate(ids):
        axes.text(
            t, 0, mg.viz.style.shown(tokenizer.token(int(token))), ha="center", va="center",
            fontsize=10, fontweight="bold",
        )  # fmt: skip
    axes.set_yticks(range(len(stages) + 1), ["token", *labels])
    axes.set_xticks([])
    axes.set(xlim=(-0.6, T - 0.4), ylim=(-0.4, len(stages) + 0.4))
    for head in range(H):
        axes.plot([], [], color=mg.viz.style.COLOURS[1 + head % 6], label=f"head {head}")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, 0.0), ncols=H)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    axes.set_title(
        "A text flows up through our GPT\n"
        "box: the likeliest next token at this stage, the darker the surer; "
        "lines: attention above 20 %"
    )
lesson.picture(picture, "flow.png")

# %% [markdown]
# ## What keeps the training stable
#
# A question from the audience. One answer is the norms: each block reads its vectors brought to
# mean 0 and deviation 1. Eight blocks, with and without, untrained, for initial weights of
# different size: how large is the gradient? With norms it hardly matters how one begins (largest
# over smallest: 1.7 to 2.6 over seeds 1–5); without, a little too small and hardly anything moves,
# a little too large and everything explodes (a factor of 10¹¹ to 10¹⁴ between them).


# %%
class Nothing(mg.nn.Module):
    """Takes the place of a norm."""

    def forward(self, x):
        return x


def gradient_norm(deviation, with_norms):
    """Length of the gradient of an untrained model of eight blocks on 256 random tokens."""
    sizes = dict(vocab_size=512, block_size=32, n_embd=32, n_layer=8, n_head=4, tied=False)
    config = mg.models.GPTConfig(**sizes, init_std=deviation, init_scaled=False)
    model = mg.models.GPT(config, generator=lesson.generator())
    if not with_norms:
        model.ln_f = Nothing()
        for block in model.h:
            block.ln_1, block.ln_2 = Nothing(), Nothing()
    model.loss(lesson.generator(2).integers(0, 512, size=(8, 33))).backward()
    return np.sqrt(sum((p.grad.numpy().astype(float) ** 2).sum() for p in model.parameters()))


spread = {}
for with_norms in (True, False):
    lengths = [gradient_norm(deviation, with_norms) for deviation in (0.02, 0.06, 0.1, 0.2, 0.3)]
    spread[with_norms] = max(lengths) / min(lengths)
    name = "with norms" if with_norms else "without"
    print(f"{name:>11}: gradient of length", ", ".join(f"{length:.2g}" for length in lengths))
lesson.check("with norms: largest / smallest", spread[True], at_most=5)
lesson.check("without: largest / smallest", spread[False], at_least=1e6)

# %% [markdown]
# ## Try this
#
# 1. Another question was about analog computers, whose weights are not exact. Add noise of 1, 10
#    and 50 % to all weights: how much does the loss on a text grow?
# 2. Switch off one head after the other (set its columns of Value↑ to 0). Does any of them matter
#    much more than the others?
# 3. Double the number of tokens: how does the time of one pass grow, and how that of attention?
#
# Solutions: `tutorials/solutions/talk_end_to_end.py`.

# %%
lesson.finish()
