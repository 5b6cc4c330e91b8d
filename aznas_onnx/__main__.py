"""`python -m aznas_onnx` is the `aznas` command."""

from __future__ import annotations

from aznas_onnx.cli.main import main

if __name__ == "__main__":
    main()
