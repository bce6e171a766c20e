# %% [markdown]
# # Chapter 7: attention, built by hand
#
# In *a fluffy blue creature roamed the verdant forest* the word *creature* should end up meaning
# a fluffy, blue one. The video shows how attention moves that meaning from word to word. Here we
# do what it describes, but write every number of the matrices ourselves: nothing is trained, and
# nothing can hide. It runs with plain `python`, or cell by cell.

# %%
import math

import numpy as np

import microgpt as mg
from microgpt.learn import start
from microgpt.viz.style import DIVERGING, SEQUENTIAL

lesson = start("Chapter 7: attention in transformers, by hand")
lesson.uses("one sentence of eight words, and generated numbers")
EXACT = "float64"  # this lesson checks identities to 12 digits

# %% [markdown]
# ## Words as vectors we can read
#
# Real embeddings have thousands of numbers without names. Ours have 18, each with a meaning:
# 4 for the kind of word, 8 for the place in the sentence, 6 for what is meant. A word is one row.

# %%
WORDS = ["a", "fluffy", "blue", "creature", "roamed", "the", "verdant", "forest"]
KINDS = ["article", "adjective", "noun", "verb"]
MEANINGS = ["fluffy", "blue", "verdant", "creature", "forest", "roamed"]
T = len(WORDS)
kind_of = dict(a=0, the=0, fluffy=1, blue=1, verdant=1, creature=2, forest=2, roamed=3)
KIND, PLACE, MEANING = slice(0, 4), slice(4, 12), slice(12, 18)

rows = np.zeros((T, 18))
for place, word in enumerate(WORDS):
    rows[place, kind_of[word]] = 1
    rows[place, 4 + place] = 1
    if word in MEANINGS:
        rows[place, 12 + MEANINGS.index(word)] = 1
E = mg.tensor(rows, dtype=EXACT)  # (words, width) = (8, 18)

# %% [markdown]
# ## A question and an answer
#
# Each word asks a question, its *query* q = W_Q E, and offers an answer, its *key* k = W_K E.
# The score of a pair is the dot product q·k. The question of a noun in the video is "are there
# adjectives in front of me?". Nine numbers are enough to ask it:
#
# - number 0: a noun asks "adjective?" with strength 16, an adjective answers yes with 1;
# - numbers 1 to 8: which places are of interest. Of the word two before, a score of 0; of the word
#   just before, ln(58/42) = 0.32 more; of oneself 8, so that a word that asks for nothing special
#   looks at itself; of all others -20.
#
# Scores will be divided by √d_k = √9 = 3 in a moment, so the queries are multiplied by 3.
# In code a word is a **row**, so q = E W_Qᵀ, and row i of the pattern belongs to query i. The
# video draws words as columns and queries as columns of the pattern: the same thing, transposed.

# %%
D_K = 9
LIKES_NEAR = math.log(0.58 / 0.42)

interest = np.full((T, T), -20.0)  # [place of the query, place of the key]
for i in range(T):
    interest[i, i] = 8.0
    if i >= 1:
        interest[i, i - 1] = LIKES_NEAR
    if i >= 2:
        interest[i, i - 2] = 0.0


def question(asking: str, wanted: str) -> tuple[np.ndarray, np.ndarray]:
    """W_Q and W_K of a head in which words of one kind look for words of another."""
    wq, wk = np.zeros((D_K, 18)), np.zeros((D_K, 18))
    wq[0, KINDS.index(asking)] = 16.0
    wk[0, KINDS.index(wanted)] = 1.0
    wq[1:, PLACE] = interest.T
    wk[1:, PLACE] = np.eye(T)
    return wq * math.sqrt(D_K), wk


W_Q, W_K = question("noun", "adjective")

# %% [markdown]
# What is passed on is a third vector, the *value*. Only adjectives have something to say here:
# what they mean. Value↓ (9 x 18) picks the three meanings that adjectives can have, and Value↑
# (18 x 9) puts them where they belong in the vector of another word.


