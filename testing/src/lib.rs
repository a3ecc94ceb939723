//! What the tests of all crates share. It knows nothing of what they test.

pub mod daemon;
pub mod moto;
pub mod mounts;
pub mod ports;
pub mod running;
pub mod turns;
