//! Several machines side by side.

use crate::act::{State, Target};
use crate::error::PowerError;
use crate::setting::Power;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::thread;

/// BMCs that are asked at once: most of the time is waiting for them.
const AT_ONCE: usize = 32;

/// A machine, and how it is switched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Switch {
    pub power: Power,
    pub target: Target,
}

/// Does `work` with each of `switches`, some at a time, and tells `done` of each as soon as it is, by its place.
pub fn each(
    switches: &[Switch],
    work: impl Fn(&Switch) -> Result<State, PowerError> + Sync,
    mut done: impl FnMut(usize, Result<State, PowerError>),
) {
    let next = AtomicUsize::new(0);
    let (said, hears) = channel();
    thread::scope(|scope| {
        for _ in 0..AT_ONCE.min(switches.len()) {
            let (said, next, work) = (said.clone(), &next, &work);
            scope.spawn(move || {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let Some(switch) = switches.get(at) else {
                        return;
                    };
                    // It hears until all have ended.
                    let _ = said.send((at, work(switch)));
                }
            });
        }
        drop(said);
        for (at, result) in hears {
            done(at, result);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    #[test]
    fn all_are_done_once_and_some_at_a_time() {
        let names = 0..100;
        let switches: Vec<Switch> = names
            .map(|name| Switch {
                power: Power::None,
                target: Target {
                    name: name.to_string(),
                    ..Target::default()
                },
            })
            .collect();
        let (running, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let mut seen = vec![0; 100];
        let work = |switch: &Switch| {
            most.fetch_max(
                running.fetch_add(1, Ordering::Relaxed) + 1,
                Ordering::Relaxed,
            );
            let began = Instant::now();
            // Each stays until two have met.
            while most.load(Ordering::Relaxed) < 2 {
                assert!(began.elapsed() < Duration::from_secs(60), "one at a time");
                thread::sleep(Duration::from_millis(1));
            }
            running.fetch_sub(1, Ordering::Relaxed);
            match switch.target.name.as_str() {
                "7" => Err(PowerError::Missing { program: "x" }),
                _ => Ok(State::On),
            }
        };
        each(&switches, work, |at, result| {
            assert_eq!(result.is_err(), at == 7);
            seen[at] += 1;
        });
        assert_eq!(seen, vec![1; 100]);
        assert!((2..=AT_ONCE).contains(&most.load(Ordering::Relaxed)));
        each(&[], work, |_, _| unreachable!());
    }
}
