# %% [markdown]
# # Chapter 2: a network of 13,002 numbers learns to read digits
#
# The video shows a network of 784 inputs, two hidden layers of 16 neurons and 10 outputs, and
# then lets it roll downhill: gradient descent on a cost that says how wrong its answers are.
# Here is that network, on the same data. It runs with plain `python`, or cell by cell.

# %%
import microgpt as mg
from microgpt.learn import images, start

lesson = start("Chapter 2: gradient descent, how networks learn")

# %% [markdown]
# ## The data
#
# MNIST: 60,000 handwritten digits to learn from and 10,000 others to be tested on. Each is a
# picture of 28 x 28 = 784 grey values between 0 (black) and 1 (white).

# %%
digits, is_mnist = images(lesson)
print(digits)
if lesson.fast:
    digits = digits.head(4_000 if is_mnist else 600, 1_000 if is_mnist else 200)
lesson.check("pixels per image", digits.x_train[0].size, equals=784)
if is_mnist and not lesson.fast:
    lesson.check("training images", len(digits.x_train), equals=60_000)
    lesson.check("test images", len(digits.x_test), equals=10_000)
lesson.check("darkest pixel", digits.x_train.min(), equals=0.0)
lesson.check("brightest pixel", digits.x_train.max(), equals=1.0)

# %% [markdown]
# The label is a class number, 0 to 9. As a wish for the ten outputs it becomes a row with a 1 in
# its place and 0 elsewhere, called one-hot. Such a row sums to 1 and its largest entry is the
# label again.

# %%
labels = digits.y_train[:5]
wishes = mg.one_hot(mg.tensor(labels), 10)
print(labels)
print(wishes.numpy().astype(int))
lesson.check(
    "one-hot rows sum to 1", bool((mg.sum(wishes, axis=1).numpy() == 1).all()), equals=True
)
same = (mg.argmax(wishes, axis=1).numpy() == labels).all()
lesson.check("and give the labels back", bool(same), equals=True)

# %% [markdown]
# Whoever tries many settings and keeps the best must not choose by the test images: that would be
# learning them by the back door. The book that the video recommends keeps 10,000 of the 60,000
# training images aside to choose with (50,000 / 10,000 / 10,000). Here nothing is chosen, every
# setting below was fixed beforehand, so all 60,000 train.

# %%
aside = len(digits.x_train) // 6
kept, chosen_with = digits.x_train[:-aside], digits.x_train[-aside:]
print(f"with a validation set: {len(kept):,} / {len(chosen_with):,} / {len(digits.x_test):,}")

# %% [markdown]
# ## The network
#
# A layer computes a' = σ(W a + b): every neuron adds up what the layer before says, each value
# times a weight of its own, adds a bias, and squeezes the sum into (0, 1) with the sigmoid σ.
# Weights and biases together are the "dials" of the video:
# 784·16 + 16·16 + 16·10 weights and 16 + 16 + 10 biases.

# %%
network = mg.models.MLP((784, 16, 16, 10), "sigmoid", generator=lesson.generator())
print(network)
lesson.check("parameters", network.num_parameters(), equals=13_002)

# %% [markdown]
# ## The cost
#
# The wish for a 3 is an output of 1 in place 3 and 0 elsewhere. The cost of one image is the sum
# of the squared differences to that wish; the cost of the network is the mean over images.
#
# One step of gradient descent, by hand: compute the cost of a few images, ask for its gradient
# (which for every one of the 13,002 numbers says how strongly, and in which direction, the cost
# reacts to it), and move every number a little against it.

# %%
cost = mg.nn.SumSquaredError()
x = mg.tensor(digits.x_train[:100].reshape(-1, 784))
y = mg.one_hot(mg.tensor(digits.y_train[:100]), 10)

before = cost(network(x), y)
before.backward()
with mg.no_grad():
    for p in network.parameters():
        p.data = p.data - 0.5 * p.grad
