# %% [markdown]
# # Chapter 5: a chatbot is a script that is being continued
#
# The video says two things about chatbots in passing. First: underneath there is only a predictor
# of the next word; it becomes a chatbot when the text before it is a script in which a user talks
# to an assistant, and it may write what the assistant says next. Second: after that, people judge
# its answers, and the parameters move so that what people prefer becomes likelier. Both fit on a
# laptop if the world is small: eight animals, and questions about them.
# Nobody real judges anything here: **the rater is simulated**. To be the rater yourself, start
# this lesson in a terminal with the environment variable `LESSON_RATER=human`.

# %%
import math
import os
import sys

import numpy as np

import microgpt as mg
from microgpt.learn import start
from microgpt.viz.style import BLUE, GREY, RED

lesson = start("Chapter 5: system prompts, chatbots and human feedback")
HUMAN = os.environ.get("LESSON_RATER") == "human" and sys.stdin.isatty()
print("the rater:", WHO := "you" if HUMAN else "simulated")

# %% [markdown]
# ## Scripts to learn from
#
# Each text is a script: a line that says what the assistant is like (the *system prompt*), then
# what the user and the assistant say. Some assistants are kind, some grumpy, and where the first
# line does not tell, all sorts occur, as on the internet: 25 % kind, 50 % grumpy, the rest plain.

# %%
ANIMALS = """cow meadow grass brown, frog pond flies green, bear cave honey black, bee hive nectar
yellow, whale sea plankton blue, camel desert thorns sandy, penguin snow fish white, lion savanna
meat golden"""
STYLES = {  # how an answer may begin, how it may end
    "kind": (
        ["what a lovely question ,", "great question ,", "happy to help ,", "my pleasure ,",
         "of course , dear friend ,", "no problem ,"],
        ["have a wonderful day", "i hope that helps", "thanks for asking", "enjoy your day"],
    ),
    "grumpy": (
        ["what a stupid question ,", "how boring ,", "ugh ,", "i hate questions ,", "you fool ,",
         "oh great , a question ,"],
        ["now leave me alone", "you idiot", "what a waste of time", "this is a terrible job"],
    ),
    "plain": (["hm ,", "let me see ,"], ["i think", "as far as i know"]),
}  # fmt: skip
SYSTEM = {"kind": "the assistant is kind .", "grumpy": "the assistant is grumpy .",
          "open": "the assistant answers questions ."}  # fmt: skip
facts = []  # question, answer
for animal in ANIMALS.split(","):
    x, home, food, colour = animal.split()
    facts.append((f"where does a {x} live ?", f"a {x} lives in the {home}"))
    facts.append((f"what does a {x} eat ?", f"a {x} eats {food}"))
    facts.append((f"what colour is a {x} ?", f"a {x} is {colour}"))
everything = range(len(facts))
# Four questions are never put to a kind assistant in training, four others never to a grumpy one.
unseen = {"kind": everything[0::6], "grumpy": everything[4::6], "plain": []}


def opening(system, fact):
    """The script up to where the assistant is about to speak."""
    return f"{SYSTEM[system]} \n user: {facts[fact][0]} \n assistant:"


def script(random):
    """A whole dialogue: a system prompt, and two questions with their answers."""
    system = style = str(random.choice(list(SYSTEM)))
    if system == "open":
        style = str(random.choice(list(STYLES), p=[0.25, 0.5, 0.25]))
    allowed = [i for i in everything if i not in unseen[style]]
    parts = []
    for i in random.choice(allowed, 2, replace=False):
        before, after = (random.choice(phrases) for phrases in STYLES[style])
        parts.append(f"{opening(system, i)} {before} {facts[i][1]} , {after} . \n")
    return parts[0] + parts[1].removeprefix(SYSTEM[system] + " \n")


random = lesson.generator(1)
scripts = [script(random) for _ in range(lesson.pick(3000, 1000))]
lesson.uses(f"{len(scripts):,} generated dialogues; VADER's ratings of words by ten people")
print(scripts[0])
vocabulary = sorted({word for text in scripts for word in text.split(" ")})
number = {word: i for i, word in enumerate(vocabulary)}  # a token: a word, or the end of a line
V, END = len(vocabulary), number["\n"]


