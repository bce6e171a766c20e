# %% [markdown]
# # Chapter 6: words as vectors
#
# The first matrix of a transformer holds one column of numbers for every word it knows: the
# embedding. The video shows that directions in that space carry meaning, with vectors that were
# made from six billion words. We ask the same questions of such vectors, look at what the video
# does not show, and then make vectors of our own. It runs with plain `python`, or cell by cell.

# %%
import math

import numpy as np

import microgpt as mg
from microgpt.learn import start
from microgpt.viz.style import COLOURS, GREY

lesson = start("Chapter 6: word embeddings")
glove = mg.data.glove()
lesson.uses(f"{glove}, rounded to 8 bits; and sentences made up here")
lesson.check("words in the table", len(glove), equals=10_020)
lesson.check("numbers per word", len(glove["tower"]), equals=50)

# %% [markdown]
# The video uses GloVe vectors of the same family, with 400,000 words and unrounded. Ours are its
# 10,000 most frequent words and 20 more that this chapter needs. So the numbers differ a little,
# and a *rank* is one among 10,020 instead of 400,000. Where we know the number of the full table,
# it is printed beside ours.
#
# ## The dot product: how much do two vectors agree?
#
# Multiply number by number, and add up. The sum is |a| |b| cos(angle): positive if two vectors
# point roughly the same way, 0 at a right angle, negative if they point away from each other.

# %%
a = [3.0, 1.0]
for kind, b, sign in (
    ("acute", [2.0, 2.0], 1),
    ("right", [-1.0, 3.0], 0),
    ("obtuse", [-3.0, 1.0], -1),
):
    one_by_one = sum(mg.Scalar(x) * mg.Scalar(y) for x, y in zip(a, b, strict=True)).data
    angle = math.degrees(math.acos(one_by_one / (math.hypot(*a) * math.hypot(*b))))
    print(f"   {a} · {b} = {one_by_one:g}, angle {angle:.1f}°")
    lesson.check(
        f"{kind} angle: scalars = tensors", one_by_one, equals=(mg.tensor(a) @ mg.tensor(b)).item()
    )
    lesson.check(f"{kind} angle: sign", mg.sign(one_by_one), equals=sign)

# %% [markdown]
# ## Neighbours
#
# Which words have vectors that point nearly the same way? The table knows what a tower is.


# %%
def vector(word: str) -> np.ndarray:
    """The vector of a word, (50,), in double precision."""
    return glove[word].astype(np.float64)


def place(word: str, target: np.ndarray, without: tuple[str, ...] = ()) -> int:
    """The rank of `word` among all that are near `target`: 1 is the nearest."""
    ranked = [near for near, _ in glove.nearest(target, len(glove), exclude=without)]
    return 1 + ranked.index(word)


for word in ("tower", "cat"):
    near = ", ".join(f"{other} {cosine:.2f}" for other, cosine in glove.nearest(word, 10))
    print(f"   {word}: {near}")
towers = [word for word, _ in glove.nearest("tower", 6)]
lesson.check("neighbours of tower", ", ".join(towers[:3]), equals="towers, gate, building")
lesson.check("skyscraper is among the first 6", "skyscraper" in towers, equals=True)
lesson.check("monster near cat, rank", place("monster", vector("cat"), ("cat",)), equals=10)

# %% [markdown]
# In the full table the fourth neighbour of *tower* is *skyscraper*, and *monster* and *beast* are
# the 7th and 6th of *cat*. Here *skyscraper* is 6th and *monster* 10th; *beast* is not in the
# small table.
#
# ## Man is to woman as king is to …
#
# The step from *man* to *woman* should be the step from *king* to *queen*, if there is a direction
# that means "the female one". How parallel are such steps? For comparison: steps between words
# picked at random.

# %%
gender = vector("woman") - vector("man")
PAIRS = [
    ("king", "queen"), ("son", "daughter"), ("nephew", "niece"), ("uncle", "aunt"),
    ("father", "mother"), ("brother", "sister"), ("husband", "wife"), ("boy", "girl"),
    ("actor", "actress"), ("prince", "princess"), ("he", "she"), ("his", "her"),
]  # fmt: skip
parallel = {}
print("   pair                 cosine   rank, all words   rank without the three asked about")
for he, she in PAIRS:
    parallel[she] = glove.cosine(gender, vector(she) - vector(he))
    target = vector(he) + gender
    raw, fair = place(she, target), place(she, target, ("man", "woman", he))
    print(f"   {he + ' → ' + she:20} {parallel[she]:6.3f} {raw:10} {fair:18}")

