# %% [markdown]
# # Chapter 6: the smallest model, and what a large one reads
#
# Two things stand at the beginning of the chapter. What learning from data means, with the smallest
# model there is: a straight line, two parameters. And what it is that a GPT reads: everything is
# cut into tokens, words and images and sounds alike, and every token becomes a vector.

# %%
import re
from collections import Counter
from itertools import pairwise

import numpy as np

import microgpt as mg
from microgpt.errors import DataError, MissingExtraError
from microgpt.learn import images, long_text, start
from microgpt.viz.style import COLOURS, GREY

lesson = start("Chapter 6: linear regression, tokens, patches, frames")

# %% [markdown]
# ## A line through points
#
# 200 flats, invented: their size in square metres and their price. The model says
# price = m · size + b, and the cost is the mean squared error. Sizes are measured from their
# mean in units of their spread; then both parameters learn at the same speed.

# %%
source = lesson.generator()
area = source.uniform(30, 150, 200)
price = 40 + 3.2 * area + source.normal(0, 40, 200)  # in thousands
size = (area - area.mean()) / area.std()

# %% [markdown]
# Of all models, this one can be solved with paper and pencil: the cost is lowest where
# m = cov(size, price) / var(size) and b = mean(price) - m · mean(size).

# %%
away = size - size.mean()
m_exact = np.mean(away * (price - price.mean())) / np.mean(away**2)
b_exact = price.mean() - m_exact * size.mean()
print(f"closed form: m = {m_exact:.4f}, b = {b_exact:.4f}")

# %% [markdown]
# Gradient descent does not know that. In single numbers, for one flat:

# %%
m, b = mg.Scalar(0.0), mg.Scalar(0.0)
error = m * float(size[0]) + b - float(price[0])
(error**2).backward()
lesson.check("∂C/∂m = 2·error·size", m.grad, near=2 * error.data * size[0], within=1e-9)
lesson.check("∂C/∂b = 2·error", b.grad, near=2 * error.data, within=1e-9)

# %% [markdown]
# And for many, as a layer with one input and one output. Mini-batches of 10 quickly lead near the
# lowest point and jitter around it, since every batch has another line it likes best. For the last
# digits the batch grows: the second half of the steps takes all flats at once.

# %%
line = mg.nn.Linear(1, 1, generator=lesson.generator(1)).to(dtype="float64")
optimizer = mg.optim.SGD(line.parameters(), lr=0.05)
x = mg.tensor(size.reshape(-1, 1), dtype="float64")  # (200, 1)
y = mg.tensor(price.reshape(-1, 1), dtype="float64")

