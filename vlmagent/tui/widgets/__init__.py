"""Widgets of the dashboard that several screens share."""
