# %% [markdown]
# # Chapter 5, LSTM against attention: solutions

# %%
from time import perf_counter

import numpy as np

import microgpt as mg
from microgpt.learn import long_text, start

lesson = start("Chapter 5, LSTM against attention: solutions")


text = long_text(lesson)
tokenizer = mg.text.CharTokenizer.from_text(text.text)
V, T = tokenizer.vocab_size, 32
letters = np.array(tokenizer.encode(text.text[: lesson.pick(500_000, 100_000)]))
learnt, kept_back = mg.data.split(letters, 0.1)
config = mg.models.GPTConfig(V, T, lesson.pick(64, 32), n_layer=2, n_head=4, tied=False)
models = {
    "LSTM": mg.models.CharLSTM(V, lesson.pick(128, 64), generator=lesson.generator()),
    "attention": mg.models.GPT(config, generator=lesson.generator()),
}


def next_letter_loss(outputs, targets):
    logits = outputs[0] if isinstance(outputs, tuple) else outputs
    return mg.cross_entropy(logits.reshape((-1, V)), targets.reshape((-1,)))


steps = lesson.pick(500, 80)
for name, rate in (("LSTM", 1e-2), ("attention", 5e-3)):
    optimizer = mg.optim.AdamW(models[name].parameters(), lr=rate)
    mg.train.fit(
        models[name],
        next_letter_loss,
        optimizer,
        mg.data.token_batches(learnt, T, batch_size=16, seed=lesson.seed),
        steps=steps,
        schedule=mg.optim.WarmupCosine(optimizer, steps // 10, steps),
        clip_norm=1.0,
    )

# %% [markdown]
# **1. How far back?** In 200 windows of 32 letters one letter is replaced, and the distributions of
# the 33rd are compared: half the sum of absolute differences, 0 for no influence, 1 for all. The
# last letter decides most with both, and what lies far back has hardly any say: language of letters
# is mostly local. But the LSTM's memory has to be carried over every step in between.


# %%
def distribution(model, windows):
    """(n, T) windows → (n, V), what comes after the last letter."""
    with mg.no_grad():
        outputs = model(windows)
        logits = outputs[0] if isinstance(outputs, tuple) else outputs
        return mg.softmax(logits[:, -1], axis=-1).numpy()


random = lesson.generator(1)
starts = random.integers(0, len(kept_back) - T, size=200)
windows = kept_back[starts[:, None] + np.arange(T)]
for name, model in models.items():
    before, change = distribution(model, windows), {}
    for distance in (1, 2, 4, 8, 16, 32):
        other = windows.copy()
        other[:, -distance] = random.choice(learnt, size=200)
        change[distance] = np.abs(distribution(model, other) - before).sum(axis=1).mean() / 2
    print(f"{name:>9}:", ", ".join(f"{d} back {c:.3f}" for d, c in change.items()))
    lesson.check(f"{name}: influence of the last letter", change[1], above=2 * change[16])

# %% [markdown]
# **2. Carrying the state on.** The text in 16 streams, in windows of 8 letters. Starting each
# window from nothing, the LSTM has to guess its first letters blindly; with the state in which the
# window before ended it has read everything so far.

# %%
streams = mg.data.token_batches(kept_back[:8_000], 8, 16, order="streams")
losses = {"from nothing": [], "carried on": []}
state = None
for x, y in streams:
    with mg.no_grad():
        fresh, _ = models["LSTM"](x)
        carried, state = models["LSTM"](x, state)
    losses["from nothing"].append(next_letter_loss(fresh, y).item())
    losses["carried on"].append(next_letter_loss(carried, y).item())
fresh, carried = (float(np.mean(values)) for values in losses.values())
print(f"loss with windows of 8: from nothing {fresh:.3f}, carried on {carried:.3f}")
lesson.check("state carried on: loss", carried, below=fresh)

# %% [markdown]
# **3. The clock while writing.** The LSTM makes one step for every letter. A transformer that reads
# everything anew for every letter gets slower until its context is full. If it keeps the keys and
# values of the letters before (the cache), a letter is one query that looks at all of them. Within
# the context the text is the same.


# %%
def per_letter(write, length):
    """Milliseconds per letter, and the text."""
    started = perf_counter()
    written = write(length)
    return 1e3 * (perf_counter() - started) / length, written


prompt = tokenizer.encode("T")
ways = {
    "LSTM": lambda n: models["LSTM"].generate(prompt, n, 0),
    "attention, anew": lambda n: models["attention"].generate(prompt, n, 0, use_cache=False),
    "attention, cache": lambda n: models["attention"].generate(prompt, n, 0),
}
texts = {}
for name, write in ways.items():
    time, texts[name] = per_letter(write, T - 1)
    longer, _ = per_letter(write, lesson.pick(200, 60))
    print(f"{name:>17}: {time:.2f} ms per letter within the context, {longer:.2f} beyond")
same = texts["attention, anew"] == texts["attention, cache"]
lesson.check("attention: same text with the cache", same, equals=True)
lesson.check("LSTM: letters beyond the context of 32", len(ways["LSTM"](50)), equals=50)

# %%
lesson.finish()
