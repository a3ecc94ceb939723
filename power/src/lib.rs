//! Switching machines on and off: by Wake-on-LAN, by a BMC over IPMI or Redfish, or by a command of the admin's.
//!
//! What a machine has is the key `power` of the fleet file: [`Power::parse`]. What is done to it, and whether that came true:
//! [`Power::act`]. All of it blocks, and all of it ends: see [`Limits`].

mod act;
mod bmc;
mod command;
mod credentials;
mod error;
#[cfg(feature = "fakes")]
#[allow(clippy::unwrap_used, reason = "for tests alone")]
pub mod fake;
mod fingerprint;
mod ipmi;
mod many;
mod program;
mod redfish;
mod setting;
mod wol;

pub use act::{Act, Limits, State, Target};
pub use credentials::{BadCredentials, Credentials, FILE as CREDENTIALS_FILE};
pub use error::PowerError;
pub use many::{Switch, each};
pub use setting::Power;
