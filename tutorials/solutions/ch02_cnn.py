# %% [markdown]
# # Solutions to chapter 2: convolutions
#
# The exercises stand at the end of `tutorials/ch02_cnn.py`.

# %%
import numpy as np

import microgpt as mg
from microgpt.learn import images, start

lesson = start("Solutions to chapter 2: convolutions")
digits, is_mnist = images(lesson)
if not is_mnist:  # with the black margin that MNIST has
    digits = digits.replace_images(
        lambda x: np.pad(mg.data.resize(x, (20, 20)), ((0, 0), (4, 4), (4, 4)))
    )
if is_mnist:
    digits = digits.head(lesson.pick(6_000, 800), lesson.pick(2_000, 300))
elif lesson.fast:
    digits = digits.head(500, 300)
epochs = 3 if is_mnist else lesson.pick(12, 6)


def rows(x):
    """Images as rows of 784 numbers, for a plain network."""
    return x.reshape(-1, 784)


def train(network, x, prepare=lambda x: x, epochs=epochs, lr=0.05):
    """Train on the images x with the labels of the digits."""
    batches = mg.data.batches(
        x, digits.y_train, batch_size=25, seed=lesson.seed, transform=lambda x, y: (prepare(x), y)
    )
    optimizer = mg.optim.SGD(network.parameters(), lr=lr, momentum=0.9)
    mg.train.fit(
        network,
        mg.nn.CrossEntropyLoss(),
        optimizer,
        batches,
        epochs=epochs,
        schedule=mg.optim.CosineAnnealingLR(optimizer, T_max=epochs * len(batches)),
    )
    return network


def right(network, x):
    """Share of the test labels that the network finds in the images x."""
    with mg.no_grad():
        return mg.train.accuracy(network(mg.asarray(x)), digits.y_test)


def moved(x, down, right):
    """Images moved by up to 4 pixels; black comes in from outside, what leaves is lost."""
    padded = np.pad(x, ((0, 0), (4, 4), (4, 4)))
    return padded[:, 4 - down : 32 - down, 4 - right : 32 - right]


def off_centre(network, pixels, prepare=lambda x: x):
    """Accuracy on images moved to the left and to the right, averaged."""
    pair = (moved(digits.x_test, 0, pixels), moved(digits.x_test, 0, -pixels))
    return float(np.mean([right(network, prepare(x)) for x in pair]))


# %% [markdown]
# ## 1. Pixels in another order
#
# The plain network does not notice: its weights just come in another order too. The CNN loses what
# it was built on, that neighbouring pixels belong together. It still learns, since the last
# layer sees all places, but now it is the weaker one.

# %%
order = lesson.generator(1).permutation(784)


def mixed(x):
    """The pixels of all images in one and the same other order."""
    return rows(x)[:, order].reshape(-1, 28, 28)


cnn = train(mg.models.CNN(generator=lesson.generator()), digits.x_train)
mixed_cnn = train(mg.models.CNN(generator=lesson.generator()), mixed(digits.x_train))
plain = train(
    mg.models.MLP((784, 100, 10), "relu", generator=lesson.generator()), digits.x_train, rows
)
mixed_plain = train(
    mg.models.MLP((784, 100, 10), "relu", generator=lesson.generator()),
    mixed(digits.x_train),
    rows,
)
in_order = right(cnn, digits.x_test), right(plain, rows(digits.x_test))
out_of_order = (
    right(mixed_cnn, mixed(digits.x_test)),
    right(mixed_plain, rows(mixed(digits.x_test))),
)
print(f"in order: CNN {in_order[0]:.1%}, MLP {in_order[1]:.1%}")
print(f"mixed up: CNN {out_of_order[0]:.1%}, MLP {out_of_order[1]:.1%}")
losses = [100 * (a - b) for a, b in zip(in_order, out_of_order, strict=True)]
lesson.check("points lost by the MLP", losses[1], near=0, within=lesson.pick(1.5, 4))
lesson.check("points lost by the CNN", losses[0], above=losses[1])

# %% [markdown]
# ## 2. Moved images in training
#
# Every time an image comes up it stands at another place. Now there are examples for all pixels,
# and the plain network learns them one by one. It becomes far more robust, and worse in the
# middle: the same 100 neurons have 81 times as many pictures to cope with.

# %%
jumps = lesson.generator(2)


def jumping(x):
    """Rows of images, each moved by up to 4 pixels in both directions."""
    stack = x.numpy()
    steps = jumps.integers(-4, 5, size=(len(stack), 2)).tolist()
    return rows(mg.asarray(np.concatenate(
        [moved(stack[i : i + 1], *step) for i, step in enumerate(steps)]
    )))  # fmt: skip


robust = train(
    mg.models.MLP((784, 100, 10), "relu", generator=lesson.generator()),
    digits.x_train,
    jumping,
    2 * epochs,
)
for name, network in (("trained in the middle", plain), ("trained on moved images", robust)):
    shares = [off_centre(network, k, rows) for k in (0, 2, 4)]
    print(f"MLP {name}: " + ", ".join(f"{s:.1%}" for s in shares) + " at 0, 2, 4 pixels")
gain = off_centre(robust, 4, rows) - off_centre(plain, 4, rows)
lesson.check("gain at 4 px by training on moved, points", 100 * gain, at_least=15)
price = off_centre(plain, 0, rows) - off_centre(robust, 0, rows)
lesson.check("price in the middle, points", 100 * price, above=0)


# %% [markdown]
# ## 3. Only what there is, not where
#
# The mean over the places forgets them, so it does not matter where the digit stands: 4 pixels are
# one place of the 7·7, and as long as no stroke leaves the image the mean stays what it was. But 6
# and 9 are made of the same strokes at different places, and with two layers that look through
# windows of 3·3 there is little else to tell them apart by: in the middle this network is much the
# worse.


# %%
class WhatNotWhere(mg.nn.Module):
    """A CNN whose last layer sees the mean of each picture."""

    def __init__(self, generator):
        super().__init__()
        self.conv1 = mg.nn.Conv2d(1, 8, 3, padding=1, generator=generator)
        self.conv2 = mg.nn.Conv2d(8, 16, 3, padding=1, generator=generator)
        self.head = mg.nn.Linear(16, 10, generator=generator)

    def forward(self, x):
        """Images (n, 28, 28) to logits (n, 10)."""
        x = mg.relu(mg.max_pool2d(self.conv1(x.reshape(-1, 1, 28, 28)), 2))
        x = mg.relu(mg.max_pool2d(self.conv2(x), 2))  # (n, 16, 7, 7)
        return self.head(mg.mean(x, axis=(2, 3)))


what = train(WhatNotWhere(lesson.generator()), digits.x_train, epochs=2 * epochs, lr=0.1)
cnn_at, what_at = [[off_centre(n, k) for k in (0, 4)] for n in (cnn, what)]
print(f"CNN:                {cnn_at[0]:.1%} in the middle, {cnn_at[1]:.1%} at 4 pixels")
print(f"means of 16 images: {what_at[0]:.1%} in the middle, {what_at[1]:.1%} at 4 pixels")
lost = [100 * (at[0] - at[1]) for at in (cnn_at, what_at)]
lesson.check("points lost at 4 px with means", lost[1], below=lost[0] / 2)
lesson.check("and what it costs in the middle", what_at[0], below=cnn_at[0])

# %%
lesson.finish()