# %%
def passing_on(*meanings: str) -> tuple[np.ndarray, np.ndarray]:
    """Value↓ and Value↑ of a head that moves these meanings."""
    down, up = np.zeros((D_K, 18)), np.zeros((18, D_K))
    for j, meaning in enumerate(meanings):
        down[j, 12 + MEANINGS.index(meaning)] = 1.0
        up[12 + MEANINGS.index(meaning), j] = 1.0
    return down, up


V_DOWN, V_UP = passing_on("fluffy", "blue", "verdant")

# %% [markdown]
# ## One word, in plain numbers
#
# The noun *creature* collects, number by number: a score for itself and for each word before it,
# a softmax of these, and with its weights a sum of the values.

# %%
ME = WORDS.index("creature")


def times(matrix, vector: list) -> list:
    """Matrix times vector, one product after the other."""
    return [sum(x * w for w, x in zip(row, vector, strict=True)) for row in matrix]


words = [[mg.Scalar(number) for number in row] for row in rows]
query = times(W_Q, words[ME])
scores = []
for word in words[: ME + 1]:  # itself and what stands before
    key = times(W_K, word)
    scores.append(sum(q * k for q, k in zip(query, key, strict=True)) / math.sqrt(D_K))
exps = [score.exp() for score in scores]
shares = [e / sum(exps) for e in exps]
values = [times(V_DOWN, word) for word in words[: ME + 1]]
collected = times(zip(*values, strict=True), shares)
change = times(V_UP, collected)  # ΔE of "creature"

for word, score, share in zip(WORDS, scores, shares, strict=False):
    print(f"   creature → {word:9} score {score.data:6.2f}, weight {share.data:.4f}")

# %% [markdown]
# ## All words at once
#
# The same for every word in four lines: softmax(Q Kᵀ / √d_k) V, where scores of later words are
# set to -∞ first. Shapes: Q, K and V are (words, 9), the pattern is (words, words).

# %%
wq, wk, down, up = (mg.tensor(w, dtype=EXACT) for w in (W_Q, W_K, V_DOWN, V_UP))
seen = np.tril(np.ones((T, T), dtype=bool))  # query i may see keys 0 … i

Q, K, V = E @ wq.T, E @ wk.T, E @ down.T
masked = mg.where(seen, Q @ K.T / math.sqrt(D_K), -math.inf)
pattern = mg.softmax(masked, axis=-1)
delta = (pattern @ V) @ up.T  # (words, 18): what is added to each word


def gap(a, b):
    """The largest difference between two tensors."""
    return mg.max(abs(a - b))


alone = mg.tensor([share.data for share in shares], dtype=EXACT)
lesson.check("pattern: one word - all words", gap(pattern[ME, : ME + 1], alone), below=1e-12)
alone = mg.tensor([number.data for number in change], dtype=EXACT)
lesson.check("ΔE: one word - all words", gap(delta[ME], alone), below=1e-12)
lesson.check("weights of a query sum to 1, error", gap(pattern.sum(axis=1), 1), below=1e-12)
by_columns = mg.softmax(masked.T, axis=0)  # as the video draws it: a query is a column
lesson.check("column picture = transposed, error", gap(by_columns, pattern.T), below=1e-12)

weights = {(a, b): pattern[i, j].item() for i, a in enumerate(WORDS) for j, b in enumerate(WORDS)}
lesson.check("creature takes from blue", weights["creature", "blue"], near=0.58, within=0.001)
lesson.check("creature takes from fluffy", weights["creature", "fluffy"], near=0.42, within=0.001)
lesson.check("forest takes from verdant", weights["forest", "verdant"], above=0.99)
lesson.check("forest takes from blue", weights["forest", "blue"], below=1e-6)

# %% [markdown]
# Now *creature* is the vector of a fluffy blue creature, and *forest* that of a verdant one.

# %%
after = E + delta
for word in ("creature", "forest"):
    numbers = after.numpy()[WORDS.index(word), MEANING]
    meant = ", ".join(f"{m} {x:.2f}" for m, x in zip(MEANINGS, numbers, strict=True) if x > 0.005)
    print(f"   {word}: {meant}")