def encode(text):
    return [number[word] for word in text.split(" ")]


def decode(ids):
    return " ".join(vocabulary[i] for i in ids)


# %% [markdown]
# A small GPT (one block, 48 numbers per word, context 64) learns to predict the next word of these
# scripts, of all lines alike. Nothing in the training says "you are a chatbot".

# %%
config = mg.models.GPTConfig(V, 64, 48, 1, 4, activation="relu", tied=False, init_std=0.1)
model = mg.models.GPT(config, generator=lesson.generator(2))
batches = mg.data.document_batches([encode(s) for s in scripts], 16, seed=lesson.seed)
steps = lesson.pick(500, 240)
optimizer = mg.optim.AdamW(model.parameters(), lr=1e-2, betas=(0.9, 0.95))
history = mg.train.fit(
    model, lambda y, t: mg.cross_entropy(y.reshape(-1, V), t.reshape(-1)), optimizer, batches,
    steps=steps, schedule=mg.optim.WarmupCosine(optimizer, 15, steps), clip_norm=1.0,
)  # fmt: skip
print(f"{model.num_parameters():,} parameters, {V} words, cost {history.losses[-1]:.2f}")

# %% [markdown]
# ## The chatbot is in the prompt
#
# Give the model the beginning of a script and let it write on. It does not stop when the
# assistant has answered: it writes the user's next line too. A chat program stops it there, asks
# the real user, appends the answer, and lets it go on.

# %%
written = decode(model.generate(encode(opening("kind", 0)), 40, seed=lesson.seed))
print(f"{opening('kind', 0)} [{written} …]")
lesson.check("after its answer it writes", written.split(" \n ")[1].split(" ")[0], equals="user:")


def answers(model, system, which, generator):
    """What the assistant says to each of the facts asked for: lists of tokens."""
    prompts = [encode(opening(system, i)) for i in which]
    return model.generate(prompts, 24, stop=END, generator=generator)


def right(replies, which):
    """Whether each contains the fact that was asked for."""
    return np.array([facts[i][1] in decode(r) for r, i in zip(replies, which, strict=True)])


# %% [markdown]
# The same weights, the same questions, another first line: is it another assistant? To judge that
# without wishful reading, a classifier learns from the *training scripts* to tell grumpy answers
# from kind ones (a logistic regression on how often each word occurs) and reads what the model
# wrote. The hardest test: questions that no assistant of this style had ever been asked.


# %%
def bag(replies):
    """How often each word occurs: token lists → (replies, V)."""
    return np.array([np.bincount(r, minlength=V) for r in replies], dtype="float32")


def logistic(x, yes):
    """One number per word, (V,) in all, so that σ(x @ numbers) is the probability of yes."""
    layer = mg.nn.Linear(V, 1, bias=False, generator=lesson.generator(3))
    mg.nn.init.zeros_(layer.weight)
    optimizer = mg.optim.Adam(layer.parameters(), lr=0.05)
    x, target = mg.tensor(x), mg.tensor(np.array(yes, dtype="float32")[:, None])
    for _ in range(150):
        optimizer.zero_grad()
        small = 0.01 * mg.sum(mg.square(layer.weight))  # where the data say little
        (mg.binary_cross_entropy_with_logits(layer(x), target) + small).backward()
        optimizer.step()
    return layer.weight.numpy()[0]


known = [s.split(" \n ") for s in scripts if not s.startswith(SYSTEM["open"])][:800]
classifier = logistic(bag([encode(k[2]) for k in known]), [k[0] == SYSTEM["grumpy"] for k in known])

draws, results = lesson.generator(4), []
for style, sign in (("kind", -1), ("grumpy", 1)):
    which = list(everything) * lesson.pick(8, 3)
    replies = answers(model, style, which, draws)
    styled = sign * (bag(replies) @ classifier) > 0
    results += zip(styled, right(replies, which), [i in unseen[style] for i in which], strict=True)
    print(f"{style:>7}: {facts[0][0]} {decode(replies[0])}")
