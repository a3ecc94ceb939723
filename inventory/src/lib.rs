//! What machines are, over time: facts, search, differences.
