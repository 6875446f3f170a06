"""The pictures of docs/how-it-works.md, drawn on the two photos that may be shown to anybody."""