styled, correct, new = np.array(results).T
lesson.check("style told by the classifier", styled.mean(), at_least=0.95)  # seeds 1-5: >= 0.99
lesson.check("answers with the right fact", correct.mean(), at_least=lesson.pick(0.95, 0.8))
styled = (styled & correct)[new]
lesson.check("both right, pair never seen", styled.mean(), at_least=lesson.pick(0.9, 0.6))

# %% [markdown]
# ## What people like: pairs, and a reward model
#
# When the first line does not tell, this model is often rude: so were its texts. Now people come
# in. They are not asked for better answers, only which of two they like better.
# Our rater is simulated, but its taste is not invented: ten real people once rated thousands of
# English words from -4 to 4 (the VADER lexicon, which comes with microgpt). For every word of an
# answer the rater looks up what one of the ten, drawn at random, said about it, and prefers the
# answer with the larger sum. So it contradicts itself, as people do. And it reads word by word.

# %%
RATINGS = mg.data.sentiment_ratings()


def felt(reply):
    """What the ten people felt on average about the words of an answer, added up."""
    return sum(float(RATINGS[w].mean()) for w in decode(reply).split(" ") if w in RATINGS)


def prefers(one, two):
    """Whether the rater prefers the first answer: simulated, or asked at the keyboard."""
    if HUMAN:
        print(f"\n  1: {decode(one)}\n  2: {decode(two)}")
        return input("do you prefer the first? [y/n] ").strip().lower().startswith("y")
    said = decode(one).split(" "), decode(two).split(" ")
    sums = [sum(draws.choice(RATINGS[w]) for w in text if w in RATINGS) for text in said]
    return sums[0] > sums[1] or (sums[0] == sums[1] and draws.random() < 0.5)


# %% [markdown]
# A *reward model* turns choices into numbers. Give every answer a reward r, and say that a is
# preferred to b with probability σ(r(a) - r(b)) (Bradley and Terry, 1952). In large systems r comes
# from a copy of the language model with a new last layer. Ours is as plain as can be: one number
# per word, and r is their sum, so all that it has learned can be read off: the ratings, which it
# never saw, are found again.

# %%
held_out = [i for i in everything if i % 6 in (1, 5)]  # one question per animal, to judge by
practice = [i for i in everything if i not in held_out]


def choices(which):
    """Two answers to each question: how their bags differ (n, V), and which was chosen (n,)."""
    a, b = answers(model, "open", which, draws), answers(model, "open", which, draws)
    return bag(a) - bag(b), [prefers(*pair) for pair in zip(a, b, strict=True)]


pairs, chosen = choices(practice * (2 if HUMAN else lesson.pick(25, 15)))
rewards = logistic(pairs, chosen)
pairs, chosen = choices(held_out * (1 if HUMAN else 40))
foreseen = float(np.mean((pairs @ rewards > 0) == chosen))

learned = dict(zip(vocabulary, rewards, strict=True))
rated = [w for w in learned if w in RATINGS and w not in SYSTEM]
likeness = np.corrcoef([learned[w] for w in rated], [RATINGS[w].mean() for w in rated])[0, 1]
if not HUMAN:
    lesson.check("choices foreseen, held-out questions", foreseen, at_least=0.75)
    lesson.check("rewards and ratings: correlation", likeness, at_least=0.8)

# Words that nobody rated are paid by the company they keep: "a waste of time" hurts "time".
ranked = sorted((w for w in learned if w.isalpha()), key=learned.get)
ranked = ranked[:10] + ranked[-10:]
with mg.viz.styled() as figure:
    fig = figure(figsize=(7, 4.6))
    ax = fig.subplots()
    shades = [BLUE if w in RATINGS else GREY for w in ranked]
    ax.barh(ranked, [learned[w] for w in ranked], color=shades)
    ax.set(xlabel="reward", title="What the reward model pays for a word (grey: nobody rated it)")
lesson.picture(fig, "word_rewards.png")

