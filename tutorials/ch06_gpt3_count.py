# %% [markdown]
# # Chapter 6: where GPT-3 keeps its 175 billion weights
#
# "175 billion parameters" sounds like a mystery. It is a multiplication table: GPT-3 has eight
# kinds of matrices, and how large each is follows from six numbers. This lesson fills in the
# table, checks it against a small model of the same build whose weights can really be counted, and
# then adds what the table leaves out.

# %%
import microgpt as mg
from microgpt.learn import start
from microgpt.viz.style import COLOURS, GREY

lesson = start("Chapter 6: the parameters of GPT-3")
lesson.uses("the published sizes of GPT-3 and GPT-2; no weights are needed, nor could be held")

# %% [markdown]
# ## Six numbers
#
# V tokens in the vocabulary; every token becomes a vector of d numbers. 96 layers, each with 96
# attention heads, whose keys and queries have d_k numbers and whose values have d_v. Between two
# attention blocks sits an MLP with n neurons in the middle.

# %%
V = 50_257
d = 12_288
d_k = d_v = 128
heads = 96
layers = 96
n = 4 * d

lesson.check("heads · d_k = d", heads * d_k, equals=d)

# %% [markdown]
# ## The two ends
#
# The embedding W_E has a column of d numbers for each token, the unembedding W_U a row of d numbers
# for each. (The pictures of the videos have vectors as columns. Code has them as rows, so there
# W_E is (V, d): the number of weights is the same.)
#
# The quiz of the chapter is the same product: 32,000 tokens, 10,000 numbers each.

# %%
embedding = d * V
unembedding = V * d
lesson.check("W_E", embedding, equals=617_558_016)
lesson.check("W_U", unembedding, equals=617_558_016)
lesson.check("both", embedding + unembedding, equals=1_235_116_032)
lesson.check("the quiz", 32_000 * 10_000, equals=320_000_000)

# %% [markdown]
# ## The whole table
#
# In each head the query and key matrices take a vector of d numbers to d_k, shape (d_k, d). A value
# matrix from d numbers to d numbers would have d² weights, as many as keys and queries of 48 heads;
# so it is a product of two: Value↓ to d_v numbers, shape (d_v, d), and Value↑ back, shape (d, d_v).
# In the MLP, Up has a row for each of the n neurons and Down a column for each.

# %%
weights = {
    "Embedding": embedding,
    "Key": d_k * d * heads * layers,
    "Query": d_k * d * heads * layers,
    "Value↓": d_v * d * heads * layers,
    "Value↑": d * d_v * heads * layers,
    "Up": n * d * layers,
    "Down": d * n * layers,
    "Unembedding": unembedding,
}
formulas = {
    "Embedding": f"d · V  =  {d:,} · {V:,}",
    "Key": f"dₖ · d · heads · layers  =  {d_k} · {d:,} · {heads} · {layers}",
    "Query": f"dₖ · d · heads · layers  =  {d_k} · {d:,} · {heads} · {layers}",
    "Value↓": f"dᵥ · d · heads · layers  =  {d_v} · {d:,} · {heads} · {layers}",
    "Value↑": f"d · dᵥ · heads · layers  =  {d:,} · {d_v} · {heads} · {layers}",
    "Up": f"n · d · layers  =  {n:,} · {d:,} · {layers}",
    "Down": f"d · n · layers  =  {d:,} · {n:,} · {layers}",
    "Unembedding": f"V · d  =  {V:,} · {d:,}",
}
total = sum(weights.values())
for kind, count in weights.items():
    print(f"{kind:<12} {formulas[kind]:<48} {count:>16,}")
print(f"{'Total':<12} {'':<48} {total:>16,}")

lesson.check("kinds of matrices", len(weights), equals=8)
for kind in ("Key", "Query", "Value↓", "Value↑"):
    lesson.check(kind, weights[kind], equals=14_495_514_624)
for kind in ("Up", "Down"):
    lesson.check(kind, weights[kind], equals=57_982_058_496)
lesson.check("total", total, equals=175_181_291_520)

# %% [markdown]
# Two thirds are in the MLPs, one third in attention, which has the fame. The two ends are a trifle.

