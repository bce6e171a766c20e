# %% [markdown]
# # Chapter 2: does it understand digits, or does it learn them by heart?
#
# Near its end the chapter asks whether such a network grasps something about the images or just
# memorises them, and reports an experiment: give every training image a label at random. Now there
# is nothing to grasp; whoever still gets the training images right has learned them by heart.
# Here is that experiment, and the question that comes after it in the video: how good are the
# valleys at which gradient descent arrives?

# %%
from itertools import combinations

import numpy as np

import microgpt as mg
from microgpt.learn import images, start
from microgpt.viz.style import COLOURS

lesson = start("Chapter 2: true labels against random ones")
everything, is_mnist = images(lesson)
test_count = 2_000 if is_mnist else 360
digits = everything.head(lesson.pick(2_000, 300) if is_mnist else 150, test_count)
print(f"{len(digits.x_train):,} images to learn from, {len(digits.x_test):,} to be tested on")

# %% [markdown]
# ## The labels
#
# Drawn anew from 0 to 9 for every image, once, before the training. One in ten is right by chance.

# %%
true_labels = digits.y_train
random_labels = lesson.generator(1).integers(0, 10, size=len(true_labels))
agree = float((random_labels == true_labels).mean())
luck = 4 * (0.1 * 0.9 / len(true_labels)) ** 0.5  # four standard deviations
lesson.check("random labels that are right anyway", agree, near=0.1, within=luck)

# %% [markdown]
# ## Two trainings
#
# The same network, 784-100-10 with sigmoids, from the same start, with the same images in the same
# order. 79,510 weights and biases face 2,000 images: room enough to give each image a trick of
# its own. After every epoch we look at the cost and accuracy on the images that it is trained on.

# %%
x_train = mg.asarray(digits.x_train.reshape(-1, 784))  # (images, 784)
x_test = mg.asarray(digits.x_test.reshape(-1, 784))
cost = mg.nn.SumSquaredError()


def train(network, labels, epochs, name):
    """Train with batches of 10; cost and accuracy on the training images after every epoch."""
    wishes = mg.one_hot(mg.tensor(labels), 10)
    batches = mg.data.batches(
        digits.x_train.reshape(-1, 784), wishes.numpy(), batch_size=10, seed=lesson.seed
    )
    optimizer = mg.optim.SGD(network.parameters(), lr=1.5)
    costs, accuracies = [], []
    for _ in lesson.progress(range(epochs), name):
        for x, y in batches:
            optimizer.zero_grad()
            cost(network(x), y).backward()
            optimizer.step()
        with mg.no_grad():
            outputs = network(x_train)
            costs.append(cost(outputs, wishes).item())
        accuracies.append(mg.train.accuracy(outputs, labels))
    return np.array(costs), np.array(accuracies)


epochs = lesson.pick(120, 80) if is_mnist else 250
curves, on_test = {}, {}
for name, labels in (("true labels", true_labels), ("random labels", random_labels)):
    network = mg.models.MLP((784, 100, 10), "sigmoid", generator=lesson.generator())
    curves[name] = train(network, labels, epochs, name)
    with mg.no_grad():
        on_test[name] = mg.train.accuracy(network(x_test), digits.y_test)
    for epoch in (1, 6, 20, epochs):
        c, a = (values[epoch - 1] for values in curves[name])
        print(f"{name}, epoch {epoch:>3}: cost {c:.3f}, {a:.1%} of its labels right")
    print(f"{name}: {on_test[name]:.1%} of the test images right\n")

# %% [markdown]
# ## What happens
#
# With true labels the cost falls at once, and most of the way in the first few epochs: one rule
# serves many images. With random labels it first sits at 0.9, the cost of answering 0.1 everywhere,
# which is the best one can do without looking. Then it falls too, slowly and steadily: image after
# image is learned by heart.
#
# A common way to retell the experiment is that the network *cannot* fit random labels. It can, it
# only takes far longer; given time it gets nearly all of them. What it never gets is the test
# images: there it guesses. So a good result on the training images proves nothing, but a *quick*
# one hints at a structure that was found. (Zhang and others, arXiv:1611.03530, for the
# memorising; Arpit and others, arXiv:1706.05394, for the different speeds.)

# %%
with mg.viz.styled() as figure:
    fig = figure(figsize=(10, 4))
    left, right = fig.subplots(1, 2)
    x = np.arange(1, epochs + 1)
    for (name, (costs, accuracies)), colour in zip(curves.items(), COLOURS, strict=False):
        left.plot(x, costs, color=colour, label=name)
        right.plot(x, 100 * accuracies, color=colour, label=f"{name}, training images")
        at_end = 100 * on_test[name]
        right.plot(epochs, at_end, "D", color=colour, label=f"{name}, test images", clip_on=False)
    left.axhline(0.9, color=COLOURS[-1], linewidth=1, linestyle=":")
    left.text(epochs, 0.91, "0.1 for everything", ha="right", va="bottom", fontsize=8)
    left.set(xlabel="epoch", ylabel="cost on the training images", ylim=(0, 1))
    right.axhline(10, color=COLOURS[-1], linewidth=1, linestyle=":")
    right.set(xlabel="epoch", ylabel="right answers [%]", ylim=(0, 103))
    right.legend(loc="center right", bbox_to_anchor=(1, 0.4))
    left.legend(loc="center right")
    for ax in (left, right):
        ax.grid()
    fig.suptitle("Random labels are learned too, only slowly, and by heart")