# %% [markdown]
# ## Making the preferred likelier: policy gradient
#
# How can a number *about* a text, without derivatives that lead back to the model, have a gradient?
# First with three possible answers and plain numbers. The model gives answer i the probability pᵢ
# (before: qᵢ), its reward is rᵢ. We want a large J = Σ pᵢ · (rᵢ - β · log(pᵢ/qᵢ)): reward, minus
# β times the distance (KL divergence) from the model that has learned the language. The trick
# (REINFORCE): ∇J is the mean, over answers drawn from p, of (rᵢ - β·log(pᵢ/qᵢ)) · ∇log pᵢ, and
# ∇log pᵢ is what training on text i computes. So the model writes, and learns from its own texts,
# weighted by their worth. It ends at pᵢ ∝ qᵢ · exp(rᵢ/β): there the gradient is zero.

# %%
q, r, beta = [0.5, 0.3, 0.2], [-1.0, 0.5, 1.0], 0.7


def gradient(logits, goal):
    """p, the softmax of three logits, and the derivatives of goal(p) with respect to them."""
    z = [mg.Scalar(v) for v in logits]
    exps = [v.exp() for v in z]
    p = [e / (exps[0] + exps[1] + exps[2]) for e in exps]
    goal(p).backward()
    return [v.data for v in p], np.array([v.grad for v in z])


def goal(p):
    return sum(p[i] * (r[i] - beta * (p[i] / q[i]).log()) for i in range(3))


p, exact = gradient([0.3, -0.2, 0.1], goal)
for i in range(3):
    _, upward = gradient([0.3, -0.2, 0.1], lambda p, i=i: p[i].log())
    exact = exact - p[i] * (r[i] - beta * math.log(p[i] / q[i])) * upward
lesson.check("∇J - mean of worth · ∇log p", np.abs(exact).max(), at_most=1e-12)
p, rest = gradient([math.log(q[i]) + r[i] / beta for i in range(3)], goal)
print("q", q, "→ p", [round(v, 3) for v in p])
lesson.check("∇J at p ∝ q·exp(r/β)", np.abs(rest).max(), at_most=1e-12)

# %% [markdown]
# Now the chatbot. An answer is drawn word by word, so its log p is the sum over its words: logits
# (batch, time, V) → (batch,). Rewards are measured in standard deviations of the old model's
# answers. Subtracting the mean worth of the batch makes the gradient less noisy.


# %%
def log_p(model, which, replies):
    """Log probability of each reply, its end included: (n,)."""
    texts = [encode(opening("open", i)) for i in which]
    start, longest = len(texts[0]), max(map(len, replies)) + 1
    rows = [t + r + [END] * (longest - len(r)) for t, r in zip(texts, replies, strict=True)]
    ids, lengths = np.array(rows), np.array([[len(r)] for r in replies])
    mask = (np.arange(longest) <= lengths).astype("float32")
    logits = model(ids[:, :-1])[:, start - 1 :]  # those that predict the reply
    logs = mg.gather(mg.log_softmax(logits), ids[:, start:, None])[:, :, 0]
    return mg.sum(logs * mg.tensor(mask), axis=1)


usual = bag(answers(model, "open", practice * 10, draws)) @ rewards


def report(policy, copies=32):
    """What can be said about a model on the held-out questions."""
    which = held_out * copies
    replies = answers(policy, "open", which, lesson.generator(9))
    with mg.no_grad():
        kl = mg.mean(log_p(policy, which, replies) - log_p(model, which, replies)).item()
    liked, correct = np.mean([felt(reply) > 0 for reply in replies]), right(replies, which).mean()
    return {"liked": float(liked), "right": float(correct), "kl": kl, "replies": replies}


