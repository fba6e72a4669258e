"""The version in both forms: the same files, and a configuration for each."""

from pathlib import Path

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from bench.batching.variant import write_both
from serving.catalog import Batching
from serving.repository import load_catalog


def test_both_forms_hold_the_version_and_say_who_forms_batches(published_repository: Path, tmp_path: Path) -> None:
    vertical = load_catalog(published_repository).find("feed_click")
    forms = write_both(published_repository, vertical, tmp_path / "both")
    assert (forms.triton.batching, forms.frontend.batching) == (None, Batching(3, 8))
    published = published_repository / vertical.name / "1"
    sizes = {}
    for form in (forms.triton, forms.frontend):
        folder = tmp_path / "both" / form.name / "1"
        for path in published.rglob("*"):
            if path.is_file():
                assert (folder / path.relative_to(published)).read_bytes() == path.read_bytes()
        text = (folder.parent / "config.pbtxt").read_text(encoding="utf-8")
        config = text_format.Parse(text, model_config_pb2.ModelConfig())
        assert config.name == form.name
        sizes[form.name] = config.max_batch_size
    assert sizes == {"feed_click_by_triton": 8, "feed_click_by_frontend": 0}
