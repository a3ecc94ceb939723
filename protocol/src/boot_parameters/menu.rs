//! `pitstop.menu=`: whether a stick shows what it can do, and how long it waits for a key.

use std::time::Duration;

/// Somebody who stands before the machine has that long to say no.
const USUAL: Duration = Duration::from_secs(10);

/// Nobody watches a countdown for longer.
const LONGEST: Duration = Duration::from_secs(3600);

/// What a machine does that boots from a stick and has a job there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Menu {
    /// It does the job at once.
    Never,
    /// It shows the menu, and does the job when nobody has pressed a key by then.
    For(Duration),
    /// It shows the menu and does nothing until somebody chooses.
    Always,
}

impl Default for Menu {
    fn default() -> Self {
        Self::For(USUAL)
    }
}

impl Menu {
    /// `0`, a number of seconds, or `wait`.
    ///
    /// # Errors
    /// A sentence that says what to write.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text == "wait" {
            return Ok(Self::Always);
        }
        let seconds = text.parse().map(Duration::from_secs);
        match seconds {
            Ok(Duration::ZERO) => Ok(Self::Never),
            Ok(wait) if wait <= LONGEST => Ok(Self::For(wait)),
            _ => Err(format!(
                "pitstop.menu={text}: write seconds (0 for no menu, at most {}), or wait",
                LONGEST.as_secs()
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_menu_waits_for_seconds_or_for_ever() {
        assert_eq!(Menu::parse("0"), Ok(Menu::Never));
        assert_eq!(Menu::parse("30"), Ok(Menu::For(Duration::from_secs(30))));
        assert_eq!(Menu::parse("wait"), Ok(Menu::Always));
        for wrong in ["", "-1", "3601", "soon", "99999999999999999999"] {
            let why = Menu::parse(wrong).unwrap_err();
            assert!(why.ends_with("or wait"), "{why}");
        }
    }
}
