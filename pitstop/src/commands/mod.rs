//! The image commands: the same work as the payload's, without a boot.

pub mod backup;
pub mod convert;
pub mod inspect;
pub mod layout;
pub mod mount;
pub mod place;
pub mod plan;
pub mod restore;
pub mod shrink;
pub mod torrent;
pub mod verify;
