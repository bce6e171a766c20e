# %% [markdown]
# # Chapter 4: the chain rule, one neuron at a time
#
# Chapter 3 says what backpropagation does; this one does it with pencil and paper. The smallest
# network that shows everything is a chain: one input, then three layers of a single neuron each.
# We write its derivatives by hand, factor by factor, and hold them against the engine.

# %%
import numpy as np

import microgpt as mg
from microgpt import Scalar
from microgpt.learn import start

lesson = start("Chapter 4: backpropagation calculus")
lesson.uses("nothing but a few numbers of its own")

# %% [markdown]
# ## A network like a chain
#
# Each neuron has one weight w and one bias b. It takes the activation before it, forms the
# weighted sum z = w·a + b and answers with a = σ(z). The cost of the example is (a₃ − y)², where
# y is the wish. (The video writes L for the last layer; here L = 3.)
#
# A `Scalar` is a number that remembers how it was computed.

# %%
a0, y = Scalar(0.6), Scalar(1.0)
w1, b1 = Scalar(1.8), Scalar(-0.7)
w2, b2 = Scalar(-1.3), Scalar(0.4)
w3, b3 = Scalar(2.1), Scalar(-0.9)

z1 = w1 * a0 + b1
a1 = z1.sigmoid()
z2 = w2 * a1 + b2
a2 = z2.sigmoid()
z3 = w3 * a2 + b3
a3 = z3.sigmoid()
cost = (a3 - y) ** 2
cost.backward()

small = mg.models.MLP((1, 1, 1, 1), "sigmoid")  # the package's network of this form
lesson.check("weights", sum(n for _, n, _ in small.count()), equals=3)
lesson.check("biases", sum(n for _, _, n in small.count()), equals=3)

dials = {"w1": w1, "b1": b1, "w2": w2, "b2": b2, "w3": w3, "b3": b3}
print(f"the network answers {a3.data:.4f}, the wish is {y.data:g}, the cost {cost.data:.4f}")
for name, dial in dials.items():
    print(f"  {name} = {dial.data:4.1f}   ∂C/∂{name} = {dial.grad:+.6f}")
lesson.check("dials", len(dials), equals=small.num_parameters())

# %% [markdown]
# ## One link: three factors
#
# A nudge of w₃ moves z₃; that moves a₃; that moves the cost. Three small effects in a row, and
# the chain rule says that their rates multiply:
#
# ∂C/∂w₃ = ∂z₃/∂w₃ · ∂a₃/∂z₃ · ∂C/∂a₃ = a₂ · σ'(z₃) · 2(a₃ − y)
#
# The other two derivatives of this layer share the last two factors, and only the first differs:
# it is 1 for the bias, and w₃ for the activation before. σ'(z) is σ(z)·(1 − σ(z)).


# %%
def slope(z):
    """σ'(z) of a float."""
    return mg.sigmoid(z) * (1.0 - mg.sigmoid(z))


shared = slope(z3.data) * 2 * (a3.data - y.data)
lesson.check("∂C/∂w3 = a2·σ'(z3)·2(a3−y)", w3.grad, near=a2.data * shared, within=1e-12)
lesson.check("∂C/∂b3 = 1·σ'(z3)·2(a3−y)", b3.grad, near=1.0 * shared, within=1e-12)
lesson.check("∂C/∂a2 = w3·σ'(z3)·2(a3−y)", a2.grad, near=w3.data * shared, within=1e-12)

# %% [markdown]
# The first factor of ∂C/∂w₃ is the activation before: a weight matters as much as what it
# carries. "Neurons that fire together wire together" is this factor.
#
# ## A long path: five factors
#
# ∂C/∂a₂ is worth having although nobody can turn a₂: the dials of layer 2 act through it. From w₂
# the effect runs over five links, w₂ → z₂ → a₂ → z₃ → a₃ → C.

# %%
factors = {
    "∂z2/∂w2 = a1": a1.data,
    "∂a2/∂z2 = σ'(z2)": slope(z2.data),
    "∂z3/∂a2 = w3": w3.data,
    "∂a3/∂z3 = σ'(z3)": slope(z3.data),
    "∂C/∂a3 = 2(a3−y)": 2 * (a3.data - y.data),
}
product = 1.0
for name, factor in factors.items():
    product *= factor
    print(f"  {name:<18} {factor:+.6f}   product so far {product:+.6f}")
lesson.check("five factors = ∂C/∂w2", product, near=w2.grad, within=1e-12)

