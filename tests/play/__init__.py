"""Tests of the table without its screen."""