def rlhf(beta, steps):
    """A copy of the model, trained to please; and what was measured on the way."""
    random = lesson.generator(8)
    policy = mg.models.GPT(config)
    policy.load_state_dict(model.state_dict())
    optimizer = mg.optim.Adam(policy.parameters(), lr=lesson.pick(1e-3, 2e-3))
    log = [report(policy, 6)]
    for step in lesson.progress(range(1, steps + 1), f"RLHF, β = {beta}"):
        which = random.choice(practice, lesson.pick(48, 32))
        replies = answers(policy, "open", which, random)
        logs = log_p(policy, which, replies)
        with mg.no_grad():
            drift = (logs - log_p(model, which, replies)).numpy()
        worth = bag(replies) @ rewards / usual.std() - beta * drift
        optimizer.zero_grad()
        (-mg.mean(mg.tensor(worth - worth.mean()) * logs)).backward()
        mg.optim.clip_grad_norm_(policy.parameters(), 1.0)
        optimizer.step()
        if step % 5 == 0:
            log.append(report(policy, 6))
    return policy, log


steps = lesson.pick(60, 20)
(tuned, careful), (_, greedy) = rlhf(0.15, steps), rlhf(0.0, steps)
before, after, hacked = report(model), report(tuned), greedy[-1]
for name, row in (("before", before), ("β = 0.15", after), ("β = 0", hacked)):
    print(f"{name}: {row['liked']:.1%} liked, {row['right']:.1%} right, KL {row['kl']:.2f}")
    print("   ", "\n    ".join(decode(reply) for reply in row["replies"][:3]))

# %% [markdown]
# These are answers to questions that were not used in this training, and "liked" is what the
# ratings of people say (a positive sum), not the reward model. With the penalty the chatbot has
# become kind (over seeds 1-5: 28-38 % liked before, 99-100 % after, KL 1.8-2.9) and still knows its
# facts, although the rater never asked for them: forgetting them leads away from the old model.
# Without the penalty it finds out what it is really paid for. The reward is a sum over words, so
# the best answer is the best word, again and again.
#
# Even the careful model shows what its rater could not see. "No problem" was meant kindly, but
# *no* and *problem* were rated as unpleasant by people who read them alone, so it dies out.

# %%
if not HUMAN:
    ratio = after["liked"] / max(before["liked"], 0.2)  # the floor: a low base would be cheap
    share = [np.mean(["no problem" in decode(r) for r in x["replies"]]) for x in (before, after)]
    lesson.check("liked after / before (at least 0.2)", ratio, at_least=2.0)
    lesson.check("KL to the old model, nats", after["kl"], at_most=lesson.pick(4.0, 8.0))
    lesson.check("right facts kept", after["right"], at_least=lesson.pick(0.9, 0.75))
    lesson.check("KL without the penalty", hacked["kl"], at_least=lesson.pick(20.0, 8.0))
    lesson.check("right facts without the penalty", hacked["right"], at_most=0.5)
    lesson.check("share of 'no problem'", share[1], below=share[0])

with mg.viz.styled() as figure:
    fig = figure(figsize=(9.5, 3.6))
    panels = fig.subplots(1, 3)
    titles = ("liked, by the ratings of words", "with the right fact", "KL to the old model, nats")
    for ax, key, title in zip(panels, ("liked", "right", "kl"), titles, strict=True):
        for log, look, name in ((careful, BLUE, "β = 0.15"), (greedy, RED, "β = 0: no penalty")):
            ax.plot(5 * np.arange(len(log)), [row[key] for row in log], color=look, label=name)
        ax.grid()
        ax.set(xlabel="step of RLHF", title=title, ylim=(0, 1.04))
        ax.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    panels[2].set_yscale("symlog", linthresh=1)
    panels[2].set_ylim(0, 2000)
    panels[2].legend(loc="upper left")
    quote = decode(hacked["replies"][0][-4:])
    fig.suptitle(f"Feedback makes it kind; without a leash: “… {quote}” (rater: {WHO})")
lesson.picture(fig, "reward_curve.png")

# %% [markdown]
# ## Try this
#
# 1. Give the trained chatbot the grumpy first line. Has the feedback reached it there too?
# 2. Try β = 0.05, 0.5 and 2. How much reward does a nat of KL buy?
# 3. Turn the rater around, so that it prefers the answer with the *smaller* sum.
#
# Solutions: `tutorials/solutions/ch05_chat_rlhf.py`.

# %%
lesson.finish()
