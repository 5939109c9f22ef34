//! The end-to-end tests, in one binary: real servers, real clients, and the house itself.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that can't go on fails"
)]

mod bad_input;
mod barrier;
mod checking;
mod crashes;
mod cuts;
mod demo;
mod disk;
mod examples;
mod exec;
mod feed;
mod foreign;
mod harness;
mod house;
mod identity;
mod lineage;
mod module;
mod nginx;
mod proofs;
mod quotas;
mod racing;
mod redis_failures;
mod reflection;
mod reload;
mod requests;
mod resource_server;
mod rotation;
mod secrets;
mod services;
mod smoke;
mod support;
mod two_brokers;
mod x509;
