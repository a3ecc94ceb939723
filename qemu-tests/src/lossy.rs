//! A cable that loses frames, in both directions, the same ones for the same seed.

use crate::network::Network;
use crate::wire::Wire;
use anyhow::Result;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A bad cable.
pub struct LossyWire {
    wire: Wire,
    lost: Arc<AtomicU64>,
}

impl LossyWire {
    /// Lays a cable to a network that loses so many per cent of the frames.
    pub fn lay(network: &Network, percent: u64, seed: u64) -> Result<LossyWire> {
        let lost = Arc::new(AtomicU64::new(0));
        let loses = |direction: u64| {
            let mut dice = Dice(seed.wrapping_mul(2).wrapping_add(direction));
            let lost = Arc::clone(&lost);
            move |frame: &[u8]| {
                if dice.throw(100) < percent {
                    lost.fetch_add(1, Ordering::Relaxed);
                    return None;
                }
                Some(frame.to_vec())
            }
        };
        let wire = Wire::lay(network, loses(0), loses(1))?;
        Ok(LossyWire { wire, lost })
    }

    /// The arguments that plug a machine in.
    pub fn card(&self) -> Vec<String> {
        self.wire.card()
    }

    /// How many frames were lost so far.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }
}

/// `SplitMix64`: good enough for bad luck, and repeatable.
struct Dice(u64);

impl Dice {
    /// A number below `sides`.
    fn throw(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % sides
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_in_twenty_is_lost_and_always_the_same() {
        let lost = |seed| {
            let mut dice = Dice(seed);
            let throws: Vec<bool> = (0..20_000).map(|_| dice.throw(100) < 5).collect();
            throws
        };
        let first = lost(1);
        let count = first.iter().filter(|lost| **lost).count();
        assert!((900..1100).contains(&count), "{count} of 20000");
        assert_eq!(first, lost(1));
        assert_ne!(first, lost(2));
    }
}