lesson.picture(fig, "true_vs_random.png")

# %% [markdown]
# Over seeds 1–5, on 2,000 MNIST images: with true labels 95 % are right at epoch 6 and 87–88 % of
# the test images in the end; with random labels 33–37 % at epoch 20, 88–90 % at epoch 120, and
# 8–11 % of the test images.

# %%
right_true, right_random = curves["true labels"][1], curves["random labels"][1]
full = is_mnist and not lesson.fast
early, soon = (6, 0.9) if full else (20, 0.7)
lesson.check(f"true labels, right at epoch {early}", right_true[early - 1], at_least=soon)
lesson.check("random labels, right at epoch 20", right_random[19], at_most=0.45 if full else 0.65)
lesson.check(f"random labels, right at epoch {epochs}", right_random[-1], at_least=0.75)
chance = 0.05 if is_mnist else 0.08
lesson.check("test images after random labels", on_test["random labels"], near=0.1, within=chance)
floor = 0.8 if full else 0.5
lesson.check("test images after true labels", on_test["true labels"], at_least=floor)
plateau = curves["random labels"][0][:3].min()
lesson.check("cost of random labels, at first", plateau, above=0.8)

# %% [markdown]
# ## Many valleys, all about as deep
#
# The cost of 13,002 numbers has many valleys, and where the descent ends depends on where it
# starts. Should we worry about missing the deepest one? Ten networks of 784-16-16-10, each from
# other random numbers and with the images in another order. The steps become smaller and smaller,
# so that each comes to rest in its valley:

# %%
more = everything.head(lesson.pick(12_000, 2_000) if is_mnist else 1_437, test_count)
costs, firsts, answers = [], [], []
for seed in lesson.progress(range(lesson.seed, lesson.seed + 10), "ten networks"):
    network = mg.models.MLP((784, 16, 16, 10), "sigmoid", generator=mg.generator(seed))
    optimizer = mg.optim.SGD(network.parameters(), lr=1.5)
    wishes = mg.one_hot(mg.tensor(more.y_train), 10)
    rows = more.x_train.reshape(-1, 784)
    batches = mg.data.batches(rows, wishes.numpy(), batch_size=10, seed=seed)
    epochs = lesson.pick(4, 3) if is_mnist else lesson.pick(20, 5)
    schedule = mg.optim.CosineAnnealingLR(optimizer, T_max=epochs * len(batches))
    mg.train.fit(
        network, cost, optimizer, batches, epochs=epochs, schedule=schedule, progress=False
    )
    with mg.no_grad():
        costs.append(cost(network(mg.asarray(rows)), wishes).item())
        answers.append(network(x_test).numpy().argmax(axis=1))
    firsts.append(network.layers[0].weight.numpy().ravel())
print("costs:", ", ".join(f"{c:.3f}" for c in costs))
lesson.check("standard deviation / mean of ten costs", np.std(costs) / np.mean(costs), at_most=0.15)

# %% [markdown]
# Ten valleys of nearly one depth: on 12,000 MNIST images the deviation is 3 % of the mean. They are
# not one valley: as vectors the first layers point in directions that have nothing to do with each
# other (cosine near 0). Yet two of the networks give the same answer to most test images.

# %%
pairs = list(combinations(range(10), 2))
directions = np.stack([f / np.linalg.norm(f) for f in firsts])
cosines = np.array([directions[i] @ directions[j] for i, j in pairs])
same = np.array([(answers[i] == answers[j]).mean() for i, j in pairs])
print(f"cosines from {cosines.min():.2f} to {cosines.max():.2f}")
print(f"same answers: {same.min():.1%} to {same.max():.1%} of the test images")
lesson.check("largest cosine of two first layers", np.abs(cosines).max(), below=0.5)
lesson.check("same answers, mean of 45 pairs", same.mean(), at_least=lesson.pick(0.85, 0.6))

# %% [markdown]
# So the video's answer holds here: no need to find the deepest valley, if nearly all in reach are
# about as good. (Choromanska and others, arXiv:1412.0233, give reasons why this should be so
# for large networks.)
#
# ## Try this
#
# 1. Give random labels to half of the images only. How well does the network do on test images, and
#    does it help to stop early?
# 2. Try random labels with fewer neurons: 784-n-10 with n = 5, 20, 80. Which of them still learn by
#    heart?
# 3. Walk in a straight line from one of the valleys to another: θ = (1-t)·θ₁ + t·θ₂ for all weights
#    and biases. What is the cost on the way?
#
# Solutions: `tutorials/solutions/ch02_labels.py`.

# %%
lesson.finish()
