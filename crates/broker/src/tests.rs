//! The use cases in-process: brokers over a store in memory, workloads that sign their envelopes, operators
//! and acceptors with leased certificates. No transport.

mod authorities;
mod barrier;
mod blocks;
mod canaries;
mod check;
mod clock;
mod config;
mod crowd;
mod feed;
mod followers;
mod foreign;
mod generation;
mod keys;
mod mint;
mod people;
mod renew;
mod requests;
mod revoke;
mod site;
mod store;
mod sweep;
mod tasks;
mod view;
mod waiting;
mod worker;
mod x509;
