"""Write the table of the gate's rules into docs/ci.md from the records that declare them.

    python benchmarks/gate_rules.py [--write docs/ci.md]

Without --write the table goes to stdout.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from aznas_onnx.gating.policy import RULES, rule_default

BEGIN, END = "<!-- rules: written by benchmarks/gate_rules.py -->\n", "<!-- end of rules -->\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", type=Path, metavar="FILE.md")
    path = parser.parse_args().write
    if path is None:
        print(table(), end="")
    else:
        path.write_text(with_table(path.read_text(encoding="utf-8")), encoding="utf-8")


def with_table(text: str) -> str:
    """Return a page with the table of today between its marks."""
    before, _, rest = text.partition(BEGIN)
    _, found, after = rest.partition(END)
    assert found, "the page has no marks of the table"
    return f"{before}{BEGIN}{table()}{END}{after}"


def table() -> str:
    """Return one row a rule: a line of a policy file, its option, what it does, its bounds and its default."""
    rows = [("In `aznas.toml`", "Option", "Meaning", "Accepted", "Default"), (":---",) * 5]
    for name, rule in RULES.items():
        is_bounded = rule.choices or (rule.least, rule.above) != (None, None)
        accepted = rule.accepted if is_bounded else ""
        help_text = rule.help.replace("*", "\\*")
        rows.append((f"`{rule.key} = {rule.example}`", f"`{rule.option}`", help_text, accepted, rule_default(name)))
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


if __name__ == "__main__":
    main()
