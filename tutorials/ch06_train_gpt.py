# %% [markdown]
# # Chapter 6: a GPT of your own, trained from nothing
#
# The video takes GPT-3 apart and counts its 175 billion weights. Here is the smallest honest
# version of the same machine: the same eight kinds of matrices with a millionth of the weights,
# and about as small a part of the text. It starts as noise, and two minutes later it writes in the
# manner of what it has read. At the end it is saved, so that other lessons can take it apart.

# %%
import numpy as np

import microgpt as mg
from microgpt.errors import InputError, ShapeError
from microgpt.learn import long_text, start

lesson = start("Chapter 6: train a GPT, and let it tell stories")

# %% [markdown]
# ## The text
#
# A million characters of Shakespeare's plays, or, where they cannot be had, the documentation that
# every Python brings along. The last tenth is kept back: the model never learns from it.


# %%
text = long_text(lesson)
learnt, kept_back = mg.data.split(text.text[: lesson.pick(None, 150_000)], 0.1)

# %% [markdown]
# ## Tokens
#
# A token is a frequent piece of text. Byte pair encoding starts with the 256 bytes and joins the
# most frequent neighbours, again and again, until there are V = 512 tokens.

# %%
tokenizer = mg.text.BPETokenizer.train(learnt, vocab_size=512)
V = tokenizer.vocab_size
tokens = np.array(tokenizer.encode(learnt))
unseen = np.array(tokenizer.encode(kept_back))
print(f"{len(tokens):,} tokens to learn from, {len(learnt) / len(tokens):.2f} characters in each")
print(" · ".join(tokenizer.pieces("Once upon a time, there was")))
lesson.check("decoded text = text", tokenizer.decode(unseen) == kept_back, equals=True)

# %% [markdown]
# ## The machine
#
# A window of T tokens becomes T vectors of d numbers (embedding), shape (batch, T, d). Every block
# lets the vectors exchange information (attention) and think by themselves (multilayer
# perceptron), and adds the result to them. In the end each vector is turned into V logits
# (unembedding), shape (batch, T, V): one number for every token that might come next.
#
# These are the sizes. For GPT-3 they are V = 50,257, T = 2,048, d = 12,288, 96 layers, 96 heads.

# %%
T = lesson.pick(64, 32)
config = mg.models.GPTConfig(
    vocab_size=V,
    block_size=T,
    n_embd=lesson.pick(64, 32),
    n_layer=2,
    n_head=4,
    tied=False,  # a matrix of its own for the unembedding, as in the video's table
)
model = mg.models.GPT(config, generator=lesson.generator())
print(model.count())
lesson.check("parameters, formula = model", model.count().total, equals=model.num_parameters())

# %% [markdown]
# ## What it is trained for
#
# The model reads T tokens and says, after every one of them, what it expects next. So a window is
# not one lesson but T: the same pass is asked for the second token given one, the third given two,
# and so on. That is only fair because a token never sees those after it (that both are so is
# checked below). The loss is the mean of -ln p(the token that really came).
#
# An untrained model has no opinion, p = 1/V for everything, so its loss must be ln V.


# %%
def next_token_loss(logits, targets):
    """(batch, T, V) logits and (batch, T) tokens that came → mean of -ln p."""
    return mg.cross_entropy(logits.reshape((-1, V)), targets.reshape((-1,)))


validation = mg.data.token_batches(
    unseen[: lesson.pick(None, 4_000)], T, batch_size=32, order="consecutive"
)
untrained = mg.train.evaluate(model, next_token_loss, validation)["loss"]
lesson.check("loss of the untrained model (ln V)", untrained, near=np.log(V), within=0.1)

# %% [markdown]
# Two predictors that only count, to compare with. One knows how frequent each token is. The other
# also looks at the token before: how often did b follow a? (Pairs that were never seen get a
# little of the first.)

# %%
frequency = np.bincount(tokens, minlength=V) + 1.0
frequency /= frequency.sum()
pairs = np.zeros((V, V))
np.add.at(pairs, (tokens[:-1], tokens[1:]), 1.0)
after = (pairs + 20 * frequency) / (pairs.sum(axis=1, keepdims=True) + 20)
one_token = -np.log(frequency[unseen[1:]]).mean()
two_tokens = -np.log(after[unseen[:-1], unseen[1:]]).mean()
print(f"loss by counting tokens {one_token:.3f}, by counting pairs {two_tokens:.3f}")

