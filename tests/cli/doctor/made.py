"""What the tests of the checks share."""

from __future__ import annotations

from importlib import metadata

from vlmagent.cli.doctor.findings import Finding, State

OK, NOTE, PROBLEM = State.OK, State.NOTE, State.PROBLEM


def only(findings, name: str) -> Finding:
    """The one finding of a name."""
    (found,) = [finding for finding in findings if finding.name == name]
    return found


def finding(state=OK, **more) -> Finding:
    """One that says little."""
    return Finding(**{"area": "A", "name": "x", "state": state, "text": "so", **more})


def with_versions(monkeypatch, **versions):
    """Packages seem to have these versions; None: not installed."""
    real = metadata.version

    def version(name):
        if versions.get(name, "") is None:
            raise metadata.PackageNotFoundError(name)
        return versions.get(name) or real(name)

    monkeypatch.setattr(metadata, "version", version)
