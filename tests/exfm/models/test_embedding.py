import torch

from exfm.models.embedding import EmbeddingTable


def test_first_order_weights_start_at_zero_and_embeddings_do_not() -> None:
    table = EmbeddingTable(100, 8, 2)
    embeddings, first_order = table.split(table(torch.arange(100)[None]))
    assert embeddings.shape == (1, 100, 8)
    assert embeddings.std() > 0.01
    assert torch.equal(first_order, torch.zeros(1, 2))


def test_split_sums_first_order_weights_over_features() -> None:
    table = EmbeddingTable(4, 3, 1)
    with torch.no_grad():
        table.weight[:, 3] = torch.tensor([1.0, 10.0, 100.0, 1000.0])
    _, first_order = table.split(table(torch.tensor([[0, 2], [1, 3]])))
    assert first_order.tolist() == [[101.0], [1010.0]]


def test_gradient_is_sparse() -> None:
    table = EmbeddingTable(1000, 4, 1)
    table(torch.tensor([[3, 7]])).sum().backward()
    assert table.weight.grad is not None
    assert table.weight.grad.is_sparse