lesson.check("creature is still a creature", after[ME, 12 + MEANINGS.index("creature")], equals=1.0)

# %% [markdown]
# ## The picture
#
# The scores, grey where a word would look into the future; what softmax makes of each row; and the
# same turned over, as in the video.


# %%
def grid(ax, numbers, least: float, **labels: str) -> None:
    """Numbers as shaded squares, those above `least` written out; grey is masked."""
    from matplotlib import colormaps

    weights = numbers[np.isfinite(numbers)].min() >= 0
    shades = colormaps[SEQUENTIAL if weights else DIVERGING].with_extremes(bad="#dddddd")
    end = 1 if weights else 25
    edges = np.arange(T + 1) - 0.5
    ax.pcolormesh(edges, edges, np.ma.masked_invalid(numbers), cmap=shades, edgecolor="white",
                  vmin=0 if weights else -end, vmax=end)  # fmt: skip
    for (i, j), x in np.ndenumerate(numbers):
        text = "" if abs(x) < least or np.isnan(x) else f"{x:.2f}" if weights else f"{x:.3g}"
        text = text.replace("-inf", "-∞").replace("-", "\N{MINUS SIGN}")
        white = np.isfinite(x) and abs(x) > 0.6 * end
        ax.text(j, i, text, ha="center", va="center", fontsize=8, color="w" if white else "k")
    ax.set_xticks(range(T), WORDS, rotation=90)
    ax.set_yticks(range(T), WORDS)
    ax.tick_params(length=0)
    ax.set(ylim=(T - 0.5, -0.5), aspect="equal", **labels)


shown = np.where(seen, pattern.numpy(), np.nan)
with mg.viz.styled() as figure:
    fig = figure(figsize=(14, 5.4))
    left, middle, right = fig.subplots(1, 3)
    grid(left, masked.numpy(), 0, title="scores q·k / √d, later words masked",
         xlabel="key", ylabel="query")  # fmt: skip
    grid(middle, shown, 0.005, title="pattern: the softmax of each row",
         xlabel="key", ylabel="query: its row sums to 1")  # fmt: skip
    grid(right, shown.T, 0.005, title="as the video draws it, transposed",
         xlabel="query: its column sums to 1", ylabel="key")  # fmt: skip
    fig.suptitle("“Which adjectives stand in front of me?” creature finds fluffy and blue, forest "
                 "finds verdant; other words look at themselves")  # fmt: skip
lesson.picture(fig, "pattern.png")

# %% [markdown]
# ## Masking
#
# A model that learns to predict every next word at once must not see that word. So scores of
# later words become -∞ *before* the softmax, which makes their weights exactly 0 and leaves rows
# that sum to 1. Why not simply set the weights to 0 afterwards? Because then rows no longer sum to
# 1, and, worse, the future still counts: it stands in the denominator.

# %%
lesson.check("largest weight on a later word", pattern.numpy()[~seen].max(), equals=0.0)

generator = lesson.generator(1)
loose = mg.randn(T, T, generator=generator, dtype=EXACT)
wrong = mg.where(seen, mg.softmax(loose, axis=-1), 0.0)
lesson.check("zeroed too late: first row sums to", wrong[0].sum(), below=0.99)

late = mg.jacobian(lambda s: mg.where(seen, mg.softmax(s, axis=-1), 0.0))(loose).numpy()
early = mg.jacobian(lambda s: mg.softmax(mg.where(seen, s, -math.inf), axis=-1))(loose).numpy()
future = ~seen  # of the scores, the last two of four axes (8, 8, 8, 8)
lesson.check("zeroed too late: a weight reacts by", abs(late[..., future]).max(), above=0.01)
lesson.check("masked early: weights react by", abs(early[..., future]).max(), equals=0.0)

# %% [markdown]
# In a whole transformer block with random weights: how do the scores of the next word at place t,
# the logits, react to the vector of word s? For s > t not at all.