picks = lesson.generator(1).integers(0, len(glove), (1000, 2))
steps = glove.vectors[picks[:, 1]] - glove.vectors[picks[:, 0]]
random_cosines = [glove.cosine(gender, step) for step in steps if step.any()]
print(
    f"   steps between random words: {np.mean(random_cosines):.3f} ± {np.std(random_cosines):.3f}"
)

lesson.check("cos(woman - man, queen - king)", parallel["queen"], near=0.599, within=0.001)
lesson.check("cos(woman - man, daughter - son)", parallel["daughter"], near=0.810, within=0.001)
lesson.check("least parallel of the 12 steps", min(parallel.values()), above=0.39)
# Over seeds 1–5: at most 0.003 from 0, and 0.139–0.151.
lesson.check("random steps: mean cosine", abs(np.mean(random_cosines)), below=0.03)
lesson.check("random steps: spread of cosines", np.std(random_cosines), below=0.2)
asked = ("man", "woman", "king")
queen, niece = vector("king") + gender, vector("nephew") + gender
aunt = vector("uncle") + gender
lesson.check("queen, rank among all words", place("queen", queen), equals=2)
lesson.check("queen, rank without the three", place("queen", queen, asked), equals=1)
lesson.check("niece, rank among all words", place("niece", niece), equals=1)
lesson.check("aunt, rank among all words", place("aunt", aunt), equals=4)

# %% [markdown]
# (Full table: cosines 0.597 and 0.814; queen 2nd and 1st, niece 1st, aunt 3rd.)
#
# So the direction is real: twelve steps all agree with it, random ones do not. But the famous
# sum is not as neat as it is told. The word nearest to king - man + woman is *king*; *queen* wins
# because the three words one asked about are left out, a rule that is seldom mentioned. *Aunt*
# comes after *daughter*, *niece* and *grandmother*; and *sister* is only 9th.
#
# ## Leaders and their countries

# %%
italy = vector("hitler") - vector("germany") + vector("italy")
print("   hitler - germany + italy:", ", ".join(word for word, _ in glove.nearest(italy, 4)))
lesson.check("mussolini, rank among all words", place("mussolini", italy), equals=1)

# %% [markdown]
# Two sums of the video do not come out in these vectors: sushi - japan + germany is nearest to
# *chef* and *sushi*, with *bratwurst* far behind (66th in the full table); and the quiz
# cat - meow + bark is nearest to *bark* and *tree*: the vector of *bark* is that of the bark of a
# tree. One vector per spelling cannot keep two meanings apart; chapter 7 shows what can.

# %%
sausage = vector("sushi") - vector("japan") + vector("germany")
barks = vector("cat") - vector("meow") + vector("bark")
for text, target in (("sushi - japan + germany", sausage), ("cat - meow + bark", barks)):
    print(f"   {text}:", ", ".join(word for word, _ in glove.nearest(target, 4)))
lesson.check("bratwurst, rank", place("bratwurst", sausage), above=10)
lesson.check("dog, rank", place("dog", barks), above=100)

# %% [markdown]
# ## One and many
#
# The step cats - cat as a ruler: the dot product of a word with it says how "many" the word is.
# All 10,020 words at once are one product, (words, 50) · (50,). The singular should lie lower than
# its plural for other pairs too, also those that do not end in s, and number words in order.

# %%
NOUNS = """dog dogs, car cars, house houses, book books, student students, teacher teachers,
child children, man men, woman women, tree trees, horse horses, bird birds, ship ships,
city cities, king kings, mouse mice"""
nouns = [tuple(pair.split()) for pair in NOUNS.split(",")]
NUMBERS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]

axis = mg.tensor(vector("cats") - vector("cat"), dtype="float64")
table = mg.tensor(glove.vectors, dtype="float64") @ axis
many = {word: float(x) for word, x in zip(glove.words, table.numpy(), strict=True)}

risen = sum(many[plural] > many[singular] for singular, plural in nouns)
lesson.check("plurals above their singular, of 16", risen, equals=16)
every = [word for word in glove.words if f"{word}s" in many and len(word) > 2 and word != "cat"]
share = np.mean([many[f"{word}s"] > many[word] for word in every])
print(f"   all {len(every):,} words of the table that also occur with an s: {share:.1%} rise")
lesson.check("all words with and without s: risen", share, near=0.82, within=0.01)

