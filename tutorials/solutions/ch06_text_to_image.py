# %% [markdown]
# # Solutions for chapter 6: text to image, patch by patch
#
# The painter of the lesson in a smaller world, so that each answer takes seconds: three colours,
# three shapes, three places, and only one right picture for each sentence.

# %%
import numpy as np

import microgpt as mg
from microgpt.learn import start

lesson = start("Solutions for chapter 6: text to image, patch by patch")
INK = {"red": (196, 22, 28), "green": (0, 158, 115), "blue": (0, 114, 178)}
SHAPES = {
    "square": "##### ##### ##### ##### #####",
    "ring": ".###. ##.## #...# ##.## .###.",
    "cross": "..#.. ..#.. ##### ..#.. ..#..",
}
PLACES = {"left": (3, 0), "right": (3, 6), "bottom": (6, 3)}
SENTENCES = [(c, s, p) for c in INK for s in SHAPES for p in PLACES]


def paint(colour, shape, place):
    """The right picture: (12, 12, 3) bytes."""
    image = np.full((12, 12, 3), 255, dtype="uint8")
    row, column = PLACES[place]
    mask = np.array([[pixel == "#" for pixel in line] for line in SHAPES[shape].split()])
    image[row : row + 5, column : column + 5][mask] = INK[colour]
    return image


patches = mg.data.patchify(np.stack([paint(*x) for x in SENTENCES]), 3)  # (27, 16, 27)
codebook, codes = np.unique(patches.reshape(-1, 27), axis=0, return_inverse=True)
codes = codes.reshape(len(SENTENCES), 16)
words = {w: len(codebook) + i for i, w in enumerate([*INK, *SHAPES, *PLACES])}
V = len(codebook) + len(words)
prompts = np.array([[words[word] for word in sentence] for sentence in SENTENCES])
lesson.uses(f"{len(SENTENCES)} generated pictures of 12x12 pixels")


def trained(chosen, steps):
    """A GPT that has learned the chosen sentences (numbers of them)."""
    config = mg.models.GPTConfig(V, 18, 48, 1, 4, activation="relu", tied=False, init_std=0.2)
    model = mg.models.GPT(config, generator=lesson.generator(2))
    texts = np.concatenate([prompts, codes], axis=1)[chosen * 100]
    targets = texts[:, 1:].copy()
    targets[:, :2] = -100
    optimizer = mg.optim.AdamW(model.parameters(), lr=0.01, betas=(0.9, 0.95))
    mg.train.fit(
        model,
        lambda logits, t: mg.cross_entropy(logits.reshape(-1, V), t.reshape(-1)),
        optimizer,
        mg.data.batches(texts[:, :-1], targets, batch_size=24, seed=lesson.seed),
        steps=steps,
        schedule=mg.optim.WarmupCosine(optimizer, 10, steps),
        clip_norm=1.0,
    )
    return model


def right(model, asked, wanted):
    """Share of the prompts whose picture, at temperature 0, is the wanted one to the pixel."""
    drawn = np.array(model.generate(asked, wanted.shape[1], temperature=0))
    return float((drawn == wanted).all(axis=1).mean())


everything = list(range(len(SENTENCES)))
model = trained(everything, lesson.pick(300, 150))
plain = right(model, prompts, codes)
lesson.check("the usual order", plain, at_least=0.95)

# %% [markdown]
# ## 1. Words in another order
#
# To us "left square red" means the same. The model has only seen colour, shape, place; a position
# is added to each word's vector, and what it has learned about "red" it has learned about "red
# in front". Nothing told it that order does not matter, so it guesses.

# %%
turned = right(model, prompts[:, ::-1], codes)
print(f"right: {plain:.0%} in the usual order, {turned:.0%} with the words turned round")
lesson.check("words turned round", turned, below=plain)

# %% [markdown]
# ## 2. Colours and shapes that were never together
#
# Without red squares, green rings and blue crosses, some patches are missing: the red corner of a
# square that is not a ring's has never occurred. A token that occurs in no training text is never
# written, whatever the sentence says. The lesson's secret sentences were kinder: all pairs of words
# had occurred, and with them all patches. A codebook of shapes apart from colours would help.

# %%
pairs = set(zip(INK, SHAPES, strict=True))
known = [i for i in everything if SENTENCES[i][:2] not in pairs]
secret = [i for i in everything if SENTENCES[i][:2] in pairs]
missing = set(codes[secret].ravel().tolist()) - set(codes[known].ravel().tolist())
print(f"{len(missing)} of {len(codebook)} patches occur in secret pictures only")
lesson.check("patches never seen in training", len(missing), above=0)
narrow = trained(known, lesson.pick(300, 150))
lesson.check("known pairs", right(narrow, prompts[known], codes[known]), at_least=0.95)
lesson.check("pairs never seen", right(narrow, prompts[secret], codes[secret]), at_most=0.2)

# %% [markdown]
# ## 3. Finishing a picture
#
# A prompt is just the beginning of a text, and its end may be half a picture: the model goes on
# from there. Whether a person or the model itself wrote the beginning is all the same to it.

# %%
half = np.concatenate([prompts, codes[:, :8]], axis=1)
lesson.check("second halves", right(model, half, codes[:, 8:]), at_least=0.95)

# %%
lesson.finish()
