//! Options of a job on a command line, made of the one table that the host file has too: names, help, values, defaults,
//! what excludes what. Help, manual pages and completion follow from it.

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser, ValueParser};
use clap::{Arg, ArgAction, ArgMatches, Args, Command, Error, FromArgMatches};
use pitstop_imaging::table::PartitionSelector;
use pitstop_protocol::job::hostfile::HostFile;
use pitstop_protocol::job::options::{Kind, Preset};
use pitstop_protocol::job::{Choice, JobOption, OPTIONS, check_setting};
use std::marker::PhantomData;
use toml::{Table, Value};

/// Which options a command has.
pub trait Which {
    fn has(option: &JobOption) -> bool;

    /// What the command does where an option is not given, if that is not what a machine does.
    fn preset(_option: &JobOption) -> Option<&'static str> {
        None
    }
}

/// What a command line says of a job, by the host file's keys.
pub struct JobOptions<W> {
    given: Vec<(&'static str, Value)>,
    which: PhantomData<W>,
}

impl<W> JobOptions<W> {
    pub fn get(&self, key: &str) -> Option<&Value> {
        let mut given = self.given.iter();
        given.find_map(|(name, value)| (*name == key).then_some(value))
    }

    pub fn text(&self, key: &str) -> Option<&str> {
        self.get(key).and_then(Value::as_str)
    }

    /// By the host file's keys.
    pub fn table(&self) -> Table {
        let given = self.given.iter();
        given
            .map(|(key, value)| ((*key).to_owned(), value.clone()))
            .collect()
    }

    /// As the parser of host files has it.
    pub fn host_file(&self) -> anyhow::Result<HostFile> {
        Ok(self.table().try_into()?)
    }
}

/// The options of a command that have a name on the command line.
fn options<W: Which>() -> impl Iterator<Item = (&'static JobOption, &'static str)> {
    let named = OPTIONS.iter().filter(|option| W::has(option));
    named.filter_map(|option| Some((option, option.flag?)))
}

impl<W: Which> Args for JobOptions<W> {
    fn augment_args(command: Command) -> Command {
        command.args(options::<W>().map(|(option, flag)| arg::<W>(option, flag)))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl<W: Which> FromArgMatches for JobOptions<W> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        let given = options::<W>().filter_map(|(option, _)| {
            let value = match option.kind {
                Kind::Switch => matches.get_flag(option.key).then_some(true.into()),
                kind if kind.is_list() => {
                    let entries = matches.get_many::<Value>(option.key);
                    entries.map(|entries| Value::Array(entries.cloned().collect()))
                }
                _ => matches.get_one::<Value>(option.key).cloned(),
            };
            Some((option.key, value?))
        });
        Ok(Self {
            given: given.collect(),
            which: PhantomData,
        })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

fn arg<W: Which>(option: &'static JobOption, flag: &'static str) -> Arg {
    let excluded = options::<W>()
        .map(|(other, _)| other.key)
        .filter(|key| option.excludes.contains(key));
    let arg = Arg::new(option.key)
        .long(flag)
        .help(help::<W>(option))
        .conflicts_with_all(excluded);
    match option.kind {
        Kind::Switch => return arg.action(ArgAction::SetTrue),
        Kind::SwitchOrWord(_) => arg
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value("true"),
        kind if kind.is_list() => arg.action(ArgAction::Append),
        _ => arg,
    }
    .value_name(option.kind.placeholder())
    .value_parser(parser(option))
}

/// The line of help, with what holds by default.
fn help<W: Which>(option: &JobOption) -> String {
    let again = if option.kind.is_list() {
        "; may be repeated"
    } else {
        ""
    };
    let preset = W::preset(option).or(match (option.preset, option.kind) {
        // A switch that is not given is off: that goes without saying.
        (_, Kind::Switch) | (Preset::None | Preset::Required, _) => None,
        (Preset::Value(text) | Preset::Described(text), _) => Some(text),
    });
    let preset = preset.map_or_else(String::new, |text| format!(" [default: {text}]"));
    format!("{}{again}{preset}", option.help)
}

/// Reads one value as the host file would have it, and checks it as a machine would.
fn parser(option: &'static JobOption) -> ValueParser {
    match option.kind {
        Kind::Words(_, choices) | Kind::SwitchOrWord(choices) => {
            let choices = choices();
            let known = choices
                .iter()
                .map(|choice| PossibleValue::new(choice.word).aliases(choice.aliases.clone()));
            let switch = matches!(option.kind, Kind::SwitchOrWord(_));
            PossibleValuesParser::new(known)
                .map(move |text| word(&choices, &text, switch))
                .into()
        }
        // It may have placeholders that are filled in before a machine sees it.
        Kind::Text(_) => {
            ValueParser::new(|text: &str| -> Result<Value, String> { Ok(text.into()) })
        }
        kind => ValueParser::new(move |text: &str| -> Result<Value, String> {
            let value = written(kind, text)?;
            let whole = if kind.is_list() {
                Value::Array(vec![value.clone()])
            } else {
                value.clone()
            };
            check_setting(option.key, &whole)?;
            Ok(value)
        }),
    }
}

/// The word itself for whatever spelling of it. `true` and `false` are no texts in a host file.
fn word(choices: &[Choice], text: &str, switch: bool) -> Value {
    let meant = choices
        .iter()
        .find(|choice| choice.aliases.contains(&text))
        .map_or(text, |choice| choice.word);
    match meant.parse() {
        Ok(on) if switch => Value::Boolean(on),
        _ => meant.into(),
    }
}

fn written(kind: Kind, text: &str) -> Result<Value, String> {
    Ok(match kind {
        Kind::Count => {
            let count = text.parse::<u32>().map_err(|error| error.to_string())?;
            Value::Integer(count.into())
        }
        Kind::Disks => match text.split_once('=') {
            Some((key, value)) => Value::Table([(key.into(), value.into())].into_iter().collect()),
            None => text.into(),
        },
        Kind::Partitions => match text.parse().map_err(|error| format!("{error}"))? {
            PartitionSelector::Number(number) => Value::Integer(number.into()),
            PartitionSelector::Id(text) | PartitionSelector::Name(text) => text.into(),
        },
        _ => text.into(),
    })
}

#[cfg(test)]
mod tests;
