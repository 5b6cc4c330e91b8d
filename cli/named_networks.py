"""Networks that a command line names instead of files."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["export_named"]


def export_named(models: Iterable[str]) -> None:
    """Export the networks that are given by name, all in one process; files are left to who reads them.

    Raises UnknownNameError or SettingsError for a name that cannot be meant, before anything is scored. A network that
    cannot be exported fails when it is read, as a bad file does.
    """
    from aznas_onnx.cli.console import diagnostics
    from aznas_onnx.zoo import export_missing, is_name

    names = [model for model in models if is_name(model)]
    if names:
        with diagnostics().status("loading PyTorch") as status:
            export_missing(names, lambda name: status.update(f"exporting {name}"))
