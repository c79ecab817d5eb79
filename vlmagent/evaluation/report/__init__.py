"""The paper's tables and figures, built from runs in the store. Reads runs; trains and evaluates nothing."""
