//! Tests of what only this store has.
