"""Presets: the shipped ones, and what a form keeps and changes when settings are taken over."""
