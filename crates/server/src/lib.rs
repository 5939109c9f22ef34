//! The broker as a server: configuration, transport, and the one place where everything is wired.

pub mod config;
pub mod deadline;
pub mod http;
pub mod lanes;
pub mod limits;
pub mod listen;
pub mod published;
pub mod request;
pub mod status;
pub mod telemetry;
pub mod tls;
