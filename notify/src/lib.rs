//! Tells the world what became of jobs: by webhook and by mail.
//!
//! Whoever has news hands it over and goes on; what cannot be delivered now lies in a folder until it can. Receivers are in
//! `notify.toml`; docs/monitoring.md has all of it.

pub mod config;
mod mail;
mod notice;
mod notifier;
mod receiver;
mod roots;
mod spool;
mod template;
mod webhook;

pub use config::{Config, FILE};
pub use notice::{Event, Notice};
pub use notifier::{Notifier, Tell};
pub use receiver::{Receiver, Undelivered};
