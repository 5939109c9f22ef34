//! The broker as a server: configuration, transport, and the one place where everything is wired.

pub mod compose;
pub mod config;
pub mod convert;
mod custody;
pub mod deadline;
pub mod dev;
pub mod http;
pub mod init;
pub mod lanes;
pub mod limits;
pub mod listen;
pub mod local;
pub mod published;

mod bundle;
mod redis;
pub mod reload;
pub mod run;
pub mod services;
pub mod signals;
pub mod staff;
pub mod status;
pub mod telemetry;
pub mod tls;
