//! In which order the machines of one set of jobs get slots.

use serde::{Deserialize, Serialize};
use std::str::FromStr;

/// `--order`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Order {
    /// As the command line and the fleet file name them.
    #[default]
    Given,
    /// By name, numbers in them as numbers.
    Name,
    /// Whose last job ended longest ago is first; one that never had a job before all.
    LastDone,
}

/// A word that is no order.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there are given, name and last-done")]
pub struct UnknownOrder;

impl FromStr for Order {
    type Err = UnknownOrder;

    fn from_str(word: &str) -> Result<Self, UnknownOrder> {
        match word {
            "given" => Ok(Self::Given),
            "name" => Ok(Self::Name),
            "last-done" => Ok(Self::LastDone),
            _ => Err(UnknownOrder),
        }
    }
}

impl Order {
    /// The places of machines in the queue, each by its place in `machines`: its name, and when its last job ended.
    pub fn places<T: Ord>(self, machines: &[(&str, Option<T>)]) -> Vec<usize> {
        let mut places: Vec<usize> = (0..machines.len()).collect();
        match self {
            Self::Given => {}
            Self::Name => places.sort_by_cached_key(|at| natural(machines[*at].0)),
            // `None` is less than any time.
            Self::LastDone => places.sort_by(|a, b| machines[*a].1.cmp(&machines[*b].1)),
        }
        places
    }
}

/// A name in pieces, so that `lab-9` comes before `lab-10`.
fn natural(name: &str) -> Vec<(String, u64)> {
    let mut pieces = vec![(String::new(), 0u64)];
    let mut number = false;
    for c in name.to_lowercase().chars() {
        let digit = c.to_digit(10).map(u64::from);
        if digit.is_none() && number {
            pieces.push((String::new(), 0));
        }
        number = digit.is_some();
        if let Some((text, value)) = pieces.last_mut() {
            match digit {
                Some(digit) => *value = value.saturating_mul(10).saturating_add(digit),
                None => text.push(c),
            }
        }
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn each_order_is_what_it_says() {
        let machines = [("lab-10", Some(1)), ("lab-9", None), ("Lab-1", Some(0))];
        assert_eq!(Order::Given.places(&machines), [0, 1, 2]);
        assert_eq!(Order::Name.places(&machines), [2, 1, 0]);
        assert_eq!(Order::LastDone.places(&machines), [1, 2, 0]);
        assert_eq!("last-done".parse(), Ok(Order::LastDone));
        assert_eq!("fastest".parse::<Order>(), Err(UnknownOrder));
    }

    proptest! {
        #[test]
        fn every_machine_has_one_place(names in prop::collection::vec("\\PC{0,8}", 0..20)) {
            let machines: Vec<(&str, Option<u8>)> = names.iter().map(|name| (name.as_str(), None)).collect();
            for order in [Order::Given, Order::Name, Order::LastDone] {
                let mut places = order.places(&machines);
                places.sort_unstable();
                prop_assert_eq!(places, (0..names.len()).collect::<Vec<_>>());
            }
        }
    }
}
