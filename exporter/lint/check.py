"""The linter: every rule over a configuration, and the configuration against what was published."""

from pathlib import Path
from typing import Any

from exporter.errors import VersionError
from exporter.home import CONFIG, homes_in, parse_config, read_config
from exporter.integrity import Version, check_config, check_version, made_later
from exporter.lint import backend_rules, model_rules, queue_rules, service_rules
from exporter.lint.facts import Facts, Host
from exporter.lint.finding import Finding
from exporter.signing import TrustedKeys

RULES = (*model_rules.RULES, *queue_rules.RULES, *backend_rules.RULES, *service_rules.RULES)


def lint_config(config: Any, facts: Facts) -> list[Finding]:
    """What is wrong with a `ModelConfig` message."""
    return [finding for rule in RULES for finding in rule(config, facts)]


def lint_bytes(content: bytes, facts: Facts) -> list[Finding]:
    """What is wrong with the bytes of a config.pbtxt; any bytes will do."""
    try:
        return lint_config(parse_config(content), facts)
    except VersionError as error:
        return [_unreadable(str(error))]


def lint_home(home: Path, trusted: TrustedKeys, host: Host) -> list[Finding]:
    """What is wrong with a vertical: its config.pbtxt and the version that it names. `OSError` if it can't be read.

    If another version is published meanwhile and this one is not well, for it may have been pruned, all is read anew.
    """
    while True:
        content = read_config(home)
        if content is None:
            return [_unreadable(f"{home.name} has no {CONFIG}")]
        found = _lint(home, content, trusted, host)
        if not any(finding.severity == "error" for finding in found) or content == read_config(home):
            return found


def _lint(home: Path, content: bytes, trusted: TrustedKeys, host: Host) -> list[Finding]:
    try:
        config = parse_config(content)
    except VersionError as error:
        return [_unreadable(str(error))]
    versions = list(config.version_policy.specific.versions)
    if len(versions) != 1 or not (home / str(versions[0])).is_dir():
        return lint_config(config, Facts(home.name, host))
    try:
        version = check_version(home / str(versions[0]), trusted)
    except VersionError as error:
        return [_damaged(error), *lint_config(config, Facts(home.name, host, {}))]
    made = {name for name in made_later(version.manifest) if (version.folder / name).is_file()}
    facts = Facts(home.name, host, version.manifest, frozenset(version.manifest["files"]) | made)
    return [*_edited(content, version), *lint_config(config, facts)]


def lint_repository(repository: Path, trusted: TrustedKeys, host: Host) -> dict[str, list[Finding]]:
    """Findings by vertical."""
    return {home.name: lint_home(home, trusted, host) for home in homes_in(repository)}


def _edited(content: bytes, version: Version) -> list[Finding]:
    try:
        check_config(content, version)
    except VersionError as error:
        return [
            Finding(
                "edited-by-hand",
                "error",
                str(error),
                "what serves is not what was verified and signed; the next publication overwrites it",
                f"exfm-export rollback {version.folder.parent.name} --to {version.number} puts the published one back; "
                "to change it for good, publish with --max-batch, --max-queue, --instances",
            )
        ]
    return []


def _damaged(error: VersionError) -> Finding:
    return Finding(
        "version-damaged",
        "error",
        str(error),
        "the frontend does not start with it; what Triton would run, nobody vouches for",
        "exfm-export rollback to a sound version, or publish anew",
    )


def _unreadable(what: str) -> Finding:
    return Finding(
        "unreadable",
        "error",
        what,
        "neither Triton nor the frontend can load the model",
        "exfm-export rollback VERTICAL --to N puts a published configuration back",
    )
