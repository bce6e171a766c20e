# %% [markdown]
# # Solutions: linear regression and tokens

# %%
import numpy as np

import microgpt as mg
from microgpt.learn import start

lesson = start("Solutions to chapter 6: linear regression and tokens")

# %% [markdown]
# ## 1. Falling step sizes
#
# With a fixed step size the line jitters for ever; with a falling one the jitter dies down, but so
# does the speed. Mean distance of (m, b) from the closed form over the last 50 of 400 steps, over
# seeds 1 to 5: 2.4–3.7 with fixed steps, 1.1–2.0 with falling ones. Better, yet far from 0.0001:
# for that the noise itself must go, as it does when every step sees all flats.

# %%
source = lesson.generator()
area = source.uniform(30, 150, 200)
price = 40 + 3.2 * area + source.normal(0, 40, 200)
size = (area - area.mean()) / area.std()
exact = np.array([np.mean(size * price), price.mean()])  # size has mean 0 and spread 1


def jitter(rate_of):
    """Mean distance from the closed form over the last 50 of 400 steps with batches of 10."""
    draws = lesson.generator(3)
    w, away = exact * 0, []
    for step in range(400):
        rows = draws.integers(200, size=10)
        error = w[0] * size[rows] + w[1] - price[rows]
        w = w - rate_of(step) * 2 * np.array([np.mean(error * size[rows]), error.mean()])
        away.append(float(np.hypot(*(w - exact))))
    return float(np.mean(away[-50:]))


fixed = jitter(lambda step: 0.05)
falling = jitter(lambda step: 0.05 / (1 + step / 50))
print(f"distance with fixed steps {fixed:.2f}, with falling steps {falling:.2f}")
lesson.check("falling / fixed", falling / fixed, below=0.9)
lesson.check("still far from 0.0001", falling, above=0.01)

# %% [markdown]
# ## 2. Larger vocabularies
#
# More merges, longer tokens, shorter texts; but each time the vocabulary grows it gains less
# than the time before, and every token needs a row in the embedding and in the unembedding.

# %%
text = mg.data.python_docs().text[: lesson.pick(300_000, 60_000)]
lesson.uses("the documentation that Python carries")
per_token = []
for vocabulary in (300, 768, 2_000):
    tokenizer = mg.text.BPETokenizer.train(text, vocabulary)
    per_token.append(len(text.encode()) / len(tokenizer.encode(text)))
    print(f"{vocabulary:>5} tokens: {per_token[-1]:.2f} bytes per token")
lesson.check("bytes per token rise", per_token == sorted(per_token), equals=True)
gains = per_token[1] / per_token[0], per_token[2] / per_token[1]
lesson.check("gain 768→2,000 below gain 300→768", gains[1], below=gains[0])

# %% [markdown]
# ## 3. A script that was never seen
#
# A Chinese character is three bytes in UTF-8, and English text teaches no merges of such bytes: so
# three tokens for each character, none of which means anything by itself. Still nothing is lost.

# %%
tokenizer = mg.text.BPETokenizer.train(text, 768)
sentence = "猫坐在垫子上"
ids = tokenizer.encode(sentence)
print("·".join(tokenizer.pieces(sentence)))
lesson.check("tokens per Chinese character", len(ids) / len(sentence), equals=3.0)
lesson.check("round trip", tokenizer.decode(ids) == sentence, equals=True)

# %%
lesson.finish()
