//! What the API says and takes, typed: one definition for server, page and command.

pub mod inventory;
