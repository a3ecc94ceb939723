//! TFTP (RFC 1350) with options (RFC 2347, 2348, 2349, 7440): a client for small files, and the packet codec
//! that a server shares.

mod client;
pub mod packet;

pub use client::{Patience, TftpError, get};
