//! What machines are, over time: facts, search, differences.
//!
//! Plain files are the truth: [`Store`] keeps them. [`Index`] is made of them, and can be thrown away at any time.

mod diff;
pub mod export;
mod identity;
mod index;
mod owner;
pub mod query;
mod store;

pub use diff::{diff, disk_line, sentence};
pub use identity::Likeness;
pub use index::{Hit, Index, IndexError, Named, RunRow};
pub use query::{Query, QueryError};
pub use store::{FOLDER, Known, Store, Taken};
