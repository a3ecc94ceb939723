//! Jobs of many machines: a file a job in `jobs/`, what ended in `jobs/history.ndjson`, and the door where machines ask for
//! a slot. The files are the truth; the command works on them with or without a server.

mod changes;
mod door;
mod evidence;
#[cfg(test)]
mod fake;
mod keeper;
mod power;
mod schedule;
mod store;

pub use changes::Changes;
pub use door::routes;
pub use evidence::settle;
pub use keeper::{Keeper, watch};
pub use store::{Found, Locked, Store};
