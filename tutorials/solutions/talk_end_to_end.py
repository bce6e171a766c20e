# %% [markdown]
# # Talk, a transformer from end to end: solutions

# %%
from time import perf_counter

import numpy as np

import microgpt as mg
from microgpt.learn import long_text, start

lesson = start("Talk, a transformer from end to end: solutions")


text = long_text(lesson)
saved = [lesson.out / "mini_gpt.safetensors", lesson.out / "mini_gpt_fast.safetensors"]
saved = [file for file in saved if file.is_file()]
if saved:
    model = mg.models.GPT.from_safetensors(saved[0])
    tokenizer = mg.text.load(saved[0].with_suffix(".tokens.json"))
    print(f"the GPT of chapter 6, {saved[0]}")
else:
    print(f"There is no mini_gpt.safetensors in {lesson.out}: a small GPT is trained here.")
    learnt = text.text[: lesson.pick(400_000, 80_000)]
    tokenizer = mg.text.BPETokenizer.train(learnt, vocab_size=512)
    config = mg.models.GPTConfig(512, 32, lesson.pick(64, 32), n_layer=2, n_head=4, tied=False)
    model = mg.models.GPT(config, generator=lesson.generator())
    optimizer = mg.optim.AdamW(model.parameters(), lr=6e-3)
    mg.train.fit(
        model,
        lambda logits, y: mg.cross_entropy(logits.reshape((-1, 512)), y.reshape((-1,))),
        optimizer,
        mg.data.token_batches(np.array(tokenizer.encode(learnt)), 32, 16, seed=lesson.seed),
        steps=lesson.pick(300, 100),
        clip_norm=1.0,
    )
C, H, T = model.config.n_embd, model.config.n_head, model.config.block_size
size = C // H
ids = np.array(tokenizer.encode(text.text[-40_000:]))
windows = ids[: 48 * (T + 1)].reshape(48, T + 1)


def loss():
    """Mean loss on the end of the text."""
    with mg.no_grad():
        return model.loss(windows).item()


exact = model.state_dict()
undisturbed = loss()
print(f"loss {undisturbed:.3f}")

# %% [markdown]
# **1. Weights that are not exact.** Each is multiplied by 1 + noise. One per cent is not noticed,
# ten cost little, fifty a lot: a network does not hang on single numbers. That is why the question
# about analog computers is a good one, and why weights of 8 or 4 bits work.

# %%
grown = {}
for noise in (0.01, 0.1, 0.5):
    random = lesson.generator(1)
    model.load_state_dict(
        {
            name: array.numpy() * (1 + noise * random.standard_normal(array.shape))
            for name, array in exact.items()
        }
    )
    grown[noise] = loss() - undisturbed
    print(f"noise of {noise:.0%}: loss {grown[noise]:+.4f}")
model.load_state_dict(exact)
lesson.check("noise of 1 %: change of the loss", abs(grown[0.01]), below=0.02)
lesson.check("noise of 10 %: change of the loss", grown[0.1], below=0.3)
lesson.check("noise of 50 % costs more than of 10 %", grown[0.5], above=grown[0.1])

# %% [markdown]
# **2. One head less.** Value↑ of a head is `size` columns of the output matrix of its layer: with
# them 0, nothing that it heard is added. The heads differ a lot, and a single one is often missed
# little, because the stream passes by it unchanged.

# %%
missed = {}
for layer in range(model.config.n_layer):
    name = f"h.{layer}.attn.c_proj.weight"
    for head in range(H):
        output = exact[name].numpy()
        output[:, head * size : (head + 1) * size] = 0
        model.load_state_dict({**exact, name: output})
        missed[layer, head] = loss() - undisturbed
        print(f"without head {head} of layer {layer + 1}: loss {missed[layer, head]:+.4f}")
model.load_state_dict(exact)
changes = np.array(list(missed.values()))
lesson.check("the head that is missed most", changes.max(), above=0.0)
lesson.check("most / middle", changes.max() / np.median(np.abs(changes)), above=1)
lesson.check("all heads back: loss", loss(), near=undisturbed, within=1e-5)

# %% [markdown]
# **3. Twice the text.** The perceptrons and the maps to queries, keys and values cost 24·C²
# operations per token and layer, patterns and their products 4·T·C: T² for the whole text. The
# second overtakes the first at T = 6·C tokens: for GPT-3 at 74,000, for ours at a few hundred.

# %%
lesson.check(
    "GPT-3: tokens where patterns cost as much", 24 * 12_288**2 / (4 * 12_288), equals=73_728
)
attention = mg.nn.MultiHeadAttention(C, H, generator=lesson.generator())
times = {}
for length in (256, 512, 1024, 2048)[: lesson.pick(4, 3)]:
    x = mg.randn(1, length, C, generator=lesson.generator())
    runs = []
    for _ in range(4):
        started = perf_counter()
        with mg.no_grad():
            attention(x, is_causal=True).numpy()
        runs.append(perf_counter() - started)
    times[length] = min(runs)
    print(f"{length:5} tokens: one layer of attention {1e3 * times[length]:.2f} ms")
lesson.check("four times the text: times the time", times[1024] / times[256], above=1.5)

# %%
lesson.finish()
