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
        Ok(()) => {
            wait(bmc, State::Off, limits)?;
            // A machine that was switched off is switched on again, whatever else fails.
            let between = between();
            let state = switch(bmc, State::On, limits)?;
            between.map(|()| state)
        }
        Err(PowerError::NotOffered { .. }) => {
            bmc.order(Order::Restart)?;
            wait(bmc, State::On, limits)
        }
        Err(error) => Err(error),
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
