# %% [markdown]
# # Chapter 5, voice to text and back: solutions

# %%
import numpy as np

import microgpt as mg
from microgpt.errors import DataError, MissingExtraError
from microgpt.learn import start

lesson = start("Chapter 5: voice to text, and back: solutions")


def listen(x, lengths, labels, learnt, tested, steps, label):
    """Train an LSTM on some sequences; returns its accuracy on others."""
    model = mg.models.LSTMClassifier(
        x.shape[2], int(labels.max()) + 1, 48, generator=lesson.generator()
    )
    optimizer = mg.optim.AdamW(model.parameters(), lr=6e-3, weight_decay=0.0)
    schedule = mg.optim.WarmupCosine(optimizer, warmup=steps // 10, total=steps)
    drawn = lesson.generator(1)
    for _ in lesson.progress(range(steps), label):
        rows = drawn.choice(learnt, 32)
        logits = model(mg.tensor(x[rows, : lengths[rows].max()]), lengths[rows])
        loss = mg.cross_entropy(logits, mg.tensor(labels[rows]))
        optimizer.zero_grad()
        loss.backward()
        mg.optim.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    with mg.no_grad():
        return mg.train.accuracy(model(mg.tensor(x[tested]), lengths[tested]), labels[tested])


# %% [markdown]
# ## 1. Who speaks?
#
# All nine men say the same, so what is said is no help; the voice is. Each frame has 12 cepstral
# coefficients, which describe the shape of the spectrum, and so of the mouth.

# %%
vowels = mg.data.japanese_vowels()
lesson.uses(f"{vowels}")
scale = np.concatenate(vowels.x_train).std(axis=0)
x, lengths = mg.data.pad([frames / scale for frames in (*vowels.x_train, *vowels.x_test)])
labels = np.concatenate([vowels.y_train, vowels.y_test])
learnt, tested = np.arange(270), np.arange(270, 640)
steps = lesson.pick(300, 80)
accuracy = listen(x, lengths, labels, learnt, tested, steps, "who speaks")
print(f"{accuracy:.1%} of 370 utterances are given to the right man; guessing would be 11%")
lesson.check("who speaks, LSTM", accuracy, at_least=lesson.pick(0.85, 0.6))

# %% [markdown]
# Before one is proud of a network, one should try something simple. Mean and deviation of each
# coefficient, 24 numbers an utterance, and a straight line through them, fitted by least squares:

# %%
each = [frames[:length] for frames, length in zip(x, lengths, strict=True)]
means = np.array([[*frames.mean(axis=0), *frames.std(axis=0), 1.0] for frames in each])
line, *_ = np.linalg.lstsq(means[learnt], np.eye(9)[labels[learnt]], rcond=None)
linear = np.mean((means[tested] @ line).argmax(axis=1) == labels[tested])
print(f"a linear classifier: {linear:.1%}. With 270 utterances to learn from, simple is better")
lesson.check("who speaks, linear", linear, at_least=0.97)

# %% [markdown]
# ## 2. Does it need the order?
#
# The frames of each utterance are put in a random order, in training and in the test. To tell
# voices apart, the order is hardly needed: the mouth has the same size in every frame.

# %%
mixed = x.copy()
shuffle = lesson.generator(2)
for row, length in zip(mixed, lengths, strict=True):
    row[:length] = row[shuffle.permutation(length)]
shuffled = listen(mixed, lengths, labels, learnt, tested, steps, "shuffled")
print(f"with shuffled frames {shuffled:.1%}")
lesson.check("who speaks, shuffled - in order", shuffled - accuracy, at_least=-0.15)

# %% [markdown]
# To tell *words* apart it is needed more: "five" and "nine", say, have the same vowel. See what is
# left of the digits if their frames are shuffled.
#
# ## 3. A voice that was never heard
#
# The official test has the same six people as the training. If the test is one person, and the
# training the other five, the LSTM has to know what a three is, and not what George's three is.

# %%
named = lesson.data or mg.config.get("data")
try:
    spoken = mg.data.spoken_digits(lesson.data)
    lesson.uses(f"{spoken}")
except (DataError, MissingExtraError) as error:
    if named:
        raise
    print(f"without the spoken digits there is nothing more to do:\n{error}")
    spoken = None

if spoken is not None:
    every = lesson.pick(1, 4)
    sounds = [
        (mg.data.log_mel(s, 8000, n_mels=24, window=0.04, hop=0.02, floor=1e-4) + 2) / 3
        for s in spoken.samples[::every]
    ]
    x, lengths = mg.data.pad(sounds, length=50)
    labels, speakers, is_test = (a[::every] for a in (spoken.labels, spoken.speakers, spoken.test))
    steps = lesson.pick(300, 70)
    learnt, tested = np.flatnonzero(~is_test), np.flatnonzero(is_test)
    known = listen(x, lengths, labels, learnt, tested, steps, "known voices")
    mixed = x.copy()
    for row, length in zip(mixed, lengths, strict=True):
        row[:length] = row[shuffle.permutation(length)]
    shuffled = listen(mixed, lengths, labels, learnt, tested, steps, "shuffled digits")
    new = []
    for who in range(lesson.pick(6, 1)):
        others, one = np.flatnonzero(speakers != who), np.flatnonzero(speakers == who)
        new.append(listen(x, lengths, labels, others, one, steps, spoken.speaker_names[who]))
        print(f"trained without {spoken.speaker_names[who]}, tested on {new[-1]:.1%}")
    print(f"known voices {known:.1%}, shuffled {shuffled:.1%}, new voices {np.mean(new):.1%}")
    lesson.check("known voices - new voices", known - np.mean(new), above=lesson.pick(0.0, -0.1))
    lesson.check("digits in order - shuffled", known - shuffled, above=lesson.pick(0.0, -0.2))

# %%
lesson.finish()
