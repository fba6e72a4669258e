"""Pieces of a page; every text is escaped."""

import html
from collections.abc import Mapping, Sequence


def paragraph(text: str, kind: str = "") -> str:
    """A paragraph, of a class if one is given."""
    return f"<p{f' class={kind}' if kind else ''}>{html.escape(text)}</p>"


def heading(text: str) -> str:
    """A section's."""
    return f"<h2>{html.escape(text)}</h2>"


def entries(by: Mapping[str, str]) -> str:
    """A list of names and what is to be said of them."""
    return "<ul>" + "".join(f"<li><b>{html.escape(k)}</b>: {html.escape(v)}</li>" for k, v in by.items()) + "</ul>"


def grid(rows: Sequence[Sequence[str]], kind: str = "figures") -> str:
    """A table, its first row the head; figures stand to the right, `facts` to the left and wrap."""
    head, *body = ([html.escape(cell) for cell in row] for row in rows)
    lines = ["<tr>" + "".join(f"<th>{cell}</th>" for cell in head) + "</tr>"]
    lines += ["<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in body]
    return f"<div class=wide><table class={kind}>{''.join(lines)}</table></div>"