after = cost(network(x), y)
print(f"cost of 100 images before one step {before.item():.3f}, after it {after.item():.3f}")
lesson.check("cost after one step", after, below=before.item())

# %% [markdown]
# ## Rolling downhill
#
# The gradient over all 60,000 images would be exact but slow. Mini-batches of 10 give a cheap
# estimate: a drunk who stumbles downhill quickly instead of a careful man who calculates each
# step. Ten passes over the data (epochs) are 60,000 steps.
#
# The step size: with the cost Σ(a-y)², whose gradient has the factor 2, η = 1.5 is the η = 3 of
# the book that the video recommends, where the cost is half of that.

# %%
ROWS = 784


def rows(x, y):
    """Images as rows of 784 numbers, labels as rows of ten."""
    return x.reshape(-1, ROWS), mg.one_hot(y, 10)


def share_right(outputs, wishes):
    """Share of images whose brightest output is the right one."""
    return mg.train.accuracy(outputs, mg.argmax(wishes, axis=1))


epochs = (2 if lesson.fast else 10) if is_mnist else (10 if lesson.fast else 60)
training = mg.data.batches(
    digits.x_train, digits.y_train, batch_size=10, seed=lesson.seed, transform=rows
)
testing = mg.data.batches(
    digits.x_test, digits.y_test, batch_size=1000, shuffle=False, transform=rows
)
sigmoid_run = mg.train.fit(
    network,
    cost,
    mg.optim.SGD(network.parameters(), lr=1.5),
    training,
    epochs=epochs,
    val=testing,
    metrics={"accuracy": share_right},
)
accuracy = sigmoid_run.epochs[-1]["val_accuracy"]
floor = (0.6 if lesson.fast else 0.91) if is_mnist else (0.5 if lesson.fast else 0.8)
print(f"sigmoid and squared cost: {accuracy:.2%} of the test images are right")
lesson.check("accuracy, sigmoid + squared cost", accuracy, at_least=floor)

# %% [markdown]
# Over seeds 1–5 this gives 93.6–94.2 %. The video says "about 96 %" of this network. On the full
# test set the very weights it shows score 93.6 %; the 96 % belong to the first 300 test images.
# 300 images are few: two numbers from them may differ by one or two points for no reason at all.
# And these 300 are easy ones, although the half that they begin is the harder one: our network gets
# 95.3–97.0 % of them.

# %%
with mg.no_grad():
    outputs = mg.concat([network(x) for x, _ in testing]).numpy()
right = outputs.argmax(axis=1) == digits.y_test
middle = len(right) // 2
print(
    f"right of the first 300: {right[:300].mean():.1%}, of the first half: "
    f"{right[:middle].mean():.1%}, of the second half: {right[middle:].mean():.1%}"
)

# %% [markdown]
# ## What changed since the eighties
#
# The same 16-16 network with ReLU instead of the sigmoid, and a softmax with cross-entropy
# instead of the squared cost: no neuron saturates, and a confident wrong answer is expensive. Over
# seeds 1–5 this gives 95.7–96.2 %.


# %%
def labelled(x, y):
    """Images as rows, labels as they are: cross-entropy takes class numbers."""
    return x.reshape(-1, ROWS), y


def train_modern(sizes):
    """A network with ReLU and softmax, trained with momentum and ever smaller steps."""
    model = mg.models.MLP(sizes, "relu", generator=lesson.generator())
    epochs = lesson.pick(8, 6) if is_mnist else lesson.pick(40, 15)
    optimizer = mg.optim.SGD(model.parameters(), lr=0.03, momentum=0.9)
    batches = mg.data.batches(
        digits.x_train, digits.y_train, batch_size=50, seed=lesson.seed, transform=labelled
    )
    run = mg.train.fit(
        model,
        mg.nn.CrossEntropyLoss(),
        optimizer,
        batches,
        epochs=epochs,
        schedule=mg.optim.CosineAnnealingLR(optimizer, T_max=epochs * len(batches)),
        val=mg.data.batches(
            digits.x_test, digits.y_test, batch_size=1000, shuffle=False, transform=labelled
        ),
        metrics={"accuracy": mg.train.accuracy},
    )
    return model, run.epochs[-1]["val_accuracy"]


