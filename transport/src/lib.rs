//! Bytes to and from servers: fetching over HTTP(S) and TFTP, and the share, whatever carries it.

pub mod fetch;
pub mod share;
