//! Jobs of many machines: a file a job in `jobs/`, what ended in `jobs/history.ndjson`, and the door where machines ask for
//! a slot. The files are the truth; the command works on them with or without a server.

mod change;
mod changes;
mod door;
mod evidence;
#[cfg(test)]
pub mod fake;
mod keeper;
mod moved;
mod on_share;
mod power;
mod reorder;
mod schedule;
mod standing;
mod store;
mod which;
mod whose;

pub use change::{Cancelled, cancel, retry, set_again};
pub use changes::Changes;
pub use door::routes;
pub use evidence::settle;
pub use keeper::{Keeper, watch};
pub use moved::{Card, card, moved, remedy};
pub use on_share::OnShare;
pub use reorder::{To, reorder};
pub use standing::{Standing, limits};
pub use store::{Found, Locked, Store};
pub use which::{Chosen, Gone, Which, chosen, last_of_each, one, open_or_last};
pub(crate) use whose::{is_owner, owner};