modern, accuracy = train_modern((784, 16, 16, 10))
floor = (0.8 if lesson.fast else 0.95) if is_mnist else (0.7 if lesson.fast else 0.85)
print(f"ReLU and softmax: {accuracy:.2%} of the test images are right")
lesson.check("accuracy, ReLU + softmax", accuracy, at_least=floor)

# %% [markdown]
# The tweak that lifts the video's network to 98 % costs nothing but size: one hidden layer of 100
# neurons instead of two of 16. That is six times as many dials:
# 784·100 + 100·10 weights and 100 + 10 biases. Over seeds 1–5: 97.8–97.9 %.

# %%
wide, wide_accuracy = train_modern((784, 100, 10))
lesson.check("parameters of 784-100-10", wide.num_parameters(), equals=79_510)
floor = (0.8 if lesson.fast else 0.97) if is_mnist else (0.7 if lesson.fast else 0.85)
print(f"784-100-10: {wide_accuracy:.2%} of the test images are right")
lesson.check("accuracy, 784-100-10", wide_accuracy, at_least=floor)
if is_mnist:  # on few test images chance decides
    lesson.check("more neurons, fewer errors", wide_accuracy, above=accuracy)

# %% [markdown]
# ## What it learned
#
# The hope of the video was that the first layer finds edges, the second puts them together to
# loops and lines. Look at the weights of the 16 neurons of the first layer, each drawn as the image
# that it multiplies: blue pixels speak for the neuron, red ones against it, on one scale that has
# white at 0. Blobs and bits of strokes at places of their own, but no set of edges: the network
# found another hollow in its 13,002 dimensions, one that works as well.

# %%
weights = network.layers[0].weight.detach()
figure = mg.viz.first_layer(
    weights, (28, 28), title="What the 16 neurons of the first layer look at"
)
lesson.picture(figure, "weights16.png")
tiles = figure.axes[0].images
lesson.check("tiles", len(tiles), equals=16)
symmetric = all(tile.norm.vmin == -tile.norm.vmax for tile in tiles)
lesson.check("colour scale symmetric around 0", symmetric, equals=True)

# %% [markdown]
# And the errors of the 16-16 network with softmax, the most embarrassing first: label → answer,
# with the probability that the network gave to its wrong answer. Some of them nobody would blame
# it for. Others are plain, and it is just as sure: it has no way to say "I do not know".

# %%
with mg.no_grad():
    logits = modern(mg.asarray(digits.x_test.reshape(-1, 784)))
    probabilities = mg.softmax(logits).numpy()
gallery = mg.viz.error_gallery(digits.x_test, digits.y_test, probabilities)
lesson.picture(gallery, "errors.png")
errors = int((probabilities.argmax(axis=1) != digits.y_test).sum())
lesson.check("images in the gallery", len(gallery.axes[0].images), equals=min(25, errors))
lesson.picture(
    mg.viz.cost_curve(
        {"sigmoid, squared cost, batches of 10": sigmoid_run.losses},
        window=500,
        steps_per_epoch=len(training),
        title=f"Rolling downhill on {digits.name}",
    ),
    "cost.png",
)

# %% [markdown]
# ## Try this
#
# 1. Train the sigmoid network with `lr=15` and with `lr=0.015` instead of 1.5. What becomes of the
#    cost?
# 2. How many neurons does it take? Train 784-n-10 with n = 4, 16, 64 and 256, ReLU and softmax.
# 3. Take 300 test images at random, many times. By how much does the accuracy vary? Is the video's
#    96 % on its 300 images surprising, if the network is right on 93.6 % of all?
# 4. Is the accuracy luck? Train with several seeds.
#
# Solutions: `tutorials/solutions/ch02_digits.py`.

# %%
lesson.finish()
