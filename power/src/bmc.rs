//! Orders to a BMC, and whether they came true: its word is not taken for it.

use crate::act::{Act, Limits, State};
use crate::error::PowerError;
use std::thread;
use std::time::Instant;

/// What a BMC is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    On,
    Off,
    /// Where it cannot be switched off and on by itself.
    Restart,
}

impl Order {
    pub fn name(self) -> &'static str {
        match self {
            Self::On => "on",
            Self::Off => "off",
            Self::Restart => "cycle",
        }
    }
}

/// Something beside the machine that switches it and is asked about it.
pub(crate) trait Bmc {
    fn name(&self) -> String;
    fn state(&self) -> Result<State, PowerError>;
    fn order(&self, order: Order) -> Result<(), PowerError>;
    /// The next boot, and no later one, is from the network.
    fn pxe(&self) -> Result<(), PowerError>;
}

pub(crate) fn drive(bmc: &dyn Bmc, act: Act, limits: &Limits) -> Result<State, PowerError> {
    match act {
        Act::Status => bmc.state(),
        Act::Pxe => {
            bmc.pxe()?;
            bmc.state()
        }
        Act::On => switch(bmc, State::On, limits),
        Act::Off => switch(bmc, State::Off, limits),
        Act::Cycle => cycle(bmc, limits, &|| Ok(())),
    }
}

pub(crate) fn boot(bmc: &dyn Bmc, act: Act, limits: &Limits) -> Result<State, PowerError> {
    bmc.pxe()?;
    match act {
        // IPMI forgets it after a minute without a boot (2.0 28.12), and switching off may take as long.
        Act::Cycle => cycle(bmc, limits, &|| bmc.pxe()),
        act => drive(bmc, act, limits),
    }
}

/// Off, `between`, and on.
fn cycle(
    bmc: &dyn Bmc,
    limits: &Limits,
    between: &dyn Fn() -> Result<(), PowerError>,
) -> Result<State, PowerError> {
    if bmc.state()? == State::Off {
        return switch(bmc, State::On, limits);
    }
    // One order for both would leave nothing to see: was it ever off?
    match bmc.order(Order::Off) {
        Err(PowerError::NotOffered { .. }) => {
            bmc.order(Order::Restart)?;
            return wait(bmc, State::On, limits);
        }
        Err(error) if !error.leaves_open() => return Err(error),
        Ok(()) | Err(_) => {}
    }
    // A machine that was switched off is switched on again, whatever else fails.
    let off = wait(bmc, State::Off, limits).and_then(|_| between());
    let state = insist(bmc, limits)?;
    off.map(|()| state)
}

/// Switches on what may be off by an order of ours. A BMC that has just switched its machine is often busy, and says so in
/// many ways; all of it worked a moment ago.
fn insist(bmc: &dyn Bmc, limits: &Limits) -> Result<State, PowerError> {
    let began = Instant::now();
    loop {
        match switch(bmc, State::On, limits) {
            Err(_) if began.elapsed() <= limits.settle => {
                thread::sleep(limits.pause);
            }
            end => return end,
        }
    }
}

fn switch(bmc: &dyn Bmc, wanted: State, limits: &Limits) -> Result<State, PowerError> {
    if bmc.state()? == wanted {
        return Ok(wanted);
    }
    let order = if wanted == State::On {
        Order::On
    } else {
        Order::Off
    };
    bmc.order(order)?;
    wait(bmc, wanted, limits)
}

/// Asks until it is so.
fn wait(bmc: &dyn Bmc, wanted: State, limits: &Limits) -> Result<State, PowerError> {
    let began = Instant::now();
    loop {
        let state = bmc.state();
        let late = began.elapsed() > limits.settle;
        match state {
            Ok(state) if state == wanted => return Ok(state),
            Ok(state) if late => {
                return Err(PowerError::Stays {
                    bmc: bmc.name(),
                    wanted,
                    state,
                    limit: limits.settle,
                });
            }
            Err(error) if late || !error.may_pass() => return Err(error),
            Ok(_) | Err(_) => thread::sleep(limits.pause),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::{Cell, RefCell};
    use std::time::Duration;

    /// Does what it is told, once it has given these answers.
    struct Busy {
        state: Cell<State>,
        /// It has said that its machine is off.
        said_off: Cell<bool>,
        answers: RefCell<Vec<PowerError>>,
        /// The answer to the first order is lost, which is carried out.
        lost: Cell<bool>,
    }

    impl Busy {
        fn answer(&self) -> Result<(), PowerError> {
            match self.answers.borrow_mut().pop() {
                Some(error) => Err(error),
                None => Ok(()),
            }
        }
    }

    impl Bmc for Busy {
        fn name(&self) -> String {
            "bmc".into()
        }

        fn state(&self) -> Result<State, PowerError> {
            if self.state.get() == State::Off && self.said_off.replace(true) {
                self.answer()?;
            }
            Ok(self.state.get())
        }

        fn order(&self, order: Order) -> Result<(), PowerError> {
            if order == Order::On {
                self.answer()?;
                self.state.set(State::On);
                return Ok(());
            }
            self.state.set(State::Off);
            if self.lost.take() {
                return Err(slow());
            }
            Ok(())
        }

        fn pxe(&self) -> Result<(), PowerError> {
            Ok(())
        }
    }

    fn slow() -> PowerError {
        PowerError::Slow {
            bmc: "bmc".into(),
            limit: Duration::ZERO,
        }
    }

    fn busy() -> PowerError {
        PowerError::Refused {
            bmc: "bmc".into(),
            said: "503".into(),
        }
    }

    fn nonsense() -> PowerError {
        PowerError::Nonsense {
            bmc: "bmc".into(),
            why: "<html>".into(),
        }
    }

    fn cycled(answers: Vec<PowerError>, lost: bool) -> (Result<State, PowerError>, State) {
        let bmc = Busy {
            state: Cell::new(State::On),
            said_off: Cell::new(false),
            answers: RefCell::new(answers),
            lost: Cell::new(lost),
        };
        let limits = Limits {
            call: Duration::from_secs(1),
            settle: Duration::from_secs(5),
            pause: Duration::from_millis(1),
        };
        let end = drive(&bmc, Act::Cycle, &limits);
        (end, bmc.state.get())
    }

    #[test]
    fn a_bmc_that_is_busy_leaves_no_machine_off() {
        for many in 0..6 {
            for error in [busy, nonsense] {
                let (end, state) = cycled((0..many).map(|_| error()).collect(), false);
                assert_eq!((end.unwrap(), state), (State::On, State::On), "{many}");
            }
        }
        // The answer to the order to switch off was lost, and the order was not.
        let (end, state) = cycled(vec![slow()], true);
        assert_eq!((end.unwrap(), state), (State::On, State::On));
    }
}