STEPS = 400
path = []
for step in lesson.progress(range(STEPS), "fitting a line"):
    if step < STEPS // 2:
        rows = mg.tensor(source.integers(200, size=10))
        loss = mg.mse_loss(line(x[rows]), y[rows])
    else:
        loss = mg.mse_loss(line(x), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    path.append((line.weight.item(), line.bias.item()))
print(f"descent:     m = {path[-1][0]:.4f}, b = {path[-1][1]:.4f}")
lesson.check("slope, SGD - closed form", abs(path[-1][0] - m_exact), at_most=1e-4)
lesson.check("intercept, SGD - closed form", abs(path[-1][1] - b_exact), at_most=1e-4)

# %% [markdown]
# ## Text to tokens
#
# A GPT reads neither letters nor words, but something in between, chosen by counting. Start with
# the 256 bytes. Find the pair of neighbours that is most frequent, make it a token of its own, and
# repeat: byte pair encoding. Pairs are counted within words (a space belongs to the word after
# it), so every different word is looked at once and counts as often as it occurs.


# %%
def merged(ids, pair, new):
    """The tokens, with every occurrence of the pair replaced by the new token."""
    out, i = [], 0
    while i < len(ids):
        if i + 1 < len(ids) and (ids[i], ids[i + 1]) == pair:
            out.append(new)
            i += 2
        else:
            out.append(ids[i])
            i += 1
    return tuple(out)


text = long_text(lesson).text[: lesson.pick(300_000, 40_000)]
words = Counter(tuple(word.encode()) for word in re.findall(r" ?\w+| ?[^\w\s]+|\s+", text))
pairs = Counter()
for word, times in words.items():
    for pair in pairwise(word):
        pairs[pair] += times

merges = []
for step in lesson.progress(range(lesson.pick(500, 80)), "merging"):
    best = max(pairs, key=lambda pair: (pairs[pair], pair))
    merges.append(best)
    # Only words that hold the pair change, and with them the counts of their pairs.
    for word in [w for w in words if best[0] in w and best[1] in w and best in pairwise(w)]:
        times, joined = words.pop(word), merged(word, best, 256 + step)
        words[joined] += times
        for pair in pairwise(word):
            pairs[pair] -= times
        for pair in pairwise(joined):
            pairs[pair] += times

tokenizer = mg.text.BPETokenizer(merges)
print(tokenizer)
print("first merges:", "  ".join(repr(tokenizer.token(256 + i)) for i in range(12)))
print("last merges: ", "  ".join(repr(tokenizer.token(255 + len(merges) - i)) for i in range(8)))
lesson.check("tokens", tokenizer.vocab_size, equals=256 + len(merges))

# %% [markdown]
# The tokens of a sentence. The video shows "cle·ve·rest" for one word of it: that split belongs to
# the merges of GPT. Ours have read something else, and less, so they cut elsewhere.

# %%
SENTENCE = "To date, the cleverest thinker of all time was"
pieces = tokenizer.pieces(SENTENCE)
print("·".join(pieces))
ids = tokenizer.encode(text)
ratio = len(text.encode()) / len(ids)
print(f"{len(text.encode()):,} bytes are {len(ids):,} tokens")
lesson.check("bytes per token", ratio, at_least=1.4)

# %% [markdown]
# Whatever the merges are, nothing may be lost: decode(encode(x)) = x for every x, of any script,
# also for what was never seen and for bytes that are no text at all. (The library's own tests let
# Hypothesis look for a counterexample; here are some random ones.)

# %%
lesson.check("round trip: the text", tokenizer.decode(ids) == text, equals=True)
lost = 0
for _ in range(300):
    codes = source.integers(0x10FFFF + 1, size=source.integers(30)).tolist()
    every = "".join(chr(c) for c in codes if not 0xD800 <= c < 0xE000)  # halves of pairs are none
    letters = "".join(source.choice(list(" \n'aehtTxyzé猫🙂"), size=20))
    noise = source.bytes(20)
    lost += tokenizer.decode(tokenizer.encode(every)) != every
    lost += tokenizer.decode(tokenizer.encode(letters)) != letters
    lost += tokenizer.decode_bytes(tokenizer.encode(noise)) != noise
lesson.check("round trip: lost of 900 texts", lost, equals=0)

# %% [markdown]
# ## Images to tokens
#
# An image is cut into square patches: 28 x 28 pixels into 16 patches of 7 x 7. Each is a list of 49
# numbers, and one matrix (49, d) makes vectors of them, as the embedding does with words. From
# there on a transformer does the same with them, be they a sentence or an image.

# %%
digits, is_mnist = images(lesson)
patches = mg.data.patchify(digits.x_train[:100], 7)
print(f"images {digits.x_train[:100].shape} → patches {patches.shape}")
embed = mg.nn.Linear(49, 12, generator=lesson.generator(2))
vectors = embed(mg.tensor(patches))  # (100, 16, 12)
lesson.check("vectors of an image", str(tuple(vectors.shape[1:])), equals="(16, 12)")
back = mg.data.unpatchify(patches, 7)
lesson.check("round trip: 100 images", bool((back == digits.x_train[:100]).all()), equals=True)
colour = source.integers(256, size=(3, 12, 20, 3), dtype=np.uint8)
back = mg.data.unpatchify(mg.data.patchify(colour, 4), 4, (12, 20, 3))
lesson.check("round trip: colour images", bool((back == colour).all()), equals=True)

# %% [markdown]
# ## Sound to tokens
#
# A recording is a long list of pressures, 8,000 a second. It is cut into frames of 25 milliseconds,
# 200 samples each. A new one usually begins before the last has ended, here every 10 ms, so
# that nothing falls between two frames. Put together again, overlaps are averaged.


# %%
def recording():
    """A spoken digit if it can be had, else two tones; and samples per second."""
    if not lesson.fast:  # reading all 3,000 recordings takes a second
        try:
            found = mg.data.spoken_digits(folder=lesson.data)
            lesson.uses(f"{found.name}, a recording of a {found.classes[found.labels[0]]}")
            return found.samples[0], found.rate
        except (DataError, MissingExtraError):
            if lesson.data or mg.config.get("data"):
                raise
    lesson.uses("two tones, computed")
    time = np.arange(4_000) / 8_000
    tones = np.sin(2 * np.pi * 220 * time) + 0.5 * np.sin(2 * np.pi * 660 * time)
    return (0.5 * tones * np.exp(-4 * time)).astype(np.float32), 8_000


samples, rate = recording()
frames = mg.data.frames(samples, 200, 80, pad=True)
chunks = mg.data.frames(samples, 200, pad=True)
print(f"{len(samples):,} samples → {len(frames)} frames of 200, or {len(chunks)} chunks of 200")
whole = mg.data.unframe(chunks, length=len(samples))
lesson.check("round trip: chunks", bool((whole == samples).all()), equals=True)
whole = mg.data.unframe(frames, 80, length=len(samples))
off = float(np.abs(whole - samples).max())
lesson.check("round trip: overlapping frames, gap", off, at_most=1e-6)

# %% [markdown]
# ## The picture
#
# Above: the line while it learns, and its distance from the closed form: fast, then jittering, and
# exact once every step sees all flats. Below: a sentence, an image and a sound in tokens.

# %%
with mg.viz.styled() as figure:
    fig = figure(figsize=(11, 9))
    top, middle, bottom = fig.subfigures(3, 1, height_ratios=(1.5, 0.42, 1))
    left, right = top.subplots(1, 2)
    left.scatter(area, price, s=9, color="#bbbbbb", label="200 flats")
    ends = np.array([30.0, 150.0])
    scaled = (ends - area.mean()) / area.std()
    for step, shade in ((4, 0.3), (12, 0.45), (25, 0.6), (STEPS - 1, 1.0)):
        slope, intercept = path[step]
        left.plot(ends, slope * scaled + intercept, color=COLOURS[0], alpha=shade)
        left.text(151, slope * scaled[1] + intercept, f"step {step + 1}", fontsize=8, va="center")
    left.plot(ends, m_exact * scaled + b_exact, "--", color=COLOURS[1], label="closed form")
    left.set(xlabel="size in m²", ylabel="price in thousands", xlim=(25, 170))
    left.set_title("A line learns")
    left.legend(loc="upper left")
    apart = np.abs(np.array(path) - (m_exact, b_exact))
    right.plot(range(1, STEPS + 1), apart[:, 0], color=COLOURS[0], label="slope m")
    right.plot(range(1, STEPS + 1), apart[:, 1], color=COLOURS[2], label="intercept b")
    right.axvline(STEPS // 2, color=GREY, linestyle=":")
    right.text(STEPS // 2 - 6, 1e-6, "mini-batches", ha="right", color=GREY)
    right.text(STEPS // 2 + 6, 1e-6, "all flats", color=GREY)
    right.axhline(1e-4, color=GREY, linewidth=0.8)
    right.text(3, 1.6e-4, "0.0001", color=GREY, fontsize=9)
    right.set(yscale="log", xlabel="step", ylabel="distance", title="How far from the closed form")
    right.legend(loc="upper right")
    right.grid()

    ax = middle.subplots()
    place = 0.0
    for i, piece in enumerate(pieces):
        tint = COLOURS[i % 5]
        ax.barh(0, len(piece), left=place, height=0.8, color=tint, alpha=0.28, edgecolor="white")
        for k, letter in enumerate(piece.replace(" ", "␣")):
            ax.text(place + k + 0.5, 0, letter, ha="center", va="center", family="DejaVu Sans Mono")
        number = str(tokenizer.encode(SENTENCE)[i])
        ax.text(place + len(piece) / 2, -0.7, number, ha="center", fontsize=6.5, color=GREY)
        place += len(piece)
    ax.set(xlim=(0, place), ylim=(-0.9, 0.5))
    ax.set_axis_off()
    ax.set_title(f"{len(SENTENCE)} characters, {len(pieces)} tokens by our {len(merges)} merges")

    picture, wave = bottom.subplots(1, 2, width_ratios=(1, 2.4))
    spread = np.ones((34, 34))
    for i, patch in enumerate(patches[0].reshape(16, 7, 7)):
        row, column = 9 * (i // 4), 9 * (i % 4)
        spread[row : row + 7, column : column + 7] = 1 - patch
        corners = np.array([[0, 0], [7, 0], [7, 7], [0, 7], [0, 0]]) + (column, row) - 0.5
        picture.plot(*corners.T, color=GREY, linewidth=0.8)
    picture.imshow(spread, cmap="gray", vmin=-0.15, vmax=1)
    picture.set_axis_off()
    picture.set_title("an image: 16 patches of 7 x 7")
    seconds = np.arange(len(samples)) / rate
    wave.plot(seconds, samples, color="#222222", linewidth=0.6)
    high = float(np.abs(samples).max())
    for i in range(len(chunks)):
        wave.axvspan(i * 200 / rate, (i + 1) * 200 / rate, color=COLOURS[i % 5], alpha=0.25, lw=0)
    wave.set(xlabel="seconds", yticks=(), ylim=(-1.1 * high, 1.1 * high))
    wave.set(xlim=(0, len(samples) / rate), title=f"a sound: {len(chunks)} chunks of 25 ms")
lesson.picture(fig, "regression.png")

# %% [markdown]
# ## Try this
#
# 1. Keep mini-batches to the end, but let the step size fall as 0.05 / (1 + step / 50). How close
#    do slope and intercept come in 400 steps, compared with a fixed step size?
# 2. Learn the merges with `mg.text.BPETokenizer.train(text, 768)` and encode the same text. How
#    many bytes does a token have now, and how many with vocabularies of 300 and 2,000?
# 3. Train on English and encode a Chinese sentence. How many tokens does a character take, and why?
#
# Solutions: `tutorials/solutions/ch06_regression_tokens.py`.

# %%
lesson.finish()
