# %% [markdown]
# # Chapter 7: what attention learns by itself
#
# In the lesson before we wrote the numbers of an attention head by hand. Nobody does that. Here
# three small transformers learn, from nothing but sentences, what the video promises: to find the
# adjectives of a noun, to tell the three meanings of *mole* apart, and to name a murderer who was
# mentioned sixty words ago. It runs with plain `python`, or cell by cell.

# %%
import numpy as np

import microgpt as mg
from microgpt.learn import start
from microgpt.viz.style import COLOURS, SEQUENTIAL

lesson = start("Chapter 7: attention in transformers, learned")
lesson.uses("sentences made up here")
rng = lesson.generator(1)


def one(of) -> str:
    """One of some words, at random."""
    return of[rng.integers(len(of))]


# %% [markdown]
# ## 1. Which adjectives are mine?
#
# Sentences such as *a fluffy blue creature roamed the verdant forest*: two or three nouns, each
# with none, one or two adjectives. The task: at each noun, say what the thing is like, that is,
# give every adjective of its own the same probability, and all other words none. Nobody says
# *where* these words are to be found. That other nouns have adjectives too is the difficulty.

# %%
ADJECTIVES = ["fluffy", "blue", "verdant", "old", "tiny", "brave", "quiet", "golden"]
NOUNS = ["creature", "forest", "dog", "castle", "river", "farmer"]
VERBS = ["roamed", "saw", "loved", "left"]
WORDS = [".", "a", "the", *ADJECTIVES, *NOUNS, *VERBS]
LONGEST = 14


def described() -> tuple[list[str], dict[int, list[int]]]:
    """A sentence, and for each place with a noun the places of its adjectives."""
    words, own = [], {}
    for phrase in range(rng.integers(2, 4)):
        words += [one(VERBS)] if phrase else []
        words += [one(["a", "the"]), *rng.permutation(ADJECTIVES)[: rng.integers(0, 3)]]
        first = max(i for i, word in enumerate(words) if word in ("a", "the")) + 1
        own[len(words)] = list(range(first, len(words)))
        words += [one(NOUNS)]
    return words, own


def numbered(sentences):
    """Tokens (n, 14), wishes (n, 14, words), and which key each query should look at."""
    n = len(sentences)
    ids = np.zeros((n, LONGEST), dtype=np.int64)
    wishes = np.zeros((n, LONGEST, len(WORDS)), dtype=np.float32)
    mine = np.zeros((n, LONGEST, LONGEST), dtype=bool)
    for row, (words, own) in enumerate(sentences):
        ids[row, : len(words)] = [WORDS.index(word) for word in words]
        for noun, places in own.items():
            mine[row, noun, places] = True
            wishes[row, noun, ids[row, places]] = 1 / max(len(places), 1)
    return ids, wishes, mine


train, test = (numbered([described() for _ in range(n)]) for n in (lesson.pick(3000, 1000), 300))


class Describer(mg.nn.Module):
    """One head: embed, look around, and say which words come to mind."""

    def __init__(self, generator: np.random.Generator, width: int = 32) -> None:
        super().__init__()
        self.embed = mg.nn.Embedding(len(WORDS), width, generator=generator)
        self.attention = mg.nn.MultiHeadAttention(width, 1, rotary=True, generator=generator)
        self.unembed = mg.nn.Linear(width, len(WORDS), generator=generator)

    def forward(self, ids):
        """(n, t) → logits (n, t, words), and the pattern (n, 1, t, t)."""
        change, pattern = self.attention(self.embed(ids), is_causal=True, need_weights=True)
        return self.unembed(change), pattern


# %% [markdown]
# The last two matrices, which turn what the head collects into an answer, are held small by weight
# decay. Then a head cannot afford to look at words that are of no use and shout to make up for it.

# %%
describer = Describer(lesson.generator(2))
speaking = [*describer.attention.out_proj.parameters(), *describer.unembed.parameters()]
looking = [describer.embed.weight, describer.attention.in_proj_weight]
optimizers = [mg.optim.Adam(looking, lr=0.01), mg.optim.AdamW(speaking, lr=0.01, weight_decay=3.0)]

for _ in lesson.progress(range(lesson.pick(400, 120)), "which adjectives are mine"):
    some = rng.integers(0, len(train[0]), 64)
    logits, _ = describer(train[0][some])
    wishes = train[1][some]
    loss = -mg.sum(mg.tensor(wishes) * mg.log_softmax(logits, axis=-1)) / float(wishes.sum())
    describer.zero_grad()
    loss.backward()
    for optimizer in optimizers:
        optimizer.step()

