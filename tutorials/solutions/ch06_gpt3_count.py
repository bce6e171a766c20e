# %% [markdown]
# # Solutions: the parameters of GPT-3

# %%
import microgpt as mg
from microgpt.learn import start

lesson = start("Solutions to chapter 6: the parameters of GPT-3")
GPT, GPTConfig = mg.models.GPT, mg.models.GPTConfig

# %% [markdown]
# ## 1. The four GPT-2
#
# The embedding does not grow with the depth, and only with the first power of d; the layers grow
# with d². In the smallest it is nearly a third of all, in the largest a twentieth.

# %%
shares = []
for layers, width, heads in ((12, 768, 12), (24, 1024, 16), (36, 1280, 20), (48, 1600, 25)):
    table = GPT.count(GPTConfig.gpt2(n_layer=layers, n_embd=width, n_head=heads))
    shares.append(table["Embedding"].weights / table.total)
    print(f"{layers} layers, d = {width:,}: {table.total:>13,}, embedding {shares[-1]:.1%}")
lesson.check("the largest GPT-2", table.total, equals=1_557_611_200)
lesson.check("embedding in the smallest, percent", 100 * shares[0], near=31.0, within=0.05)
lesson.check("its share falls with the size", shares == sorted(shares)[::-1], equals=True)

# %% [markdown]
# ## 2. Twice as many heads
#
# heads · d_k stays d, so no weight more or less: the same rows, grouped otherwise. There are
# 3 · 96 more matrices in each of 96 layers. (What changes is that there are twice as many
# attention patterns, each made of shorter keys and queries.)

# %%
before = GPT.count(GPTConfig.gpt3(), everything=False)
after = GPT.count(GPTConfig.gpt3(n_head=192), everything=False)
lesson.check("weights with 192 heads", after.total, equals=before.total)
lesson.check("matrices more", after.matrices - before.matrices, equals=3 * 96 * 96)

# %% [markdown]
# ## 3. Square value matrices
#
# A single one has d² = 151 million weights. All 9,216 of them would have 1.4 trillion, eight times
# as many as the whole model has. The two factors make do with rank 128.

# %%
d, heads, layers = 12_288, 96, 96
square = d * d * heads * layers
factored = before["Value↓"].weights + before["Value↑"].weights
print(f"{square:,} instead of {factored:,}")
lesson.check("one square value matrix", d * d, equals=150_994_944)
lesson.check("all, as multiples of GPT-3", square / before.total, above=7.9, below=8.0)
lesson.check("saved by the two factors", square // factored, equals=d // (2 * 128))

# %% [markdown]
# ## 4. Wider or deeper
#
# A layer has 12·d² weights: twice as wide is four times as many, twice as deep is twice as many.
# (The ends grow with d only, so the factors are slightly below 4 and 2.)

# %%
wider = GPT.count(GPTConfig.gpt3(n_embd=2 * d), everything=False)
deeper = GPT.count(GPTConfig.gpt3(n_layer=2 * layers), everything=False)
lesson.check("twice as wide: times", wider.total / before.total, above=3.98, below=4.0)
lesson.check("twice as deep: times", deeper.total / before.total, above=1.99, below=2.0)

# %%
lesson.finish()
