//! People: who may log in, with which role, by which password or token; who is logged in; who did what.
//!
//! Everything lies in plain files below `people/` of the root, which nobody but their owner can read. Knows nothing of HTTP:
//! texts of headers come in, answers go out.

mod audit;
mod book;
mod files;
mod gate;
mod header;
mod lockout;
mod name;
mod password;
mod role;
mod secret;
mod sessions;
mod store;

pub use audit::{Audit, Entry, Outcome};
pub use book::{Book, Refused, Token, User, Wanted};
pub use gate::{Denied, Gate, LoggedIn, Who, Why};
pub use header::{bearer, cookie};
pub use name::valid_name;
pub use role::{Role, UnknownRole};
pub use secret::{Csrf, NewToken, NoRandomness, Secret};
pub use sessions::COOKIE;
pub use store::{FOLDER, Store, Trouble};