# %%
shares = {
    "embeddings": (weights["Embedding"] + weights["Unembedding"]) / total,
    "attention": sum(weights[kind] for kind in ("Key", "Query", "Value↓", "Value↑")) / total,
    "MLPs": (weights["Up"] + weights["Down"]) / total,
}
for (name, share), percent in zip(shares.items(), (0.7, 33.1, 66.2), strict=True):
    lesson.check(f"{name}, percent", round(100 * share, 1), equals=percent)

# %% [markdown]
# ### How many matrices?
#
# The two ends; in each layer three matrices per head, one Value↑ and two of the MLP. One Value↑,
# because those of the 96 heads are stapled together, side by side, to a single "output matrix" of
# shape (d, heads·d_v). Counted one by one there would be 95 more in each layer.
#
# You may also hear of "12". That is no number of kinds, but a rule of thumb: a layer has 12·d²
# weights, 4·d² of attention and 8·d² of the MLP. All but the two ends:

# %%
matrices = {
    "Embedding": 1,
    "Key": heads * layers,
    "Query": heads * layers,
    "Value↓": heads * layers,
    "Value↑": layers,
    "Up": layers,
    "Down": layers,
    "Unembedding": 1,
}
together = sum(matrices.values())
lesson.check("matrices", together, equals=27_938)
lesson.check("the same, as a formula", 2 + layers * (3 * heads + 1 + 2), equals=27_938)
lesson.check("with every Value↑ by itself", together + layers * (heads - 1), equals=37_058)
lesson.check("12 · d² · layers", 12 * d * d * layers, equals=total - embedding - unembedding)

# %% [markdown]
# ## Does the table describe a real model?
#
# `mg.models.GPT.count` is the same table for any sizes. It allocates nothing: GPT-3 in float32
# would take 701 GB. But a small GPT of the same build can be made, and its weights counted one by
# one. Without positions, biases, weights of norms and tied ends, it has what the table has.

# %%
small = mg.models.GPTConfig(
    vocab_size=100,
    block_size=16,
    n_embd=24,
    n_layer=3,
    n_head=4,
    positions="none",
    bias=False,
    norm_affine=False,
    tied=False,
)
model = mg.models.GPT(small, generator=lesson.generator())
for name, p in model.named_parameters():
    print(f"{name:<24} {p.shape!s:<10} {p.size:>6,}")
table = mg.models.GPT.count(small, everything=False)
lesson.check("small GPT: weights it has", model.num_parameters(), equals=table.total)

# %% [markdown]
# The names tell how it is stored: `c_attn` is queries, keys and values of all heads on top of each
# other, (3·d, d), and `c_proj` the stapled Value↑. That is another packing of the same weights.
#
# Now GPT-3 itself, each kind by the package's counter against the table above:

# %%
theirs = mg.models.GPT.count(mg.models.GPTConfig.gpt3(), everything=False)
wrong = [kind for kind, count in weights.items() if theirs[kind].weights != count]
wrong += [kind for kind, count in matrices.items() if theirs[kind].matrices != count]
lesson.check("kinds that differ from the counter", len(wrong), equals=0)
lesson.check("GPT-3 in float32, GB", round(4 * theirs.total / 1e9), equals=701)

# %% [markdown]
# ## What the table leaves out
#
# A vector for each position of the context, biases, and the norms before every block. The chapter
# on MLPs mentions 49,000 parameters of normalisation: these are 4·d = 49,152 of each layer (two
# norms with a weight and a bias for each of d numbers); with the last norm it is 4.7 million.
#
# And one thing goes the other way: GPT-2, whose build GPT-3 kept, ties the two ends: its
# unembedding *is* the embedding. So with everything counted GPT-3 has fewer parameters than the
# table says.

# %%
context = 2048
positions = d * context
biases = layers * (3 * d + d + n + d)  # of query, key and value; of Value↑; of Up; of Down
norms = 2 * d * (2 * layers + 1)
full = total - unembedding + positions + biases + norms
print(f"{total:,} - {unembedding:,} + {positions:,} + {biases:,} + {norms:,} = {full:,}")
lesson.check("norms per layer", 4 * d, equals=49_152)
lesson.check("norms", norms, equals=4_743_168)
lesson.check("GPT-3 with everything", full, equals=174_604_259_328)

