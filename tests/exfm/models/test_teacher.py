import torch

from exfm.features.schema import Schema
from exfm.models.teacher import Standardizer, Teacher


def test_standardizer_passes_values_until_it_has_seen_some() -> None:
    values = torch.tensor([[0.5, -2.0]])
    torch.testing.assert_close(Standardizer(2)(values), values, rtol=2e-3, atol=0)


def test_standardizer_in_parts_equals_all_at_once() -> None:
    values = torch.randn(500, 3) * torch.tensor([1.0, 20.0, 0.1]) + 7
    parts, whole = Standardizer(3), Standardizer(3)
    for start, stop in ((0, 1), (1, 100), (100, 250), (250, 500)):
        parts.update(values[start:stop])
    whole.update(values)
    torch.testing.assert_close(parts.mean, whole.mean)
    torch.testing.assert_close(parts.variance, whole.variance)
    torch.testing.assert_close(whole.variance, values.double().var(0, correction=0))


def test_standardizer_clips() -> None:
    standardizer = Standardizer(1)
    standardizer.update(torch.randn(100, 1))
    assert standardizer(torch.tensor([[1e6], [-1e6]])).tolist() == [[4.0], [-4.0]]


def test_teacher_has_one_logit_per_task_and_starts_at_the_base_rate(schema: Schema) -> None:
    teacher = Teacher(schema, ("a", "b", "c"), 5, layers=1, hidden=8).eval()
    rate = torch.tensor([0.5, 0.2, 0.01])
    teacher.start_at(rate)
    made = teacher(torch.randint(0, schema.rows, (4, 6)), torch.zeros(4, 5))
    assert made.shape == (4, 3)
    assert ((made - torch.logit(rate)).abs() < 1.5).all()


def test_teacher_reads_features_and_counters(schema: Schema) -> None:
    teacher = Teacher(schema, ("a",), 5, layers=1, hidden=8).eval()
    rows, past = torch.randint(0, schema.rows, (1, 6)), torch.randn(1, 5)
    base = teacher(rows, past)
    assert not torch.equal(base, teacher(rows, past + 1))
    assert not torch.equal(base, teacher((rows + 1) % schema.rows, past))
