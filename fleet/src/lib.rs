//! A lab of machines from one file: `fleet.toml`, its layers, and what is made of them and into them.
pub mod range;
mod mac;
mod problem;
mod written;
pub use mac::{BadMac, Mac};
pub use problem::{BadFleet, Problem};