# %% [markdown]
# Two factors of this path are a σ', and σ' is at most 1/4. Each further layer brings another one:
# in a deep stack of sigmoids the first layers feel next to nothing (lesson `ch01_nonlinearity`
# measures it).
#
# Nobody multiplies whole paths, however. Going backwards, ∂C/∂a of one layer is all that the layer
# before needs: three products per layer, and the work is done.

# %%
weights, biases = [w1, w2, w3], [b1, b2, b3]
sums, activations = [z1, z2, z3], [a0, a1, a2, a3]
error = 0.0
down = 2 * (a3.data - y.data)  # ∂C/∂a of the layer we stand in
for layer in (2, 1, 0):
    common = slope(sums[layer].data) * down
    error = max(error, abs(activations[layer].data * common - weights[layer].grad))
    error = max(error, abs(common - biases[layer].grad))
    down = weights[layer].data * common
lesson.check("six derivatives, walking backwards", error, at_most=1e-12)

# %% [markdown]
# ## The tree
#
# The same thing as a picture: every box is a number of the calculation, with its value, and with
# `grad`, the derivative of the cost by it. What lies on the way from a leaf to the cost is the
# path whose factors we multiplied.

# %%
named = {**dials, "a0": a0, "y": y, "z1": z1, "a1": a1, "z2": z2, "a2": a2, "z3": z3, "a3": a3}
tree = mg.viz.Graph(cost, names={**named, "C": cost}, direction="down")
print(tree.text(width=80))
lesson.picture(tree.svg, "tree.svg")
lesson.check("boxes with value and gradient", tree.svg.count(">grad "), equals=len(tree.nodes))

# %% [markdown]
# ## Is it true? Nudge and look
#
# A derivative is a promise about small nudges: move w₃ by h and the cost moves by about h·∂C/∂w₃.
# "About", because the curve bends. With the h = 0.01 that the video draws, how good is it? And
# what if h is ten times smaller?


# %%
def cost_at(w):
    """The cost with another w₃; in plain floats, nothing is recorded."""
    return (mg.sigmoid(w * a2.data + b3.data) - y.data) ** 2


def ratio(h):
    """ΔC/Δw of a nudge by h."""
    return (cost_at(w3.data + h) - cost_at(w3.data)) / h


for h in (0.01, 0.001, 0.0001):
    print(f"  h = {h:<7g} ΔC/Δw = {ratio(h):+.8f}   off by {abs(ratio(h) - w3.grad):.1e}")

nudges = 0.01 * 0.5 ** np.arange(12)
errors = np.array([abs(ratio(h) - w3.grad) for h in nudges])
power = np.polyfit(np.log(nudges), np.log(errors), 1)[0]
lesson.check("error falls like h to the power", power, near=1.0, within=0.05)

# %% [markdown]
# Half the nudge, half the error: on double logarithmic axes a line of slope 1. But not for ever.
# With a tiny h the two costs differ only in their last digits, and what the computer rounds away
# is divided by h. This is why nobody trains a network by nudging, and why a check of gradients
# must choose its h with care.

# %%
h_axis = np.logspace(-1, -15, 57)
off = np.array([abs(ratio(h) - w3.grad) for h in h_axis])
with mg.viz.styled() as figure:
    fig = figure(figsize=(7, 4))
    ax = fig.subplots()
    ax.loglog(h_axis, off + 1e-18, "o-", markersize=3, color=mg.viz.style.BLUE)
    ax.loglog([0.1, 1e-8], [off[0], off[0] * 1e-7], "--", color=mg.viz.style.GREY, lw=1)
    ax.text(2e-4, 3e-5, "slope 1: half the nudge,\nhalf the error", color=mg.viz.style.GREY)
    ax.text(3e-12, 2e-7, "rounding, divided by h", color=mg.viz.style.GREY)
    ax.annotate(
        "h = 0.01, as in the video", (0.01, abs(ratio(0.01) - w3.grad)), (0.008, 2e-3),
        arrowprops={"arrowstyle": "->"},
    )  # fmt: skip
    ax.set(xlabel="nudge h of the weight", ylabel="|ΔC/Δw − ∂C/∂w|", ylim=(1e-11, 1))
    ax.invert_xaxis()
    ax.set_title("Smaller nudges come closer to the derivative, until rounding takes over")
lesson.picture(fig, "nudge.png")
lesson.check("best nudge is not the smallest", off.argmin() < len(off) - 1, equals=True)

