# %% [markdown]
# # Chapter 5, the next word: solutions

# %%
import numpy as np

import microgpt as mg
from microgpt.learn import long_text, start

lesson = start("Chapter 5, the next word: solutions")


text = long_text(lesson)
learnt, kept_back = mg.data.split(text.text[: lesson.pick(None, 100_000)], 0.1)
tokenizer = mg.text.BPETokenizer.train(learnt, vocab_size=512)
V, T = tokenizer.vocab_size, 32
tokens = np.array(tokenizer.encode(learnt))
unseen = np.array(tokenizer.encode(kept_back[: lesson.pick(40_000, 6_000)]))
config = mg.models.GPTConfig(V, T, lesson.pick(64, 32), n_layer=2, n_head=4, tied=False)
validation = mg.data.token_batches(unseen, T, batch_size=64, order="consecutive")


def every_place(logits, targets):
    return mg.cross_entropy(logits.reshape((-1, V)), targets.reshape((-1,)))


def last_place(logits, targets):
    return mg.cross_entropy(logits[:, -1], targets[:, -1])


def trained(loss):
    """A model after a short training with this loss, judged at every place of unseen text."""
    model = mg.models.GPT(config, generator=lesson.generator())
    optimizer = mg.optim.AdamW(model.parameters(), lr=lesson.pick(4e-3, 8e-3))
    steps = lesson.pick(400, 80)
    mg.train.fit(
        model,
        loss,
        optimizer,
        mg.data.token_batches(tokens, T, batch_size=16, seed=lesson.seed),
        steps=steps,
        schedule=mg.optim.WarmupCosine(optimizer, steps // 10, steps),
        clip_norm=1.0,
    )
    return mg.train.evaluate(model, every_place, validation)["loss"]


# %% [markdown]
# **1. Between how many tokens does it hesitate?** exp(loss), the perplexity: all V of them before
# training; some dozens after it.

# %%
frequency = (np.bincount(tokens, minlength=V) + 1.0) / (len(tokens) + V)
pairs = np.zeros((V, V))
np.add.at(pairs, (tokens[:-1], tokens[1:]), 1.0)
follows = (pairs + 20 * frequency) / (pairs.sum(axis=1, keepdims=True) + 20)
unigram = -np.log(frequency[unseen[1:]]).mean()
bigram = -np.log(follows[unseen[:-1], unseen[1:]]).mean()
untrained = mg.models.GPT(config, generator=lesson.generator())
before = mg.train.evaluate(untrained, every_place, validation)["loss"]
after = trained(every_place)
for name, loss in (
    ("untrained", before), ("counting tokens", unigram), ("counting pairs", bigram),
    ("trained (shortly)", after),
):  # fmt: skip
    print(f"{name:>18}: hesitates between {np.exp(loss):.0f} tokens")
lesson.check("untrained: share of the V tokens", np.exp(before) / V, near=1, within=0.1)
lesson.check("trained: hesitates between", np.exp(after), below=np.exp(unigram))

# %% [markdown]
# **2. Counting further.** Triples beat the pairs clearly, if they lean on the pairs where little
# was counted: 3.05 against 3.62 on the whole text. That is better than the lesson's model (3.5) and
# even than that of chapter 6 (3.2): with half a million tokens and a minute of training, counting
# is hard to beat. But their table has V³ = 134 million places, of which 0.1 % was ever seen, and
# ten tokens in a row would need 512¹⁰, more than there are grains of sand; nearly every one in
# unseen text is new. So counting leads no further; something must recognise what is alike.

# %%
triples, contexts = {}, {}
for a, b, c in zip(tokens.tolist(), tokens[1:].tolist(), tokens[2:].tolist(), strict=False):
    triples[a, b, c] = triples.get((a, b, c), 0) + 1
    contexts[a, b] = contexts.get((a, b), 0) + 1
total = 0.0
for a, b, c in zip(unseen.tolist(), unseen[1:].tolist(), unseen[2:].tolist(), strict=False):
    lean = 10 * follows[b, c]
    total -= np.log((triples.get((a, b, c), 0) + lean) / (contexts.get((a, b), 0) + 10))
trigram = total / (len(unseen) - 2)
print(f"pairs {bigram:.3f}, triples {trigram:.3f}; {len(triples) / V**3:.2%} of the table seen")
lesson.check("triples < pairs", trigram, below=bigram)
lesson.check("share of the table of triples", len(triples) / V**3, below=0.01)


def tens(ids):
    """All runs of ten tokens."""
    return {tuple(ids[i : i + 10]) for i in range(len(ids) - 9)}


known, new = tens(tokens.tolist()), tens(unseen.tolist())
repeated = len(new & known) / len(new)
print(f"{repeated:.2%} of the runs of ten in unseen text had come before")
lesson.check("runs of ten that had come before", repeated, below=0.2)

# %% [markdown]
# **3. The last token only.** The pass costs the same, but gives 16 lessons instead of 16·32. At the
# same number of steps the model is far behind.

# %%
last_only = trained(last_place)
print(f"loss: every place {after:.3f}, last place only {last_only:.3f}")
lesson.check("last place only: loss", last_only, above=after)

# %%
lesson.finish()
