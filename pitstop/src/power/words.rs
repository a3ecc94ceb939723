//! Which machines are switched, and how: `SELECTOR... ACT`, or `--all ACT`.

use clap::error::ErrorKind;
use clap::{ArgMatches, Args, Command, Error, FromArgMatches};
use pitstop_power::Act;
use pitstop_server::set::Who;

/// What the words of a command line mean.
pub struct Words {
    pub machines: Vec<Who>,
    pub act: Act,
}

/// As they are written.
#[derive(Args)]
struct Written {
    /// MAC or IP address, UUID, or of fleet.toml: a name, @GROUP, network, pattern; one or several.
    /// Then on, off (at once, as by the button), cycle, status, or pxe: the next boot is from the network
    #[arg(value_names = ["SELECTOR", "ACT"], required = true, num_args = 1..)]
    words: Vec<String>,
    /// Every machine of fleet.toml, in place of a SELECTOR
    #[arg(long)]
    all: bool,
}

impl Written {
    fn meant(&self) -> Result<Words, String> {
        let how = "write SELECTOR ACT, as in lab3-01 status";
        let (last, words) = self.words.split_last().ok_or(how)?;
        let act: Act = last.parse().map_err(|what| format!("{what}: {how}"))?;
        let machines = match (words, self.all) {
            ([], true) => vec![Who::all()],
            ([], false) => return Err(format!("nothing says which machine does {act}: {how}")),
            (_, true) => return Err("--all is every machine: none is named beside it".into()),
            (words, false) => words
                .iter()
                .map(|word| word.parse().map_err(|why| format!("{word:?}: {why}")))
                .collect::<Result<_, _>>()?,
        };
        Ok(Words { machines, act })
    }
}

impl FromArgMatches for Words {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        let meant = Written::from_arg_matches(matches)?.meant();
        meant.map_err(|what| Error::raw(ErrorKind::ValueValidation, what))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Args for Words {
    fn augment_args(command: Command) -> Command {
        Written::augment_args(command)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Written::augment_args_for_update(command)
    }
}
