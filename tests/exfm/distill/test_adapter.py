import math

import torch

from exfm.distill.adapter import StudentAdapter
from exfm.distill.auxiliary import AuxiliaryHead


def test_an_untrained_adapter_repeats_the_teacher() -> None:
    teacher = torch.rand(20, 2) * 0.9 + 0.05
    torch.testing.assert_close(StudentAdapter(2).target(teacher), teacher)


def test_it_learns_the_freshest_level() -> None:
    adapter, teacher = StudentAdapter(1), torch.full((2000, 1), 0.5)
    labels = (torch.rand(2000, 1) < 0.2).float()
    for _ in range(300):
        adapter.learn(teacher, labels)
    assert abs(float(adapter.target(teacher[:1])) - float(labels.mean())) < 0.02


def test_learning_sends_no_gradient_to_the_teacher() -> None:
    teacher = torch.rand(8, 1, requires_grad=True)
    StudentAdapter(1).learn(teacher, torch.ones(8, 1))
    assert teacher.grad is None


def test_the_students_loss_sends_no_gradient_to_the_adapter() -> None:
    adapter, hidden = StudentAdapter(1), torch.randn(8, 4, requires_grad=True)
    teacher = torch.rand(8, 1)
    target = adapter.target(teacher)
    assert not target.requires_grad
    torch.autograd.backward(AuxiliaryHead(4, 1).loss(hidden, teacher, target, weight=1.0, adapter_weight=1.0))
    assert all(parameter.grad is None for parameter in adapter.parameters())
    assert hidden.grad is not None


def test_missing_annotations_and_labels_are_left_out() -> None:
    torch.manual_seed(3)
    one = StudentAdapter(1)
    torch.manual_seed(3)
    other = StudentAdapter(1)
    teacher = torch.tensor([[0.3], [math.nan], [0.8], [0.5]])
    labels = torch.tensor([[1.0], [1.0], [math.nan], [0.0]])
    one.learn(teacher, labels)
    other.learn(teacher[[0, 3]], labels[[0, 3]])
    torch.testing.assert_close(one.target(teacher[[0, 3]]), other.target(teacher[[0, 3]]))
    assert torch.isnan(one.target(teacher)[1]).all()


def test_a_batch_without_any_annotation_changes_nothing() -> None:
    adapter = StudentAdapter(1)
    adapter.learn(torch.full((4, 1), math.nan), torch.ones(4, 1))
    torch.testing.assert_close(adapter.target(torch.tensor([[0.3]])), torch.tensor([[0.3]]))


def test_certain_teachers_stay_finite() -> None:
    assert torch.isfinite(StudentAdapter(1).target(torch.tensor([[0.0], [1.0]]))).all()