with mg.no_grad():
    _, pattern = describer(test[0])
asking = test[2].any(axis=-1)  # nouns that have adjectives
mass = (pattern.numpy()[:, 0] * test[2]).sum(axis=-1)[asking]
print(
    f"   {asking.sum()} nouns of new sentences: {mass.mean():.3f} of the attention is on their own"
)
print(f"   adjectives, {np.mean(mass > 0.5):.1%} of the nouns give them more than half")
# Over seeds 1–5: 0.942–0.971 (short: 0.966–0.978).
lesson.check("attention on one's own adjectives", mass.mean(), at_least=lesson.pick(0.9, 0.8))

# %% [markdown]
# ## 2. One spelling, several meanings
#
# *Mole* is an animal, an amount of a substance, and a spot on the skin; *Harry* a wizard or a
# prince; a *tower* is huge or a toy; a *bank* is for money or for fishing. In our sentences one
# word gives the meaning away, somewhere before; all else is filling. Afterwards come two words that
# fit the meaning. The model, a GPT of one block, only learns to predict the next word.

# %%
MEANINGS = {
    "mole": {
        "animal": (["shrew", "burrow", "garden"], ["dug", "tunnels", "worms"]),
        "amount": (["dioxide", "carbon", "reaction"], ["weighs", "grams", "molecules"]),
        "skin": (["biopsy", "doctor", "cheek"], ["removed", "itches", "benign"]),
    },
    "harry": {
        "wizard": (["wand", "spell", "owl"], ["vanished", "conjured", "potions"]),
        "prince": (["queen", "royal", "palace"], ["reigned", "bowed", "horses"]),
    },
    "tower": {
        "huge": (["eiffel", "steel", "paris"], ["soared", "hundreds", "metres"]),
        "toy": (["miniature", "plastic", "shelf"], ["fitted", "pockets", "centimetres"]),
    },
    "bank": {
        "river": (["boat", "trout", "stream"], ["flooded", "reeds", "mud"]),
        "money": (["loan", "cashier", "savings"], ["lent", "dollars", "interest"]),
    },
}
FILLING = ["then", "we", "were", "near", "with", "some", "very", "late", "day", "and", "that", "by"]
LENGTH = 12
vocabulary = sorted(
    {w for senses in MEANINGS.values() for pair in senses.values() for words in pair for w in words}
    | {*FILLING, *MEANINGS}
)
token = {word: i for i, word in enumerate(vocabulary)}


def ambiguous(word: str, sense: str, at: int) -> list[str]:
    """A sentence of twelve words with `word` at place `at`."""
    clues, ends = MEANINGS[word][sense]
    words = [one(FILLING) for _ in range(LENGTH)]
    words[rng.integers(0, at)] = one(clues)
    words[at : at + 3] = [word, one(ends), one(ends)]
    return words


def senses(n: int) -> tuple[np.ndarray, list[tuple[str, str]], np.ndarray]:
    """Tokens (n, 12), the word and its sense, and where it stands: any place for any sense."""
    chosen = [(word := one(list(MEANINGS)), one(list(MEANINGS[word]))) for _ in range(n)]
    places = rng.integers(4, 9, n)
    lines = [ambiguous(*pair, at) for pair, at in zip(chosen, places, strict=True)]
    return np.array([[token[w] for w in line] for line in lines]), chosen, places


sizes = dict(vocab_size=len(vocabulary), block_size=LENGTH, n_embd=32, n_layer=1, n_head=4)
gpt = mg.models.GPT(mg.models.GPTConfig(**sizes, init_std=0.1), generator=lesson.generator(3))
optimizer = mg.optim.Adam(gpt.parameters(), lr=0.01)
texts = senses(lesson.pick(4000, 1500))[0]
for _ in lesson.progress(range(lesson.pick(400, 150)), "one spelling, several meanings"):
    loss = gpt.loss(texts[rng.integers(0, len(texts), 64)])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()

# %% [markdown]
# Does the vector of *mole* know which mole it is? The probe: take the mean vector of each meaning
# from half of some new sentences, and for the other half see to which mean each vector is nearest.
# Before the block all vectors of *mole* at one place are the same; the probe can only guess.

# %%
ids, chosen, places = senses(1600)
with mg.no_grad():
    _, hidden = gpt(ids, return_hidden=True)
half = len(ids) // 2