counted = [many[number] for number in NUMBERS]
print("   " + ", ".join(f"{number} {x:.2f}" for number, x in zip(NUMBERS, counted, strict=True)))
lesson.check("one < two < three < four < five", bool(np.all(np.diff(counted[:5]) > 0)), equals=True)
lesson.check("four on the ruler", many["four"], near=1.53, within=0.005)
lesson.check("six - five: the order breaks", many["six"] - many["five"], below=0)

# %% [markdown]
# Of *all* words that the table also has with an s behind (verbs too) 82 % rise, where chance would
# be half. That is a direction, but not a clean one.
#
# Full table: one -2.40, two 0.79, three 1.27, four 1.49, five 1.75, and six 1.74, which breaks the
# order as it does here. (The animation writes 1.80 for *four*.) The order of the first five is a
# fine observation; that it goes on is luck: *seven*, *eight*, *nine*, *ten* go up and down.

# %%
with mg.viz.styled() as figure:
    fig = figure(figsize=(10, 5))
    left, right = fig.subplots(1, 2, width_ratios=(1.5, 1))
    for y, (singular, plural) in enumerate(sorted(nouns, key=lambda pair: many[pair[1]])):
        low, high = many[singular], many[plural]
        left.plot([low, high], [y, y], color="#cccccc", linewidth=1.5, zorder=1)
        left.scatter(low, y, color=COLOURS[1], zorder=2, label="singular" if y == 0 else None)
        left.scatter(high, y, color=COLOURS[0], zorder=2, label="plural" if y == 0 else None)
        left.text(low - 0.25, y, singular, ha="right", va="center", fontsize=9)
        left.text(high + 0.25, y, plural, ha="left", va="center", fontsize=9)
    left.set(title="Every plural lies further along than its singular", xlim=(-8, 6.5), yticks=[],
             xlabel="dot product with cats - cat")  # fmt: skip
    left.spines["left"].set_visible(False)
    left.axvline(0, color=GREY, linewidth=0.8, linestyle=":")
    left.legend(loc="lower right")
    right.plot(counted, range(len(NUMBERS)), color="#cccccc", zorder=1)
    right.scatter(counted, range(len(NUMBERS)), color=COLOURS[2], zorder=2)
    right.set(title="Numbers climb to five, then stumble", ylim=(len(NUMBERS) - 0.5, -0.5),
              xlabel="dot product with cats - cat")  # fmt: skip
    right.set_yticks(range(len(NUMBERS)), NUMBERS)
    right.axvline(0, color=GREY, linewidth=0.8, linestyle=":")
lesson.picture(fig, "plural_axis.png")

# %% [markdown]
# ## Where do such vectors come from?
#
# From nothing but neighbours in text: "you shall know a word by the company it keeps", wrote the
# linguist J. R. Firth in 1957. We make up a small language in which that can be seen from end to
# end. Its people are he or she, royal or plain, old or young; its things come alone or in numbers.
# The learner is told none of this, it only reads sentences.

# %%
PRONOUNS = {"he": ("he", "his"), "she": ("she", "her")}
PLACES = {"royal": ["palace", "castle", "court"], "plain": ["farm", "village", "mill"]}
CLOTHES = {"royal": ["crown", "velvet", "ring"], "plain": ["hat", "apron", "scarf"]}
MANNERS = {"old": ["wise", "grey", "slow"], "young": ["small", "lively", "playful"]}
PEOPLE = {
    "king": ("he", "royal", "old"), "queen": ("she", "royal", "old"),
    "prince": ("he", "royal", "young"), "princess": ("she", "royal", "young"),
    "man": ("he", "plain", "old"), "woman": ("she", "plain", "old"),
    "boy": ("he", "plain", "young"), "girl": ("she", "plain", "young"),
}  # fmt: skip
THINGS = {
    "cat": (["soft", "sleepy"], ["whiskers", "claws"]),
    "dog": (["loyal", "hungry"], ["bones", "leashes"]),
    "apple": (["sweet", "ripe"], ["seeds", "juice"]),
    "car": (["fast", "loud"], ["wheels", "doors"]),
    "boat": (["wooden", "wet"], ["sails", "oars"]),
}


def sentence(rng: np.random.Generator) -> str:
    """A sentence about a person, or about one or several things."""

    def one(of) -> str:
        return list(of)[rng.integers(len(of))]

    if rng.random() < 0.5:
        person = one(PEOPLE)
        sex, rank, age = PEOPLE[person]
        he, his = PRONOUNS[sex]
        old, wise = one(MANNERS[age]), one(MANNERS[age])
        at, wearing = one(PLACES[rank]), one(CLOTHES[rank])
        return f"in {his} {at} the {old} {person} wears {his} {wearing} and {he} is {wise}"
    thing = one(THINGS)
    like, owned = map(one, THINGS[thing])
    if rng.random() < 0.5:
        return f"one {thing} is {like} and it has {owned}"
    return f"{one(['two', 'many'])} {thing}s are {like} and they have {owned}"


