"""The compressor behind the teacher."""

from collections.abc import Callable

import numpy as np
import torch

from exfm.data.source import Source
from exfm.distill.config import TeacherOptions
from exfm.distill.learners import TeacherLearner
from exfm.models.compressor import Compressor, prefixes_of
from exfm.models.teacher import Teacher


def test_no_gradient_reaches_the_activations_and_every_part_of_it_learns() -> None:
    compressor = Compressor(20, 8)
    activations = torch.randn(6, 20, requires_grad=True)
    torch.autograd.backward(compressor.loss(activations))
    assert activations.grad is None
    assert all(each.grad is not None and each.grad.abs().sum() > 0 for each in compressor.parameters())


def test_embeddings_lie_between_minus_one_and_one() -> None:
    made = Compressor(20, 8)(torch.randn(50, 20) * 100)
    assert made.shape == (50, 8)
    assert made.abs().max() <= 1


def test_prefixes() -> None:
    assert prefixes_of(32) == (8, 16, 32)
    assert prefixes_of(8) == (4, 8)
    assert prefixes_of(6) == (6,)
    assert prefixes_of(3) == (3,)


def test_learning_makes_any_prefix_tell_the_activations_better() -> None:
    torch.manual_seed(0)
    compressor, hidden = Compressor(24, 8), torch.randn(400, 3) @ torch.randn(3, 24)
    optimizer = torch.optim.Adam(compressor.parameters(), lr=1e-2)
    for _ in range(300):
        optimizer.zero_grad()
        torch.autograd.backward(compressor.loss(hidden))
        optimizer.step()
    with torch.no_grad():
        embedding = compressor(hidden)
        for prefix, decoder in zip(compressor.prefixes, compressor.decoders, strict=True):
            left = torch.mean((decoder(embedding[:, :prefix]) - hidden) ** 2) / hidden.var()
            assert left < 0.3, prefix


def test_the_teacher_learns_the_same_with_and_without(tiny: Callable[..., Source]) -> None:
    source, draw = tiny(300), np.random.default_rng(0)
    rows = draw.integers(0, source.schema.rows, (300, len(source.schema.ordered)))
    past = draw.normal(size=(300, 5)).astype(np.float32)
    labels = np.stack([source.examples.labels[task] for task in ("click", "buy")], 1)
    states = []
    for embedding in (0, 8):
        options = TeacherOptions(model={"embedding": embedding, "dimension": 4})
        learner = TeacherLearner(source.schema, ("click", "buy"), 5, options, seed=1, batch=64)
        before = learner.state().get("compressor.encoder.0.weight")
        # Its own first weights are drawn last; what follows must be drawn alike.
        torch.manual_seed(7)
        learner.learn(rows, past, labels)
        states.append(learner.state())
        if before is not None:
            assert not torch.equal(states[-1]["compressor.encoder.0.weight"], before)
    for name, value in states[0].items():
        torch.testing.assert_close(states[1][name], value, msg=name)


def test_a_teacher_predicts_what_its_parts_do(tiny: Callable[..., Source]) -> None:
    source = tiny(10)
    teacher = Teacher(source.schema, ("click", "buy"), 3, embedding=8).eval()
    rows, past = torch.randint(0, 40, (7, len(source.schema.ordered))), torch.randn(7, 3)
    torch.testing.assert_close(teacher(rows, past), teacher.predict(*teacher.represent(rows, past)))
    assert float(Teacher(source.schema, ("click",), 3).compression_loss(torch.randn(2, 3))) == 0.0
