# %% [markdown]
# # Solutions to chapter 2: noise, dreams, and digits off the middle
#
# The exercises stand at the end of `tutorials/ch02_analysis.py`.

# %%
import numpy as np

import microgpt as mg
from microgpt.learn import images, start

lesson = start("Solutions to chapter 2: noise and dreams")
digits, is_mnist = images(lesson)
if is_mnist:
    digits = digits.head(lesson.pick(15_000, 2_500), 1_000)
x_train, x_test = digits.x_train.reshape(-1, 784), digits.x_test.reshape(-1, 784)
wishes = mg.one_hot(mg.tensor(digits.y_train), 10).numpy()
cost = mg.nn.SumSquaredError()


def train(x, y, epochs):
    """The sigmoid network of the chapter, trained on images x with wishes y."""
    network = mg.models.MLP((784, 16, 16, 10), "sigmoid", generator=lesson.generator())
    batches = mg.data.batches(x, y, batch_size=10, seed=lesson.seed)
    optimizer = mg.optim.SGD(network.parameters(), lr=1.5)
    mg.train.fit(network, cost, optimizer, batches, epochs=epochs)
    return network


def outputs(network, x):
    """The ten outputs of every image."""
    with mg.no_grad():
        return network(mg.asarray(x.astype(np.float32))).numpy()


def right(network):
    """Share of the test images that the network gets right."""
    return (outputs(network, x_test).argmax(axis=1) == digits.y_test).mean()


epochs = 5 if is_mnist else lesson.pick(20, 8)
network = train(x_train, wishes, epochs)
print(f"{right(network):.1%} of the test images are right")

# %% [markdown]
# ## 1. Mixed-up digits
#
# The same grey values as a digit, mostly black, at other places. Uniform noise is half bright
# everywhere and so drives every neuron far; these do not, and still the network is far from
# silent. It has no output for "none of them", and nobody taught it to keep all ten small.

# %%
random = lesson.generator(1)
noise = random.uniform(size=(500, 784))
mixed = random.permuted(x_test[:500], axis=1)
for name, x in (("test images", x_test[:500]), ("noise", noise), ("mixed-up digits", mixed)):
    print(f"{name:>15}: brightest output {outputs(network, x).max(axis=1).mean():.2f} on average")
tops = [outputs(network, x).max(axis=1).mean() for x in (x_test[:500], mixed)]
lesson.check("brightest output, mixed-up digits", tops[1], at_least=0.2)
lesson.check("a digit is brighter", tops[0], above=tops[1])

# %% [markdown]
# ## 2. Taught to keep quiet
#
# As many noise images as digits, with ten zeros as the wish. The network learns at once to keep
# quiet about this noise, and it costs little on the digits. Mixed-up digits leave it calmer than
# before too, but not as calm: it learned what uniform noise looks like, not what a digit is.

# %%
more = random.uniform(size=x_train.shape).astype(np.float32)
quiet = train(
    np.concatenate([x_train, more]), np.concatenate([wishes, np.zeros_like(wishes)]), epochs
)
noise_top, mixed_top = [outputs(quiet, x).max(axis=1).mean() for x in (noise, mixed)]
print(f"{right(quiet):.1%} of the test images are right")
print(f"brightest output: {noise_top:.3f} on noise, {mixed_top:.3f} on mixed-up digits")
lesson.check("brightest output on noise", noise_top, at_most=0.1)
lesson.check("brighter on mixed-up digits", mixed_top, above=noise_top)
lesson.check("points lost on digits", 100 * (right(network) - right(quiet)), at_most=15)

# %% [markdown]
# ## 3. From 3 to 5
#
# A hundred threes roll towards "5", each by gradient steps on its pixels, and stop as soon as the
# network says 5. The change is spread thinly; one has to look twice to see it. Such images are
# called adversarial examples (Szegedy and others, arXiv:1312.6199).

# %%
answers = outputs(network, x_test).argmax(axis=1)
threes = x_test[(digits.y_test == 3) & (answers == 3)][:100]
x = mg.tensor(threes, requires_grad=True)
done = np.zeros(len(threes), bool)
result = threes.copy()
for _ in lesson.progress(range(400), "from 3 to 5"):
    x.grad = None
    mg.sum(-mg.log(network(x)[:, 5] + 1e-12)).backward()
    slope = x.grad.numpy()
    step = 0.1 * slope / (np.linalg.norm(slope, axis=1, keepdims=True) + 1e-12)
    now = np.clip(x.numpy() - step, 0, 1)
    x.data = now
    says_five = outputs(network, now).argmax(axis=1) == 5
    result[says_five & ~done] = now[says_five & ~done]
    done |= says_five
    if done.all():
        break
changed = np.linalg.norm(result - threes, axis=1)[done]
whole = np.linalg.norm(threes, axis=1)[done]
print(
    f"{done.mean():.0%} of {len(threes)} threes became fives; the change is "
    f"{np.median(changed / whole):.0%} of the length of the image (median)"
)
lesson.check("threes that became fives", done.mean(), at_least=0.8)
lesson.check("length of the change / of the image", np.median(changed / whole), at_most=0.5)
with mg.viz.styled() as figure:
    fig = figure(figsize=(6, 3.4))
    grid = fig.subplots(2, 4)
    for column, i in enumerate(np.flatnonzero(done)[:4]):
        for row, (image, says) in enumerate(((threes[i], "3"), (result[i], "5"))):
            ax = grid[row, column]
            ax.imshow(image.reshape(28, 28), cmap="gray", vmin=0, vmax=1)
            ax.set_title(f"“{says}”", fontsize=10)
    for ax in grid.flat:
        ax.set_axis_off()
    fig.suptitle("Above: threes. Below: fives, to the network")
lesson.picture(fig, "three_to_five.png")

# %%
lesson.finish()
