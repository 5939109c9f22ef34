//! The broker as a server: configuration, transport, and the one place where everything is wired.

pub mod config;