# %% [markdown]
# The counter must say so too, and give the known size of the smallest GPT-2, which everybody can
# load and count. And once more a model that is really there, with all the options on.

# %%
gpt3 = mg.models.GPT.count(mg.models.GPTConfig.gpt3())
gpt2 = mg.models.GPT.count(mg.models.GPTConfig.gpt2())
print(gpt2)
lesson.check("GPT-3 by the counter", gpt3.total, equals=full)
lesson.check("GPT-2 by the counter", gpt2.total, equals=124_439_808)

small = mg.models.GPTConfig(vocab_size=100, block_size=16, n_embd=24, n_layer=3, n_head=4)
model = mg.models.GPT(small, generator=lesson.generator())
lesson.check("small GPT-2: parameters", model.num_parameters(), equals=model.count().total)
arrays = len(list(model.named_parameters()))
print(f"{arrays} arrays hold them")

# %% [markdown]
# ## The picture

# %%
ENDS, ATTENTION, MLP = COLOURS[4], COLOURS[0], COLOURS[2]
colours = dict.fromkeys(weights, ATTENTION)
colours |= {"Embedding": ENDS, "Unembedding": ENDS, "Up": MLP, "Down": MLP}

with mg.viz.styled() as figure:
    fig = figure(figsize=(11, 5.2))
    top, bottom = fig.subplots(2, 1, height_ratios=(6, 1))
    top.set(xlim=(0, 110), ylim=(9.7, -1.6))
    top.set_axis_off()
    for x, text, side in ((0, "kind", "left"), (13, "formula", "left"), (67, "weights", "right"),
                          (79, "matrices", "right"), (82, "share", "left")):  # fmt: skip
        top.text(x, -1.1, text, ha=side, va="center", color=GREY)
    top.axhline(-0.6, color=GREY, linewidth=0.8)
    for row, (kind, count) in enumerate(weights.items()):
        top.text(0, row, kind, va="center", weight="bold", color=colours[kind])
        top.text(13, row, formulas[kind], va="center", fontsize=9.5)
        top.text(67, row, f"{count:,}", ha="right", va="center")
        top.text(79, row, f"{matrices[kind]:,}", ha="right", va="center")
        width = 20 * count / max(weights.values())
        top.barh(row, width, left=82, height=0.7, color=colours[kind])
        top.text(82.7 + width, row, f"{count / total:.1%}", va="center", fontsize=9)
    top.axhline(7.6, color=GREY, linewidth=0.8)
    top.text(0, 8.4, "Total", va="center", weight="bold")
    top.text(67, 8.4, f"{total:,}", ha="right", va="center", weight="bold")
    top.text(79, 8.4, f"{together:,}", ha="right", va="center", weight="bold")

    left = 0.0
    for (name, share), colour in zip(shares.items(), (ENDS, ATTENTION, MLP), strict=True):
        bottom.barh(0, share, left=left, color=colour, height=0.6)
        if share > 0.1:
            middle = left + share / 2
            bottom.text(middle, 0, f"{name} {share:.1%}", ha="center", va="center", color="white")
        left += share
    bottom.text(0, 0.62, f"embeddings {shares['embeddings']:.1%}", color=ENDS, va="center")
    bottom.set(xlim=(0, 1), ylim=(0.8, -0.4))
    bottom.set_axis_off()
    fig.suptitle("GPT-3: two thirds of 175 billion weights are in the MLPs")
lesson.picture(fig, "gpt3_table.svg")

# %% [markdown]
# ## Try this
#
# 1. GPT-2 came in four sizes: 12, 24, 36 and 48 layers with d = 768, 1024, 1280 and 1600, and 12,
#    16, 20 and 25 heads. Count them all. Which share is the embedding in the smallest?
# 2. Give GPT-3 twice as many heads, each half as wide. What happens to the weights, and what to the
#    number of matrices?
# 3. What would d² weights for every value matrix cost, instead of Value↓ and Value↑?
# 4. Double d or double the layers: which one makes more weights?
#
# Solutions: `tutorials/solutions/ch06_gpt3_count.py`.

# %%
lesson.finish()
