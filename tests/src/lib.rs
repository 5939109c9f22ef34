//! Nothing ships from here: the end-to-end tests are the one binary below `tests/`.
