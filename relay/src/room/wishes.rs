//! What a room is to be like.

use std::time::Duration;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lie {
    FlipsBits,
    /// It says that it lives, that as much comes to it as its line takes, and gives nothing.
    Claims,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Crash {
    /// Its program dies, and its kernel hangs up.
    Dies(Duration),
    /// It says nothing any more.
    IsSwitchedOff(Duration),
}

/// One machine as it is wished.
#[derive(Debug, Clone)]
pub struct Wish {
    /// Bytes a second, each way.
    pub rate: u64,
    pub joins: Duration,
    pub rack: u8,
    pub crashes: Option<Crash>,
    pub lies: Option<Lie>,
}

/// A room as it is wished.
#[derive(Debug, Clone)]
pub struct Wishes {
    pub machines: Vec<Wish>,
    pub chunks: u64,
    /// Bytes of each member.
    pub member: u64,
    /// Bytes a second: of the server's port, and of what is between racks.
    pub server: u64,
    pub uplink: u64,
    pub chains: usize,
    /// Bytes a second that all machines together can receive, prove, write and send, where they share the cores of one
    /// computer.
    pub cores: Option<u64>,
    /// The server is killed and started anew.
    pub away: Option<(Duration, Duration)>,
    /// In percent, how often a machine stands still for a quarter of a second after a member.
    pub stalls: u8,
    pub seed: u64,
}
