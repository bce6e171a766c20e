# %% [markdown]
# # Solutions to chapter 6: words as vectors

# %%
import numpy as np

import microgpt as mg
from microgpt.learn import start

lesson = start("Chapter 6, solutions: word embeddings")
glove = mg.data.glove()
lesson.uses(f"{glove}, and sentences made up here")


def vector(word: str) -> np.ndarray:
    """The vector of a word, (50,), in double precision."""
    return glove[word].astype(np.float64)


# %% [markdown]
# ## 1. Other rulers
#
# bigger - big measures the comparative: bigger than what? A ruler from a country to its capital
# tells cities from countries; with one pair as the ruler, all other pairs fall into order. But look
# at the ends: *blues* and *deploy* are no comparatives. A ruler orders a pair that differs in
# little else; among all words anything may lie along it.

# %%
GRADES = [("small", "smaller"), ("fast", "faster"), ("high", "higher"), ("strong", "stronger")]
CAPITALS = [
    ("italy", "rome"), ("japan", "tokyo"), ("russia", "moscow"), ("spain", "madrid"),
    ("egypt", "cairo"), ("greece", "athens"),
]  # fmt: skip
for (low, high), pairs in ((("big", "bigger"), GRADES), (("france", "paris"), CAPITALS)):
    ruler = vector(high) - vector(low)
    along = glove.vectors @ ruler
    order = np.argsort(along)
    ends = [", ".join(glove.words[i] for i in part) for part in (order[:4], order[:-5:-1])]
    print(f"   {high} - {low}: from {ends[0]} … to {ends[1]}")
    right = sum(vector(b) @ ruler > vector(a) @ ruler for a, b in pairs)
    lesson.check(f"{high} - {low}: pairs in order", right, equals=len(pairs))

# %% [markdown]
# ## 2. A better direction
#
# One difference holds what *woman* and *man* differ in besides. The mean of eleven differences
# keeps what they have in common. Tested on the couple that was left out, it points nearer.

# %%
COUPLES = [
    ("man", "woman"), ("king", "queen"), ("son", "daughter"), ("nephew", "niece"),
    ("uncle", "aunt"), ("father", "mother"), ("brother", "sister"), ("husband", "wife"),
    ("boy", "girl"), ("actor", "actress"), ("prince", "princess"), ("he", "she"),
]  # fmt: skip
steps = np.array([vector(she) - vector(he) for he, she in COUPLES])
single, joint, solved = [], [], {"one": 0, "mean": 0}
for i, (he, she) in enumerate(COUPLES[1:], start=1):
    mean = np.delete(steps, i, axis=0).mean(axis=0)
    single.append(glove.cosine(steps[0], steps[i]))
    joint.append(glove.cosine(mean, steps[i]))
    for name, step in (("one", steps[0]), ("mean", mean)):
        solved[name] += glove.nearest(vector(he) + step, 1, exclude=(he,))[0][0] == she
print(f"   cosine with the step left out: woman - man {np.mean(single):.3f}, mean of the others "
      f"{np.mean(joint):.3f}; solved {solved['one']} and {solved['mean']} of 11")  # fmt: skip
lesson.check("the mean points nearer", np.mean(joint), above=np.mean(single))
lesson.check("solved with the mean, of 11", solved["mean"], at_least=solved["one"])

# %% [markdown]
# ## 3. No company, no meaning
#
# The same words, equally often, but in random order: what is near a word says nothing about it.
# The vectors learn how frequent words are, and no analogy comes out but by luck.

# %%
PEOPLE = {
    "king": "he palace old", "queen": "she palace old", "prince": "he palace young",
    "princess": "she palace young", "man": "he farm old", "woman": "she farm old",
    "boy": "he farm young", "girl": "she farm young",
}  # fmt: skip
rng = lesson.generator(1)
lines = [f"{who} {PEOPLE[who]} {PEOPLE[who]}".split() for who in rng.choice(list(PEOPLE), 1500)]
vocabulary = sorted({word for line in lines for word in line})
number = {word: i for i, word in enumerate(vocabulary)}
ordered = [[number[word] for word in line] for line in lines]
shuffled = rng.permutation(np.concatenate(ordered)).reshape(len(ordered), -1).tolist()
couples = [("man", "woman"), ("king", "queen"), ("prince", "princess"), ("boy", "girl")]


def learned(texts: list[list[int]]) -> float:
    """The share of the twelve analogies he → she that vectors made from `texts` solve."""
    model = mg.models.SkipGram(vocabulary, dim=16, generator=lesson.generator(2))
    optimizer = mg.optim.Adam(model.parameters(), lr=0.02)
    source = lesson.generator(3)
    for _ in range(6):
        for batch in mg.models.skip_gram_batches(
            texts, len(vocabulary), window=6, batch_size=512, generator=source
        ):
            optimizer.zero_grad()
            model(*batch).backward()
            optimizer.step()
    tasks = [(a, b, c, d) for a, b in couples for c, d in couples if a != c]
    return float(np.mean([model.analogy(a, b, c, k=1)[0][0] == d for a, b, c, d in tasks]))


# Over seeds 1–5: all in order, none or one of twelve when shuffled.
lesson.check("in order: analogies solved", learned(ordered), at_least=0.75)
lesson.check("shuffled: analogies solved", learned(shuffled), at_most=0.5)

# %%
lesson.finish()
