//! A lab of machines from one file: `fleet.toml`, its layers, and what is made of them and into them. Pure: bytes in, values and texts
//! out. Files, daemons and machines are the command's.

pub mod boot;
pub mod edit;
mod fleet;
pub mod generate;
mod identity;
pub mod import;
mod keys;
pub mod overlay;
mod problem;
mod range;
mod selector;
mod settings;
mod written;

pub use fleet::{Fleet, Group, Identity, Machine, Network, Server, Unknown};
pub use keys::{Kind, is_name};
pub use pitstop_protocol::host_name::{Mac, Uuid};
pub use problem::{BadFleet, Problem};
pub use range::{BadRange, MOST, Pattern, Range};
pub use selector::{NoMachine, Selector, selectors};
pub use settings::{Layer, Setting};
pub use written::LARGEST;
