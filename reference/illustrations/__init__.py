"""The pictures of the pages in docs/, drawn on the two photos that may be shown to anybody."""
