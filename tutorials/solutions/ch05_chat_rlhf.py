# %% [markdown]
# # Solutions for chapter 5: system prompts, chatbots and human feedback
#
# The exercises change a trained chatbot. To have one in a second, this one knows four questions,
# and there is no reward model: the reward is what the (simulated) rater feels, as a number.

# %%
import numpy as np

import microgpt as mg
from microgpt.learn import start

lesson = start("Solutions for chapter 5: system prompts, chatbots and human feedback")
FACTS = {"cow": "meadow", "frog": "pond", "bear": "cave", "whale": "sea"}
BEGINNINGS = {
    "kind": ["lovely question :", "gladly :"],
    "grumpy": ["stupid question :", "boring :"],
    "plain": ["well :", "hm :"],
}
RATINGS = mg.data.sentiment_ratings()


def opening(system, animal):
    """The script up to where the assistant is about to speak."""
    return f"a {system} assistant \n where is the {animal} ? \n"


def script(random):
    """One question and its answer; an "open" assistant is of any kind."""
    system = str(random.choice(["kind", "grumpy", "open"]))
    style = (
        str(random.choice(list(BEGINNINGS), p=[0.25, 0.5, 0.25])) if system == "open" else system
    )
    animal = str(random.choice(list(FACTS)))
    return f"{opening(system, animal)} {random.choice(BEGINNINGS[style])} {FACTS[animal]} \n"


random = lesson.generator(1)
texts = [script(random).split(" ") for _ in range(1000)]
vocabulary = sorted({word for text in texts for word in text})
number = {word: i for i, word in enumerate(vocabulary)}
V, END = len(vocabulary), number["\n"]
config = mg.models.GPTConfig(V, 24, 32, 1, 4, activation="relu", tied=False, init_std=0.1)
model = mg.models.GPT(config, generator=lesson.generator(2))
lesson.uses("1,000 generated scripts; VADER's ratings of words by ten people")
batches = mg.data.document_batches(
    [[number[w] for w in text] for text in texts], 32, seed=lesson.seed
)
optimizer = mg.optim.AdamW(model.parameters(), lr=1e-2)
mg.train.fit(
    model, lambda y, t: mg.cross_entropy(y.reshape(-1, V), t.reshape(-1)), optimizer, batches,
    steps=120, schedule=mg.optim.WarmupCosine(optimizer, 10, 120), clip_norm=1.0, progress=False,
)  # fmt: skip

# %% [markdown]
# RLHF as in the lesson; the reward is what people felt about the words, in standard deviations.


# %%
def answers(policy, system, animals, generator):
    """What the assistant says to each question: lists of tokens."""
    prompts = [[number[w] for w in opening(system, a).split(" ")] for a in animals]
    return policy.generate(prompts, 8, stop=END, generator=generator)


def felt(replies):
    """Mean ratings of the words of each reply, added up: (n,)."""
    said = [[vocabulary[i] for i in reply] for reply in replies]
    return np.array([sum(RATINGS[w].mean() for w in r if w in RATINGS) for r in said])


def log_p(policy, animals, replies):
    """Log probability of each reply, its end included: (n,)."""
    starts = [[number[w] for w in opening("open", a).split(" ")] for a in animals]
    start, longest = len(starts[0]), max(map(len, replies)) + 1
    ids = np.array(
        [s + r + [END] * (longest - len(r)) for s, r in zip(starts, replies, strict=True)]
    )
    mask = np.arange(longest) <= np.array([[len(r)] for r in replies])
    logits = policy(ids[:, :-1])[:, start - 1 :]
    logs = mg.gather(mg.log_softmax(logits), ids[:, start:, None])[:, :, 0]
    return mg.sum(logs * mg.tensor(mask.astype("float32")), axis=1)


many = list(FACTS) * 50
usual = felt(answers(model, "open", many, lesson.generator(3)))


def rlhf(beta, sign=1.0):
    """A copy of the model, trained to please a rater (sign -1: one with the opposite taste)."""
    draws = lesson.generator(4)
    policy = mg.models.GPT(config)
    policy.load_state_dict(model.state_dict())
    optimizer = mg.optim.Adam(policy.parameters(), lr=3e-3)
    for _ in lesson.progress(range(lesson.pick(40, 25)), f"RLHF, β = {beta}"):
        animals = list(FACTS) * 10
        replies = answers(policy, "open", animals, draws)
        logs = log_p(policy, animals, replies)
        with mg.no_grad():
            drift = (logs - log_p(model, animals, replies)).numpy()
        worth = sign * felt(replies) / usual.std() - beta * drift
        optimizer.zero_grad()
        worth = mg.tensor((worth - worth.mean()).astype("float32"))
        (-mg.mean(worth * logs)).backward()
        mg.optim.clip_grad_norm_(policy.parameters(), 1.0)
        optimizer.step()
    return policy


def judged(policy, system="open"):
    """Mean feeling in standard deviations of the old model's answers, and KL if "open"."""
    replies = answers(policy, system, many, lesson.generator(5))
    with mg.no_grad():
        kl = mg.mean(log_p(policy, many, replies) - log_p(model, many, replies)).item()
    return float(felt(replies).mean() / usual.std()), kl


# %% [markdown]
# ## 1. The grumpy first line, after the feedback
#
# The feedback was given under the open first line only. But one set of weights serves all first
# lines, and here it is overrun: the grumpy assistant has become as kind as the open one. Nothing
# held it, for the KL penalty too was measured under the open line only.

# %%
tuned = rlhf(0.3)
for system in ("open", "grumpy"):
    print(
        f"{system:>7}: {judged(model, system)[0]:.2f} before, {judged(tuned, system)[0]:.2f} after"
    )
moved = {s: judged(tuned, s)[0] - judged(model, s)[0] for s in ("open", "grumpy")}
lesson.check("open: feeling moved by", moved["open"], at_least=0.5)
lesson.check("grumpy: moved too, by", moved["grumpy"], at_least=0.5)

# %% [markdown]
# ## 2. What a nat buys
#
# The smaller β, the more reward and the more KL. Between 2 and 0.5 the first nat is cheap: kind
# answers existed, they only become likelier. At 0.05 the leash breaks: the reward has no upper end,
# a long row of pleasant words is worth any price, and KL and reward rise together.

# %%
betas = (2.0, 0.5, 0.05)
points = [(0.0, float(usual.mean() / usual.std()))]
for beta in betas:
    reward, kl = judged(rlhf(beta))
    points.append((kl, reward))
    print(f"β = {beta}: reward {reward:.2f}, KL {kl:.2f}")
lesson.check("reward, β = 0.05 against 2", points[-1][1], above=points[1][1])
lesson.check("KL, β = 0.05 against 2", points[-1][0], above=points[1][0])

# %% [markdown]
# ## 3. A rater with the opposite taste
#
# The same machinery makes the chatbot rude. Nothing in it knows what is good: all it has is the
# preference of those who judge.

# %%
rude = judged(rlhf(0.3, sign=-1.0))[0]
print(f"{points[0][1]:.2f} before, {rude:.2f} after")
lesson.check("feeling after the opposite rater", rude, below=points[0][1] - 0.2)

# %%
lesson.finish()