def probe(state, word: str) -> float:
    """The share of sentences with `word` in which its vector shows the right meaning."""
    vectors = state.numpy()[np.arange(len(ids)), places]  # (sentences, width)
    of = np.array([sense if w == word else "" for w, sense in chosen])
    kinds = list(MEANINGS[word])
    means = np.stack([vectors[:half][of[:half] == kind].mean(axis=0) for kind in kinds])
    tested = of[half:] != ""
    far = np.linalg.norm(vectors[half:][tested][:, None] - means, axis=-1)
    return float(np.mean(np.array(kinds)[far.argmin(axis=1)] == of[half:][tested]))


# Over seeds 1–5: 0.33–0.41 of three and 0.42–0.57 of two before the block, 0.99–1.00 after it.
for word, kinds in MEANINGS.items():
    chance = 1 / len(kinds)
    name = f"{word}, {len(kinds)} meanings"
    lesson.check(f"{name}: before the block", probe(hidden[0], word), near=chance, within=0.15)
    lesson.check(f"{name}: after it", probe(hidden[1], word), at_least=lesson.pick(0.95, 0.9))

# %% [markdown]
# The *bank* of chapter 5, once more exactly: two sentences that differ in one word before it.

# %%
RIVER = [
    "we",
    "were",
    "near",
    "some",
    "boat",
    "and",
    "then",
    "bank",
    "flooded",
    "reeds",
    "by",
    "day",
]
MONEY = ["loan" if word == "boat" else word for word in RIVER]
BANK = RIVER.index("bank")
with mg.no_grad():
    _, patterns, states = gpt(
        [[token[w] for w in line] for line in (RIVER, MONEY)],
        return_patterns=True, return_hidden=True,
    )  # fmt: skip
before, after = (abs(state[0, BANK] - state[1, BANK]).max().item() for state in states)
lesson.check("bank before the block: difference", before, equals=0.0)
lesson.check("bank after the block: difference", after, above=0.1)

# %% [markdown]
# ## 3. Who did it?
#
# The video ends a whole murder mystery with "therefore the murderer was …": that last vector must
# by then hold the name. In our story eight people do harmless things, in any order and as often as
# they like; once in it somebody *stabbed*. A name alone says nothing, nor does the deed: a first
# layer must bring them together, a second one find the deed from far away.

# %%
PEOPLE = ["anna", "bert", "carl", "dora", "emil", "fritz", "gerda", "hugo"]
DEEDS = ["slept", "read", "cooked", "sang", "walked", "wrote", "danced", "ate"]
STORY = [*PEOPLE, *DEEDS, "stabbed", "murderer", "was"]
PAIRS = lesson.pick(32, 11)
SIZE = 2 * PAIRS + 2  # 66 words, or 24


def mysteries(n: int, first: int = PAIRS) -> tuple[np.ndarray, np.ndarray]:
    """Stories (n, words), and the names to be given; the deed is one of the `first` pairs."""
    names = rng.integers(0, len(PEOPLE), (n, PAIRS))
    deeds = len(PEOPLE) + rng.integers(0, len(DEEDS), (n, PAIRS))
    at = rng.integers(0, first, n)
    deeds[np.arange(n), at] = STORY.index("stabbed")
    pairs = np.stack([names, deeds], axis=2).reshape(n, 2 * PAIRS)
    question = [[STORY.index("murderer"), STORY.index("was")]] * n
    return np.concatenate([pairs, question], axis=1), names[np.arange(n), at]


sizes = dict(vocab_size=len(STORY), block_size=SIZE, n_embd=32, n_layer=2, n_head=2, hidden=64)
config = mg.models.GPTConfig(**sizes, positions="rotary", init_std=0.08)
reader = mg.models.GPT(config, generator=lesson.generator(4))
optimizer = mg.optim.Adam(reader.parameters(), lr=0.003)
losses = []
for _ in lesson.progress(range(lesson.pick(1500, 800)), "who did it"):
    stories, murderers = mysteries(32)
    loss = mg.cross_entropy(reader(stories, last_only=True)[:, 0], murderers)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    losses.append(loss.item())
    if len(losses) > 20 and max(losses[-20:]) < 0.03:
        break
print(f"   loss after {len(losses)} batches of 32 stories: {losses[0]:.2f} → {losses[-1]:.3f}")

# %% [markdown]
# The test: the deed is right at the beginning, 62 or 64 words before the question (20 or 22 in the
# short version). Then the same
# stories with their first words cropped away, as happens to a text longer than the context. What is
# left holds names enough, but the one needed is gone.

# %%
stories, murderers = mysteries(500, first=2)
back = SIZE - 1 - (np.array(stories) == STORY.index("stabbed")).argmax(axis=1)


def right(ids) -> float:
    """The share of stories after which the likeliest word is the murderer."""
    with mg.no_grad():
        logits = reader(ids, last_only=True)
    return float(np.mean(logits.numpy()[:, 0].argmax(axis=-1) == murderers))


