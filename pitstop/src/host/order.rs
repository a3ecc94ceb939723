//! Who does what: `SELECTOR... ACTION`, or `--all ACTION`.

use clap::error::ErrorKind;
use clap::{ArgMatches, Args, Command, Error, FromArgMatches};
use pitstop_protocol::job::ActionName;
use pitstop_server::set::Who;

/// Machines, and what they do.
pub struct Order {
    pub machines: Vec<Who>,
    pub action: ActionName,
}

/// As the command line has it. The action is the last word, with options before, between and behind: clap alone would
/// take the last word before an option for it.
#[derive(Args)]
struct Words {
    /// IP or MAC address, UUID, or of fleet.toml: a name, @GROUP, network, pattern; one or several.
    /// Then backup, backup-again, restore, refresh-info, wipe, partition or rescue
    #[arg(value_names = ["SELECTOR", "ACTION"], required = true, num_args = 1..)]
    words: Vec<String>,
    /// Every machine of fleet.toml, in place of a SELECTOR
    #[arg(long)]
    all: bool,
}

impl Words {
    fn order(self) -> Result<Order, String> {
        let how = "write SELECTOR ACTION, or --all ACTION";
        let (action, machines) = match (self.words.split_last(), self.all) {
            (Some((action, [])), true) => (action, vec![Who::all()]),
            (Some(_), true) => {
                return Err("--all is every machine: none is named beside it".into());
            }
            (Some((word, [])), false) if word.parse::<ActionName>().is_ok() => {
                return Err(format!("nothing says which machine does {word}: {how}"));
            }
            (Some((word, [])), false) => {
                return Err(format!("nothing says what {word} does: {how}"));
            }
            (Some((action, words)), false) => {
                let mut machines = Vec::new();
                for word in words {
                    let who = word.parse::<Who>();
                    machines.push(who.map_err(|why| format!("{word:?}: {why}"))?);
                }
                (action, machines)
            }
            (None, _) => return Err(how.into()),
        };
        let action = action
            .parse::<ActionName>()
            .map_err(|why| why.to_string())?;
        Ok(Order { machines, action })
    }
}

impl FromArgMatches for Order {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        let words = Words::from_arg_matches(matches)?;
        let order = words.order();
        order.map_err(|what| Error::raw(ErrorKind::ValueValidation, what))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Args for Order {
    fn augment_args(command: Command) -> Command {
        Words::augment_args(command)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Words::augment_args_for_update(command)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(line: &[&str]) -> Result<(Vec<String>, ActionName), String> {
        let command = Order::augment_args(Command::new("set"))
            .no_binary_name(true)
            .arg(clap::Arg::new("image").long("image"));
        let matches = command.try_get_matches_from(line);
        let order = matches.and_then(|matches| Order::from_arg_matches(&matches));
        let order = order.map_err(|error| error.to_string())?;
        let machines = order.machines.iter().map(|who| match who {
            Who::One(name) => name.to_string(),
            Who::Selector(text) => text.clone(),
        });
        Ok((machines.collect(), order.action))
    }

    #[test]
    fn the_last_word_is_the_action_wherever_options_stand() {
        for line in [
            &["a", "@b", "10.0.0.1", "backup"][..],
            &["a", "@b", "10.0.0.1", "backup", "--image", "x"],
            &["a", "--image", "x", "@b", "10.0.0.1", "backup"],
            &["a", "@b", "10.0.0.1", "--image", "x", "backup"],
            &["--image", "x", "a", "@b", "10.0.0.1", "backup"],
        ] {
            let machines = ["a", "@b", "10.0.0.1"].map(str::to_owned).to_vec();
            assert_eq!(order(line), Ok((machines, ActionName::Backup)), "{line:?}");
        }
        for line in [&["--all", "rescue"], &["rescue", "--all"]] {
            let every = vec!["*".to_owned()];
            assert_eq!(order(line), Ok((every, ActionName::Rescue)), "{line:?}");
        }
    }

    #[test]
    fn what_is_missing_or_too_much_is_told() {
        for (line, what) in [
            (&["backup"][..], "nothing says which machine does backup"),
            (&["a"], "nothing says what a does"),
            (&["a", "b"], "unknown action \"b\""),
            (&["a", "backup", "--all"], "none is named beside it"),
            (&["10.0.2.300", "backup"], "\"10.0.2.300\": it is neither"),
            (&["--all"], "required"),
        ] {
            let error = order(line).unwrap_err();
            assert!(error.contains(what), "{line:?}: {error}");
        }
    }
}
