"""Labelled photos, and the file of cut faces made of them."""
