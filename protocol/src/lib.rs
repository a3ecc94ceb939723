//! What machine, server and command agree on: kernel parameters and host file, and the [`job::Job`] they make; how a
//! machine's files are named; share URLs; credentials; what a run reports; what a machine is. Only values: nothing here touches a network.

pub mod boot_parameters;
pub mod check_in;
pub mod credentials;
pub mod digest;
pub mod event;
pub mod facts;
#[cfg(feature = "fakes")]
pub mod fake;
pub mod host_name;
pub mod id;
pub mod image_version;
pub mod job;
pub mod machine;
pub mod machine_record;
pub mod pieces;
mod redacted;
pub mod share_url;
pub mod stick;
pub mod store;
pub mod tree;
pub mod unlock;

pub use redacted::redacted;