whole, cropped = right(stories), right(stories[:, 8:])
print(
    f"   the deed is {back.min()} to {back.max()} words back: {whole:.1%}; cropped: {cropped:.1%}"
)
# Over seeds 1–5: 0.998–1, and 0.12–0.15 (short: 0.09–0.13); 225 to 644 batches were needed.
lesson.check("murderer found", whole, at_least=lesson.pick(0.99, 0.97))
lesson.check("cropped out: chance is 1 in 8", cropped, near=1 / 8, within=0.07)

with mg.no_grad():
    _, looks = reader(stories[:1], return_patterns=True)
deed = int(SIZE - 1 - back[0])
layers = [look.numpy()[0] for look in looks]  # (heads, query, key)
joining = layers[0][:, deed, deed - 1].max()
finding = layers[1][:, -1, deed].max()
lesson.check("layer 1: the deed looks at its name", joining, at_least=0.5)
lesson.check("layer 2: “was” looks at the deed", finding, at_least=0.5)

# %% [markdown]
# ## The picture
#
# Left: the head of part 1 on the sentence of the video. Right: from where *bank* takes, in the
# head that looks at the clue most in each of the two sentences. Below: the last word of the murder
# mystery looks back.

# %%
SENTENCE = ["a", "fluffy", "blue", "creature", "roamed", "the", "verdant", "forest"]
with mg.no_grad():
    _, learned = describer([[WORDS.index(word) for word in SENTENCE]])
learned = learned.numpy()[0, 0]
clue = RIVER.index("boat")
heads = patterns[0].numpy()[:, :, BANK, : BANK + 1]  # (sentences, heads, keys)
best = heads[:, :, clue].argmax(axis=1)

with mg.viz.styled() as figure:
    fig = figure(figsize=(11, 8))
    grid = fig.add_gridspec(2, 2, height_ratios=(1.5, 1))
    ax = fig.add_subplot(grid[0, 0])
    faint = np.array([1.0 if word in NOUNS else 0.25 for word in SENTENCE])
    ax.imshow(learned, cmap=SEQUENTIAL, vmin=0, vmax=1, alpha=np.tile(faint[:, None], 8))
    for (i, j), weight in np.ndenumerate(learned):
        if weight >= 0.1 and faint[i] == 1:
            ax.text(j, i, f"{weight:.2f}", ha="center", va="center", fontsize=9,
                    color="w" if weight > 0.6 else "k")  # fmt: skip
    ax.set_xticks(range(8), SENTENCE, rotation=90)
    ax.set_yticks(range(8), SENTENCE)
    ax.set(title="Nouns find their own adjectives (other words were never asked)", xlabel="key",
           ylabel="query: row sums to 1")  # fmt: skip

    ax = fig.add_subplot(grid[0, 1])
    for row, name in enumerate(("boat", "loan")):
        at = np.arange(BANK + 1) + 0.4 * row - 0.2
        label = f"… {name} … bank (head {best[row]})"
        ax.barh(at, heads[row, best[row]], height=0.38, color=COLOURS[row], label=label)
    labels = [*RIVER[: BANK + 1]]
    labels[clue] = "boat / loan"
    ax.set_yticks(range(BANK + 1), labels)
    ax.invert_yaxis()
    ax.set(title="“bank” takes its meaning from one word", xlabel="attention of “bank”")
    ax.legend(loc="upper right")

    ax = fig.add_subplot(grid[1, :])
    story = [STORY[i] for i in stories[0]]
    seen = layers[1][:, -1].max(axis=0)
    ax.bar(range(SIZE), seen, color=[COLOURS[1] if i == deed else COLOURS[0] for i in range(SIZE)])
    ax.set_xticks(range(SIZE), story, rotation=90, fontsize=7)
    ax.set(title=f"“murderer was” looks {back[0]} words back, at the deed, which knows its name",
           ylabel="attention of “was”, layer 2", xlim=(-1, SIZE), ylim=(0, 1.05))  # fmt: skip
lesson.picture(fig, "heads.png")

# %% [markdown]
# ## Try this
#
# 1. Take `rotary=True` away from the first model. Which attention can it learn without knowing
#    where words stand?
# 2. Read the story with a GPT of one layer. Why can it not name the murderer?
# 3. In part 2, put the clue *behind* the ambiguous word. What does the probe find at the word, and
#    what at the end of the sentence?
#
# Solutions: `tutorials/solutions/ch07_attention_learned.py`.

# %%
lesson.finish()