# %%
block = mg.nn.TransformerBlock(8, 2, is_causal=True, generator=generator, dtype=EXACT)
unembed = mg.nn.Linear(8, 5, generator=generator, dtype=EXACT)
x = mg.randn(1, 6, 8, generator=generator, dtype=EXACT)
reaction = mg.jacobian(lambda x: unembed(block(x)))(x).numpy()[0, :, :, 0]  # (t, logit, s, width)
strength = abs(reaction).max(axis=(1, 3))  # (t, s)
later = np.triu(np.ones((6, 6), dtype=bool), 1)
lesson.check("∂logit_t / ∂x_s for s > t, largest", strength[later].max(), equals=0.0)
lesson.check("∂logit_t / ∂x_s for s ≤ t, smallest", strength[~later].min(), above=0)

# %% [markdown]
# ## Why divide by √d_k
#
# The dot product of two random vectors of 128 numbers is a sum of 128 random terms: its size grows
# like √128 = 11.3. Softmax of such large scores is nearly a choice of one word, and its gradient
# nearly 0. Divided by √d_k the scores have size 1 for any width.

# %%
WIDE, KEYS = 128, 16
q = mg.randn(500, 1, WIDE, generator=generator)
k = mg.randn(500, WIDE, KEYS, generator=generator)
raw = q @ k  # (draws, 1, keys)
scaled = raw / math.sqrt(WIDE)


def top(scores) -> float:
    """The largest weight among the keys, averaged over the draws."""
    return mg.mean(mg.max(mg.softmax(scores, axis=-1), axis=-1)).item()


# Over seeds 1–5: sizes 11.23–11.37 and 0.992–1.005, weights 0.887–0.894 and 0.242–0.254.
lesson.check("size of raw scores", raw.numpy().std(), near=math.sqrt(WIDE), within=0.5)
lesson.check("size of scaled scores", scaled.numpy().std(), near=1, within=0.05)
lesson.check("largest of 16 weights, raw", top(raw), near=0.89, within=0.03)
lesson.check("largest of 16 weights, scaled", top(scaled), near=0.25, within=0.02)

# %% [markdown]
# ## Several heads
#
# A second head, by hand too: the verb asks "who does this?" and looks at the noun before it. Both
# together are exactly what `mg.nn.MultiHeadAttention` computes: it keeps the W_Q, W_K and Value↓
# of all heads stacked on one another, and the Value↑ side by side, as one *output matrix*. That
# is why papers speak of a "value matrix" and mean only Value↓.

# %%
W_Q2, W_K2 = question("verb", "noun")
V_DOWN2, V_UP2 = passing_on("creature", "forest")

attention = mg.nn.MultiHeadAttention(18, 2, bias=False, generator=generator, dtype=EXACT)
attention.load_state_dict(
    {
        "in_proj_weight": np.concatenate([W_Q, W_Q2, W_K, W_K2, V_DOWN, V_DOWN2]),  # (54, 18)
        "out_proj.weight": np.concatenate([V_UP, V_UP2], axis=1),  # (18, 18)
    }
)
both, patterns = attention(E[None], is_causal=True, need_weights=True)


def head(x, wq, wk, down, up, mask):
    """One head as in the video: what it adds to each word."""
    wq, wk, down, up = (mg.tensor(np.asarray(w), dtype=EXACT) for w in (wq, wk, down, up))
    scores = (x @ wq.T) @ (x @ wk.T).T / math.sqrt(len(wq))
    return mg.softmax(mg.where(mask, scores, -math.inf), axis=-1) @ (x @ (up @ down).T)


delta2 = head(E, W_Q2, W_K2, V_DOWN2, V_UP2, seen)
lesson.check("two heads = package, error", gap(both[0], delta + delta2), below=1e-12)
lesson.check("roamed takes from creature", patterns[0, 1, 4, ME], above=0.99)
who = (E + both[0])[WORDS.index("roamed"), 12 + MEANINGS.index("creature")]
lesson.check("roamed knows who roamed", who, above=0.99)

# %% [markdown]
# One thing a single layer cannot do: *roamed* collects a creature, not a fluffy blue one. Both
# heads read the words as they came in. For that, the next layer is needed.
#
# The same with random matrices, where no zero helps: two maps through 9 numbers, Value↑ · Value↓,
# have rank 9 at most although they are 18 x 18. That is the saving. And all heads together add the
# sum of what each adds: output = E + ΔE₁ + ΔE₂.