# %% [markdown]
# ## Training
#
# Gradient descent with AdamW on random windows. A checkpoint is written every 250 steps: stop the
# lesson with Ctrl-C (or the notebook's stop button), start it again, and it goes on with the very
# windows it would have seen. A finished run is not repeated; delete the folder to begin anew.
# (Over seeds 1–5 the loss on unseen text ends at 3.19 to 3.22; counting pairs reaches 3.62.)

# %%
steps = lesson.pick(2_000, 150)
optimizer = mg.optim.AdamW(model.parameters(), lr=lesson.pick(3e-3, 6e-3), weight_decay=0.1)
name = text.name.lower().replace(" ", "-")
folder = lesson.out / "ch06_train_gpt" / f"{name}-d{config.n_embd}-{steps}-seed{lesson.seed}"
run = mg.train.fit(
    model,
    next_token_loss,
    optimizer,
    mg.data.token_batches(tokens, T, batch_size=16, seed=lesson.seed),
    steps=steps,
    schedule=mg.optim.WarmupCosine(optimizer, warmup=steps // 20, total=steps),
    clip_norm=1.0,
    val=validation,
    eval_every=steps // lesson.pick(8, 3),
    keep_best=False,
    out=folder,
    resume=True,
    save_every=250,
    keep=1,
)
if run.interrupted:
    raise SystemExit("interrupted; start the lesson again, and it goes on from here")
loss = run.evaluations[-1]["val_loss"]
print(f"loss on text it has never seen: {untrained:.3f} → {loss:.3f}")
lesson.check("loss on unseen text", loss, below=lesson.pick(two_tokens, one_token))

# %%
figure = mg.viz.cost_curve(
    {"training": run.losses}, ylabel="loss: mean of -ln p", title=f"A GPT learns from {text.name}"
)
axes = figure.axes[0]
axes.plot(
    [row["step"] for row in run.evaluations],
    [row["val_loss"] for row in run.evaluations],
    "o",
    color=mg.viz.style.COLOURS[1],
    label="on text it never learns from",
)
for level, what in (
    (np.log(V), f"no opinion: ln {V}"),
    (one_token, "counting tokens"),
    (two_tokens, "counting pairs of tokens"),
):
    axes.axhline(level, color=mg.viz.style.GREY, linestyle=":", linewidth=1)
    axes.annotate(
        what, (0.99, level), xycoords=("axes fraction", "data"), ha="right", va="bottom", fontsize=9
    )
axes.set_ylim(min(run.losses) * 0.92, np.log(V) * 1.12)
axes.legend(loc="lower left", frameon=False, fontsize=9)
lesson.picture(figure, "loss.png")

# %% [markdown]
# ## Stories at three temperatures
#
# Writing is predicting in a loop: draw a token from the distribution, append it, predict again.
# The logits are divided by the temperature T before the softmax. T = 0 always takes the likeliest
# token, T = 1 draws from what the model believes, T = 5 is nearly as good as dice. (The video's
# remark that no more than 2 is allowed is a rule of one company's interface, not of mathematics.)

# %%
PROMPT = "Once upon a time, there was"
LENGTH = lesson.pick(150, 60)


def story(temperature, seed):
    """The tokens that follow the prompt."""
    prompt = tokenizer.encode(PROMPT)
    return model.generate(prompt, LENGTH, temperature, seed=seed)


def printable(text):
    """The text with a dot for what cannot be printed: random bytes do odd things to a terminal."""
    return "".join(c if c.isprintable() or c == "\n" else "·" for c in text.replace("\ufffd", "·"))


def judged(written):
    """-log2 of the probability of each token at T = 1; share of those that were the likeliest."""
    ids = tokenizer.encode(PROMPT) + written
    bits, likeliest = [], []
    for end in range(len(ids) - len(written), len(ids)):
        with mg.no_grad():
            logits = model(np.array([ids[max(0, end - T) : end]]), last_only=True)
        log_p = mg.log_softmax(logits).numpy()[0, 0]
        bits.append(-log_p[ids[end]] / np.log(2))
        likeliest.append(log_p[ids[end]] > log_p.max() - 1e-4)
    return np.array(bits), np.mean(likeliest)


temperatures = (0, 1, 5)
stories = {temperature: story(temperature, lesson.seed) for temperature in temperatures}
bits, likeliest = {}, {}
for temperature, written in stories.items():
    bits[temperature], likeliest[temperature] = judged(written)
    print(
        f"\n---- T = {temperature}: {likeliest[temperature]:.0%} of the tokens were the likeliest, "
        f"{bits[temperature].mean():.1f} bits of surprise per token"
    )
    print(PROMPT + printable(tokenizer.decode(written)))
print()
lesson.check(
    "T = 0, another seed: same story", story(0, lesson.seed + 1) == stories[0], equals=True
)
lesson.check(
    "T = 1, another seed: same story", story(1, lesson.seed + 1) == stories[1], equals=False
)
lesson.check("T = 0: share of likeliest tokens", likeliest[0], equals=1.0)
lesson.check("T = 1: share of likeliest tokens", likeliest[1], at_least=likeliest[5], below=0.8)
lesson.check("T = 5: share of likeliest tokens", likeliest[5], below=0.1)
lesson.check("T = 5: bits more than at T = 1", bits[5].mean() - bits[1].mean(), above=2)

# %% [markdown]
# The darker a token, the less the model itself expected it. At T = 0 every token is the likeliest
# one (at T = 1 a fifth to a half of them, over seeds 1–5), and the same phrases come back and back:
# the likeliest text is not a likely text. At T = 5 little is left of the language: even bytes that
# never occur in it come up (\x..).

# %%
shaded, chances = [], []
for temperature, written in stories.items():
    shaded += [f"\n\nT = {temperature}\n" if shaded else f"T = {temperature}\n", PROMPT]
    shaded += [tokenizer.token(i) for i in written]
    chances += [np.nan, np.nan, *(2.0 ** -bits[temperature])]
lesson.picture(
    mg.viz.shaded_text(shaded, chances, columns=84, title="Three temperatures, one model"),
    "stories.png",
)

# %% [markdown]
# ## One pass is T lessons
#
# In float64, so that equal means equal to ten digits: the logits after every place of one pass
# over T tokens are those of T passes that end there.

# %%
exact = mg.models.GPT(config, dtype="float64", generator=lesson.generator())
exact.load_state_dict(model.state_dict())
window = unseen[None, :T]
with mg.no_grad():
    together = exact(window).numpy()[0]
    one_by_one = [exact(window[:, :t], last_only=True).numpy()[0, 0] for t in range(1, T + 1)]
difference = np.abs(together - np.array(one_by_one)).max()
lesson.check("one pass - T passes", difference, at_most=1e-10)

# %% [markdown]
# ## The context is all there is
#
# A GPT has a place for T tokens and no more (GPT-3: 2,048). A longer text is refused, or its
# beginning is dropped, and what was dropped has no influence at all: two texts with different
# beginnings and the same last T tokens have the same future. This is why early chatbots lost the
# thread of long conversations.

# %%
try:
    model(unseen[None, : T + 1])
    answer = "read"
except ShapeError as error:
    answer = "refused"
    print(error)
lesson.check("T + 1 tokens", answer, equals="refused")

try:
    model.generate(unseen[:T], 2, overflow="refuse")
    answer = "written"
except InputError as error:
    answer = "refused"
    print(error)
lesson.check("writing beyond the context, if not cropped", answer, equals="refused")

common = unseen[:T]
futures = []
for beginning in (tokens[:40], tokens[1000:1100]):
    long = np.concatenate([beginning, common])
    futures.append(model.generate(long, 20, return_probabilities=True, seed=lesson.seed))
lesson.check("another dropped beginning: same future", futures[0] == futures[1], equals=True)
changed = np.concatenate([tokens[:40], common[:1] + 1, common[1:]])  # the first that is kept
future = model.generate(changed, 20, return_probabilities=True, seed=lesson.seed)
lesson.check("another kept token: same probabilities", future[1] == futures[0][1], equals=False)

# %% [markdown]
# ## Keep it
#
# Weights and sizes in one file (safetensors, in GPT-2's layout), the tokens in another.

# %%
file = lesson.out / lesson.pick("mini_gpt.safetensors", "mini_gpt_fast.safetensors")
model.to_safetensors(file)
tokenizer.save(file.with_suffix(".tokens.json"))
again = mg.models.GPT.from_safetensors(file)
before, now = model.state_dict(), again.state_dict()
same = all(np.array_equal(now[name].numpy(), before[name].numpy()) for name in before)
print(f"saved as {file}")
lesson.check("weights in the file = weights", same, equals=True)

# %% [markdown]
# ## Try this
#
# 1. Take `n_layer=1`, then 4, at the same number of steps. What does a layer buy?
# 2. Set `positions="none"` in the config. How much does it lose, and why is it not helpless? (The
#    last cell will refuse: GPT-2's layout has positions. `mg.checkpoints.save_weights` has none.)
# 3. Between T = 0 and T = 1 lies a compromise: write stories at T = 0.7, or at T = 1 with
#    `top_k=5`. Which of them repeats itself less than T = 0 and errs less than T = 1?
#
# Solutions: `tutorials/solutions/ch06_train_gpt.py`.

# %%
lesson.finish()