rng = lesson.generator(2)
sentences = [sentence(rng).split() for _ in range(lesson.pick(3000, 800))]
words = sorted({word for line in sentences for word in line})
number = {word: i for i, word in enumerate(words)}
texts = [[number[word] for word in line] for line in sentences]
for line in sentences[:4]:
    print("   " + " ".join(line))

# %% [markdown]
# The skip-gram model has two vectors per word, v as the one in the middle and u as a neighbour. It
# is shown pairs of words that stood near each other, and words drawn at random, and should tell
# them apart: σ(u·v) near 1 for true neighbours, near 0 for random ones. The dot product again.
# Words with the same company are pulled to the same place.

# %%
model = mg.models.SkipGram(words, dim=16, generator=lesson.generator(3))
print(model)


def solved(pairs: list[tuple[str, str]]) -> float:
    """The share of analogies between two of the pairs that are answered right."""
    tasks = [(a, b, c, d) for a, b in pairs for c, d in pairs if a != c]
    return float(np.mean([model.analogy(a, b, c, k=1)[0][0] == d for a, b, c, d in tasks]))


couples = [("man", "woman"), ("king", "queen"), ("prince", "princess"), ("boy", "girl")]
crowds = [(thing, thing + "s") for thing in THINGS]
before = solved(couples)

optimizer = mg.optim.Adam(model.parameters(), lr=lesson.pick(0.01, 0.02))
losses = []
for _ in lesson.progress(range(6), "reading the text"):
    for centre, context, negatives in mg.models.skip_gram_batches(
        texts, len(words), window=5, negatives=5, batch_size=512, generator=rng
    ):
        loss = model(centre, context, negatives)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
print(f"   loss {losses[0]:.3f} → {np.mean(losses[-50:]):.3f}; analogies before {before:.0%}")

# %% [markdown]
# Now the questions of above. "He to she" is tried between all couples, "one to many" between all
# things: 12 and 20 analogies.

# %%
near = ", ".join(
    f"{word} {cosine:.2f}" for word, cosine in model.analogy("man", "king", "woman", 3)
)
print(f"   king - man + woman: {near}")
# Over seeds 1–5, full and fast, all are solved; before training none or one of 12 are.
lesson.check("first loss: 6 coins thrown, 6 ln 2", losses[0], near=6 * math.log(2), within=1e-3)
lesson.check("he → she: 12 analogies solved", solved(couples), at_least=lesson.pick(0.9, 0.75))
lesson.check("one → many: 20 analogies solved", solved(crowds), at_least=lesson.pick(0.9, 0.75))
lesson.check("before training: solved", before, below=0.3)

rows = model.centre.weight.detach()
ruler = rows[number["cats"]] - rows[number["cat"]]
along = dict(zip(words, (rows @ ruler).tolist(), strict=True))
risen = sum(along[plural] > along[singular] for singular, plural in crowds)
lesson.check("plurals above their singular, of 5", risen, equals=5)
lesson.check("two and many above one", min(along["two"], along["many"]), above=along["one"])

# %% [markdown]
# Our language obeys its features exactly, so the sums come out nearly exactly: *queen* at a cosine
# of 0.99, where real English gave 0.86, and only behind *king*. The parallelogram of the video is a
# tendency of real text, not a law.

# %%
persons = list(PEOPLE)
picture = mg.viz.embedding_map(
    rows[[number[word] for word in persons]],
    persons,
    groups=["he" if PEOPLE[word][0] == "he" else "she" for word in persons],
    arrows=couples,
    title=f"Learned from {len(texts):,} sentences: from him to her is always the same step",
)
lesson.picture(picture, "toy_words.png")

# %% [markdown]
# ## Try this
#
# 1. Use another ruler: bigger - big, or france - paris. What lies at its two ends?
# 2. All twelve differences she - he have something in common. Is their mean a better direction
#    than woman - man alone? Predict each *she* from the mean of the other eleven.
# 3. Shuffle the words of all our sentences together, so that no word keeps its company. What is
#    left of the analogies?
#
# Solutions: `tutorials/solutions/ch06_embeddings.py`.

# %%
lesson.finish()
