"""Kills whoever publishes, rolls back or prunes at every single step, and looks at what a reader then finds."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.export.trap import Trap, failing, kill
from exporter.errors import ExportRefusedError
from exporter.home import MANIFEST, OWN_CONFIG, SIGNATURE, parse_config, versions_in
from exporter.integrity import read_version
from exporter.inventory import verify_repository
from exporter.publish import Publication, publish
from exporter.rollback import prune, rollback
from exporter.signing import NO_KEYS, OWN_KEY, load_signer, load_trusted, make_key, trust
from exporter.staging import staging
from serving.errors import RepositoryError
from serving.repository import load_catalog

PRUNED_TO = 1
"""Newest versions that the pruning under test keeps."""
_RAISED = 3
"""The child's exit code where an `OSError` came out, as a command turns it into 1."""


@dataclass(frozen=True)
class Scene:
    """An action that is cut short, and what may be served after it.

    Attributes:
        name: of the action.
        versions: how many versions lie there before it.
        act: what is done to the repository, given its vertical and a version to publish again.
        after: what is served when it was done; before it, the newest version is.
    """

    name: str
    versions: int
    act: Callable[[Path, str, Path], object]
    after: int


SCENES = (
    Scene("first", 0, lambda repository, _, source: republish(source, repository), 1),
    Scene("publish", 1, lambda repository, _, source: republish(source, repository), 2),
    Scene("rollback", 2, lambda repository, vertical, _: rollback(repository, vertical), 1),
    Scene("prune", 3, lambda repository, vertical, _: prune(repository, vertical, PRUNED_TO), 3),
)


def kill_everywhere(source: Path, scratch: Path, errno: int = 0, recover_every: int = 1) -> dict[str, Any]:
    """Cut every scene short at every step, in a process that forks and does nothing else.

    Args:
        source: a published version, whose files are published again and again.
        scratch: an empty folder, on the file system that is meant.
        errno: 0: SIGKILL; else the steps fail from then on with this error, as on a full disk.
        recover_every: after every how many rounds the next publication is tried, too.

    Returns:
        `rounds`; `bad_versions`, how many versions were visible that failed `verify`; `bad_reads`, how often the
        frontend's reader found neither the old nor the new version; `bad_recoveries`, how often the next publication
        failed, left rubbish or used a number again; `steps` by scene; `problems`, texts of the first few.
    """
    command = [sys.executable, "-m", "bench.export.killing", str(source), str(scratch), str(errno), str(recover_every)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    ended = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment)
    return dict(json.loads(ended.stdout))


def republish(source: Path, repository: Path) -> Path:
    """Publish a version's files again, as the next one, signed with the repository's own key."""
    manifest = {k: v for k, v in read_version(source, NO_KEYS).manifest.items() if k not in ("version", "files")}
    config = parse_config((source / OWN_CONFIG).read_bytes())
    signer = load_signer(None, repository)
    with staging(repository) as folder:
        own = shutil.ignore_patterns(OWN_CONFIG, MANIFEST, SIGNATURE)
        shutil.copytree(source, folder, ignore=own, dirs_exist_ok=True, copy_function=shutil.copyfile)
        folder.chmod(0o755)
        return publish(folder, repository, Publication(str(manifest["vertical"]), manifest, config, signer))


class Rounds:
    """Goes through the scenes and keeps count."""

    def __init__(self, source: Path, scratch: Path, errno: int = 0, recover_every: int = 1) -> None:
        self._source, self._scratch, self._errno, self._every = source, scratch, errno, recover_every
        self._vertical = source.parent.name
        self._counts = {"rounds": 0, "bad_versions": 0, "bad_reads": 0, "bad_recoveries": 0}
        self._steps: dict[str, int] = {}
        self._problems: list[str] = []

    def run(self) -> dict[str, Any]:
        """All scenes; what `kill_everywhere` returns."""
        for scene in SCENES:
            pristine = self._prepare(scene)
            at, done = 0, False
            while not done:
                at += 1
                repository = self._scratch / "repository"
                shutil.copytree(pristine, repository, symlinks=True)
                done = self._cut_short(scene, repository, at)
                self._look(scene, repository, f"{scene.name} cut at step {at}")
                shutil.rmtree(repository)
            self._steps[scene.name] = at - 1
        return {**self._counts, "steps": self._steps, "problems": self._problems[:5]}

    def _prepare(self, scene: Scene) -> Path:
        pristine = self._scratch / f"before-{scene.name}"
        trust(pristine, make_key(pristine / OWN_KEY).key.public_key())
        for _ in range(scene.versions):
            republish(self._source, pristine)
        return pristine

    def _cut_short(self, scene: Scene, repository: Path, at: int) -> bool:
        """Run the scene in a child that the trap catches at that step; whether it got through untouched."""
        child = os.fork()
        if not child:
            self._be_child(scene, repository, at)
        _, status = os.waitpid(child, 0)
        code = os.waitstatus_to_exitcode(status)
        if code not in (0, -9, _RAISED):
            self._note("bad_reads", f"{scene.name} at step {at}: ended with {code}")
        return code == 0

    def _be_child(self, scene: Scene, repository: Path, at: int) -> None:
        code = 1
        try:
            trap = Trap(at, failing(self._errno) if self._errno else kill, removals=not self._errno, lasting=True)
            with contextlib.suppress(OSError):
                scene.act(repository, self._vertical, self._source)
            code = 0 if trap.steps < at else _RAISED
        finally:
            os._exit(code)

    def _look(self, scene: Scene, repository: Path, when: str) -> None:
        self._counts["rounds"] += 1
        for verdict in verify_repository(repository, load_trusted(repository)):
            if verdict.problem:
                self._note("bad_versions", f"{when}: {verdict.problem}")
        served = self._served(repository)
        if served not in (scene.versions, scene.after):
            self._note("bad_reads", f"{when}: {served} is served, not {scene.versions} or {scene.after}")
        if self._counts["rounds"] % self._every == 0:
            self._recover(repository, when)

    def _served(self, repository: Path) -> int | str:
        """What the frontend would serve; 0 where nothing was published yet."""
        try:
            return load_catalog(repository)[self._vertical].version
        except RepositoryError as error:
            return 0 if "no published model" in str(error) else str(error)

    def _recover(self, repository: Path, when: str) -> None:
        before = versions_in(repository / self._vertical)
        try:
            number = int(republish(self._source, repository).name)
        except (ExportRefusedError, OSError) as error:
            self._note("bad_recoveries", f"{when}: the next publication failed: {error}")
            return
        rubbish = [path.name for pattern in (".staging-*", "**/.aside-*") for path in repository.glob(pattern)]
        if rubbish or number <= max(before, default=0) or self._served(repository) != number:
            self._note("bad_recoveries", f"{when}: then version {number} after {before}, rubbish {rubbish}")

    def _note(self, what: str, problem: str) -> None:
        self._counts[what] += 1
        self._problems.append(problem)


def main(arguments: Sequence[str]) -> int:
    """Entry point of the process that forks: version, scratch, errno, recover_every; prints one JSON object."""
    rounds = Rounds(Path(arguments[1]), Path(arguments[2]), int(arguments[3]), int(arguments[4]))
    sys.stdout.write(json.dumps(rounds.run()) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