# %%
free = mg.nn.MultiHeadAttention(18, 2, bias=False, generator=generator, dtype=EXACT)
x = mg.randn(T, 18, generator=generator, dtype=EXACT)
stacked = free.in_proj_weight.numpy().reshape(3, 2, D_K, 18)  # (Q K V, head, 9, 18)
ups = free.out_proj.weight.numpy().reshape(18, 2, D_K)  # output matrix, cut between heads
heads = [head(x, *stacked[:, h], ups[:, h], seen) for h in (0, 1)]

rank = int(np.linalg.matrix_rank(ups[:, 0] @ stacked[2, 0]))
lesson.check("rank of Value↑ · Value↓", rank, equals=D_K)
merged = x + free(x[None], is_causal=True)[0]
error = gap(merged, x + heads[0] + heads[1])
lesson.check("output = E + sum over heads, error", error, below=1e-12)

# %% [markdown]
# ## Attention knows no order
#
# Without mask and without anything in the vectors that says where a word stands, attention sees a
# bag of words: shuffle them, and the outputs are shuffled in the same way.

# %%
order = generator.permutation(T)
straight, shuffled = free(x[None])[0], free(x[order][None])[0]
lesson.check("shuffled in = shuffled out, error", gap(shuffled, straight[order]), below=1e-12)
placed = mg.nn.SinusoidalPositions(18)
straight, shuffled = free(placed(x[None]))[0], free(placed(x[order][None]))[0]
lesson.check("with positions it differs by", gap(shuffled, straight[order]), above=0.01)

# %% [markdown]
# ## Counting
#
# GPT-3 has words of 12,288 numbers and 96 heads of 128 in each of 96 layers. One query matrix is
# 128 x 12,288. A value matrix that maps words to words directly would be a square of 12,288, 96
# times as large; in its two factors it costs as much as W_Q and W_K together.

# %%
table = mg.models.gpt_config.count(mg.models.GPTConfig.gpt3(), everything=False)
HEADS = LAYERS = 96
kinds = ("Query", "Key", "Value↓", "Value↑")
total = sum(table[kind].weights for kind in kinds)
one = table["Query"].weights // (HEADS * LAYERS)
lesson.check("one query matrix: 128 · 12,288", one, equals=1_572_864)
lesson.check("a square value matrix", 12_288**2, equals=150_994_944)
lesson.check("one head", total // (HEADS * LAYERS), equals=6_291_456)
lesson.check("the 96 heads of one block", total // LAYERS, equals=603_979_776)
lesson.check("all blocks", total, equals=57_982_058_496)
lesson.check("share of all 175 billion, in %", 100 * total / table.total, near=33.1, within=0.05)

# %% [markdown]
# A third of GPT-3, then, for the part that its paper is famous for. The pattern itself is no
# parameter, but it must be computed: one number per pair of words, per head.

# %%
CONTEXT = 2048
lesson.check("pattern of one head", CONTEXT**2, equals=4_194_304)
lesson.check("patterns of all 9,216 heads", CONTEXT**2 * HEADS * LAYERS, equals=38_654_705_664)
texts = [mg.zeros((1, length, 18), dtype=EXACT) for length in (T, 2 * T)]
short, long = (free(text, need_weights=True)[1].size for text in texts)
lesson.check("twice the context, pattern ×", long / short, equals=4.0)

# %% [markdown]
# ## Try this
#
# 1. *Creature* should take twice as much from *blue* as from *fluffy*. Which difference of scores
#    does that, and does it matter how large the scores are?
# 2. Two layers: give the changed words to the two heads once more. Does *roamed* now know that
#    what roamed was blue?
# 3. Turn queries and keys with `mg.nn.RotaryEmbedding`. Does their score depend on where the two
#    words stand, or only on how far apart?
# 4. How small does the gradient of the softmax become when scores are not divided by √d_k?
#
# Solutions: `tutorials/solutions/ch07_attention_by_hand.py`.

# %%
lesson.finish()
