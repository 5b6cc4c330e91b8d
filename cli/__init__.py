"""The `aznas` command: parse, call one library function, render."""
