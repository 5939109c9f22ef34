//! Nothing ships from here: the end-to-end tests are one binary below `tests/`, chaos on real parts is another.