# %% [markdown]
# ## Several neurons per layer
#
# Now 3 inputs, 3 hidden neurons, 2 outputs. The formulas only get indices: w_jk leads from neuron
# k of the layer before to neuron j. One thing is new: neuron k reaches the cost on as many paths
# as there are outputs, and its derivative is the sum over them,
#
# ∂C/∂a_k = Σⱼ w_jk · σ'(z_j) · 2(a_j − y_j)


# %%
def draw(generator, *shape):
    """Weights from the normal distribution, as nested lists of floats."""
    return generator.normal(size=shape).tolist()


source = lesson.generator()
inputs, wish = [0.9, 0.2, 0.5], [1.0, 0.0]
W1, B1, W2, B2 = draw(source, 3, 3), draw(source, 3), draw(source, 2, 3), draw(source, 2)

w_hidden = [[Scalar(w) for w in row] for row in W1]
w_out = [[Scalar(w) for w in row] for row in W2]
hidden = [
    (sum(w * x for w, x in zip(row, inputs, strict=True)) + b).sigmoid()
    for row, b in zip(w_hidden, B1, strict=True)
]
z_out = [
    sum(w * a for w, a in zip(row, hidden, strict=True)) + b
    for row, b in zip(w_out, B2, strict=True)
]
out = [z.sigmoid() for z in z_out]
cost = sum((a - t) ** 2 for a, t in zip(out, wish, strict=True))
cost.backward()

worst = 0.0
print("   k   path over output 0   path over output 1          sum       engine")
for k, neuron in enumerate(hidden):
    paths = [
        w_out[j][k].data * slope(z_out[j].data) * 2 * (out[j].data - wish[j]) for j in range(2)
    ]
    print(
        f"   {k} {paths[0]:>+20.6f} {paths[1]:>+20.6f} {sum(paths):>+12.6f} {neuron.grad:>+12.6f}"
    )
    worst = max(worst, abs(sum(paths) - neuron.grad))
lesson.check("sum over the paths = ∂C/∂a_k", worst, at_most=1e-12)

# %% [markdown]
# Two paths may pull in opposite directions: then a hidden neuron is torn between the wishes of
# the two outputs, and what counts is the balance.
#
# ## The same in tensors
#
# The sum over j is a product with a matrix: with δ_j = σ'(z_j)·2(a_j − y_j), the column of all
# ∂C/∂a_k is W₂ᵀδ. Shapes: W₁ (3, 3), W₂ (2, 3), a (3,), δ (2,). Tensors do with one call what the
# loops above did, and must come to the same numbers.

# %%
x, t = mg.tensor(inputs, dtype="float64"), mg.tensor(wish, dtype="float64")
W1t = mg.tensor(W1, dtype="float64", requires_grad=True)
W2t = mg.tensor(W2, dtype="float64", requires_grad=True)
B1t, B2t = mg.tensor(B1, dtype="float64"), mg.tensor(B2, dtype="float64")

hidden_t = mg.sigmoid(W1t @ x + B1t).retain_grad()
out_t = mg.sigmoid(W2t @ hidden_t + B2t)
cost_t = mg.sum((out_t - t) ** 2)
cost_t.backward()

delta = out_t.detach() * (1 - out_t.detach()) * 2 * (out_t.detach() - t)
by_matrix = (W2t.detach().T @ delta).numpy()
by_scalars = np.array([neuron.grad for neuron in hidden])
lesson.check("cost: tensors = scalars", cost_t, near=cost.data, within=1e-12)
lesson.check("∂C/∂a = W₂ᵀδ", np.abs(by_matrix - by_scalars).max(), at_most=1e-12)
lesson.check(
    "∂C/∂a: tensors = scalars",
    np.abs(hidden_t.grad.numpy() - by_scalars).max(),
    at_most=1e-12,
)
grads = [[w.grad for w in row] for row in w_hidden]
lesson.check("∂C/∂W₁: tensors = scalars", np.abs(W1t.grad.numpy() - grads).max(), at_most=1e-12)

# %% [markdown]
# That is all of backpropagation. The networks of the other lessons are larger, not different.
#
# ## Try this
#
# 1. Make the chain twelve neurons long, all with weight 1 and bias 0. How large is the derivative
#    of the first weight, compared with that of the last?
# 2. Nudge to both sides: (C(w+h) − C(w−h)) / 2h. How does its error fall with h?
# 3. Train on three examples at once: is the derivative of their mean cost the mean of their three
#    derivatives?
# 4. Replace σ by ReLU, with the same numbers. Which factors change, and what does the first layer
#    feel now?
#
# Solutions: `tutorials/solutions/ch04_chain_rule.py`.

# %%
lesson.finish()
