# %% [markdown]
# # Chapter 6, train a GPT: solutions

# %%
import numpy as np

import microgpt as mg
from microgpt.learn import long_text, start

lesson = start("Chapter 6, train a GPT: solutions")


text = long_text(lesson)
learnt, kept_back = mg.data.split(text.text[: lesson.pick(500_000, 80_000)], 0.1)
tokenizer = mg.text.BPETokenizer.train(learnt, vocab_size=512)
V, T = tokenizer.vocab_size, 32
tokens = np.array(tokenizer.encode(learnt))
unseen = np.array(tokenizer.encode(kept_back[: lesson.pick(None, 5_000)]))
width = lesson.pick(64, 32)


def next_token_loss(logits, targets):
    return mg.cross_entropy(logits.reshape((-1, V)), targets.reshape((-1,)))


def trained(**changes):
    """A GPT with these changes, after a short training, and its loss on unseen text."""
    sizes = dict(block_size=T, n_embd=width, n_layer=2, n_head=4, tied=False)
    config = mg.models.GPTConfig(V, **{**sizes, **changes})
    model = mg.models.GPT(config, generator=lesson.generator())
    steps = lesson.pick(400, 60)
    optimizer = mg.optim.AdamW(model.parameters(), lr=lesson.pick(4e-3, 8e-3))
    run = mg.train.fit(
        model,
        next_token_loss,
        optimizer,
        mg.data.token_batches(tokens, T, batch_size=16, seed=lesson.seed),
        steps=steps,
        schedule=mg.optim.WarmupCosine(optimizer, steps // 10, steps),
        clip_norm=1.0,
        val=mg.data.token_batches(unseen, T, batch_size=64, order="consecutive"),
        eval_every=steps,
    )
    return model, run.evaluations[-1]["val_loss"]


share = (np.bincount(tokens, minlength=V) + 1.0) / (len(tokens) + V)
counting = -np.log(share[unseen]).mean()
print(f"loss by counting tokens: {counting:.3f}")

# %% [markdown]
# **1. More layers.** Each brings 12·C² weights (4·C² of attention, 8·C² of the perceptron) and 13·C
# biases and norms, and takes its time in every step. After so few steps it buys nothing: 3.81, 3.89
# and 3.93 with one, two and four layers. Depth pays when there is text and time to use it.

# %%
models, losses = {}, {}
for layers in lesson.pick((1, 2, 4), (1, 2)):
    models[layers], losses[layers] = trained(n_layer=layers)
    print(f"{layers} layers: {models[layers].num_parameters():,} parameters, {losses[layers]:.3f}")
more = models[2].num_parameters() - models[1].num_parameters()
lesson.check("parameters of a layer", more, equals=12 * width**2 + 13 * width)
lesson.check("the best of them < counting tokens", min(losses.values()), below=counting)

# %% [markdown]
# **2. No positions.** It loses nothing yet (3.87 against 3.89): which token stands there is most of
# what one needs to know, and the mask leaks the order. With one layer the last place sees a bag of
# tokens: shuffle those before it, and nothing changes. With two, the tokens in between have already
# looked back, each at those before it, and the order shows.

# %%
_, without = trained(positions="none")
print(f"loss with positions {losses[2]:.3f}, without {without:.3f}")
lesson.check("without positions < counting tokens", without, below=counting)

window = unseen[:T].copy()
shuffled = window.copy()
shuffled[:-1] = lesson.generator(1).permutation(shuffled[:-1])
for layers, bound in ((1, dict(at_most=1e-10)), (2, dict(above=1e-6))):
    sizes = dict(block_size=T, n_embd=32, n_layer=layers, n_head=4, positions="none")
    config = mg.models.GPTConfig(V, **sizes, init_std=0.2)
    model = mg.models.GPT(config, dtype="float64", generator=lesson.generator())
    with mg.no_grad():
        change = (model(window[None]) - model(shuffled[None])).numpy()[0, -1]
    lesson.check(f"{layers} layer(s): what a shuffle changes", np.abs(change).max(), **bound)

# %% [markdown]
# **3. Between T = 0 and T = 1.** Both T = 0.7 and the five likeliest at T = 1 repeat themselves
# less than T = 0 (more of their runs of three tokens are different) and surprise less than T = 1
# (they rarely take what the model itself finds odd).

# %%
model = models[2]
prompt = tokenizer.encode("Once upon a time")


def bits(written):
    """Mean surprise of the model itself per token, in bits."""
    ids, total = prompt + written, 0.0
    for end in range(len(prompt), len(ids)):
        with mg.no_grad():
            logits = model(np.array([ids[max(0, end - T) : end]]), last_only=True)
        total -= mg.log_softmax(logits).numpy()[0, 0, ids[end]] / np.log(2)
    return total / len(written)


ways = {
    "T = 0": dict(temperature=0),
    "T = 0.7": dict(temperature=0.7),
    "T = 1, top 5": dict(temperature=1, top_k=5),
    "T = 1": dict(temperature=1),
}
different, surprise = {}, {}
for name, way in ways.items():
    written = model.generate(prompt, lesson.pick(300, 150), seed=lesson.seed, **way)
    triples = list(zip(written, written[1:], written[2:], strict=False))
    different[name], surprise[name] = len(set(triples)) / len(triples), bits(written)
    print(f"{name:>12}: {different[name]:.0%} different triples, {surprise[name]:.1f} bits")
for name in ("T = 0.7", "T = 1, top 5"):
    lesson.check(f"{name}: different triples", different[name], above=different["T = 0"])
    lesson.check(f"{name}: surprise in bits", surprise[name], below=surprise["T = 1"])

# %%
lesson.finish()
