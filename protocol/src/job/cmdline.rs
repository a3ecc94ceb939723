//! The kernel command line: what it tells the job.

mod defaults;

pub use defaults::with_defaults;

use crate::boot_parameters::{Menu, NtpServer, words};
use crate::job::{ActionName, DeleteTarget};
use crate::share_url::ShareUrl;
use std::fmt;

/// The VirtualBox scripts' spelling of an action.
const OLD_ACTION: &str = "testbox-action-";

/// What every parameter of Pitstop's own begins with.
const PREFIX: &str = "pitstop.";

/// A parameter of Pitstop's own.
#[derive(Clone, Copy)]
enum Parameter {
    Host,
    Action,
    Share,
    Delete,
    Medium,
    Data,
    Menu,
    Ntp,
    Log,
}

/// Their names, without the prefix. Any other is an error.
const PARAMETERS: [(&str, Parameter); 9] = [
    ("host", Parameter::Host),
    ("action", Parameter::Action),
    ("share", Parameter::Share),
    ("delete", Parameter::Delete),
    ("medium", Parameter::Medium),
    ("data", Parameter::Data),
    ("menu", Parameter::Menu),
    ("ntp", Parameter::Ntp),
    ("log", Parameter::Log),
];

impl Parameter {
    fn named(name: &str) -> Option<Self> {
        PARAMETERS
            .into_iter()
            .find_map(|(known, parameter)| (known == name).then_some(parameter))
    }
}

/// What the command line says about the job.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CommandLine {
    /// `pitstop.host`, placeholders not yet filled in.
    pub host: Option<String>,
    pub action: Option<ActionName>,
    /// `pitstop.share`, placeholders not yet filled in.
    pub share: Option<String>,
    /// Each `pitstop.delete`, placeholders not yet filled in.
    pub delete: Vec<String>,
}

/// Everything that is wrong with the `pitstop.` parameters, at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandLineError {
    problems: Vec<String>,
    /// What could be read in spite of it.
    pub understood: CommandLine,
}

impl std::error::Error for CommandLineError {}

impl fmt::Display for CommandLineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "kernel command line: {}", self.problems.join("; "))
    }
}

impl CommandLine {
    /// Reads the `pitstop.` parameters and the old spelling of an action.
    ///
    /// # Errors
    /// Names every unknown parameter, every missing or bad value and every contradiction.
    pub fn parse(text: &str) -> Result<Self, Box<CommandLineError>> {
        let mut line = Self::default();
        let mut unknown: Vec<String> = Vec::new();
        let mut problems = Vec::new();
        let (mut medium, mut data) = (None, None);
        for (key, value) in words::words(text) {
            let outcome = if let Some(name) = key.strip_prefix(PREFIX) {
                match Parameter::named(name) {
                    Some(Parameter::Host) => set(&mut line.host, &key, value),
                    Some(Parameter::Share) => set(&mut line.share, &key, value),
                    Some(Parameter::Action) => {
                        line.set_action(&key, value.as_deref().unwrap_or_default())
                    }
                    Some(Parameter::Delete) => line.add_delete(value),
                    Some(Parameter::Log) => check_log(value.as_deref()),
                    Some(Parameter::Medium) => set(&mut medium, &key, value),
                    Some(Parameter::Data) => set(&mut data, &key, value),
                    Some(Parameter::Menu) => {
                        Menu::parse(value.as_deref().unwrap_or_default()).map(drop)
                    }
                    Some(Parameter::Ntp) => check_ntp(value.as_deref()),
                    None => {
                        if !unknown.contains(&key) {
                            unknown.push(key);
                        }
                        Ok(())
                    }
                }
            } else if let (Some(name), None) = (key.strip_prefix(OLD_ACTION), &value) {
                line.set_action(&key, name)
            } else {
                Ok(())
            };
            problems.extend(outcome.err());
        }
        if !unknown.is_empty() {
            let named = if unknown.len() == 1 {
                "parameter"
            } else {
                "parameters"
            };
            problems.insert(
                0,
                format!(
                    "unknown {named} {}: there are {}",
                    unknown.join(", "),
                    PARAMETERS
                        .map(|(name, _)| format!("{PREFIX}{name}"))
                        .join(", ")
                ),
            );
        }
        if problems.is_empty() {
            Ok(line)
        } else {
            Err(Box::new(CommandLineError {
                problems,
                understood: line,
            }))
        }
    }

    fn set_action(&mut self, key: &str, name: &str) -> Result<(), String> {
        let action: ActionName = name.parse().map_err(|error| format!("{key}: {error}"))?;
        match self.action {
            Some(other) if other != action => Err(format!(
                "the action is given twice: {other} and {action}; leave one"
            )),
            _ => {
                self.action = Some(action);
                Ok(())
            }
        }
    }

    fn add_delete(&mut self, value: Option<String>) -> Result<(), String> {
        match value {
            Some(url) if !url.is_empty() => {
                if !self.delete.contains(&url) {
                    self.delete.push(url);
                }
                Ok(())
            }
            _ => Err("pitstop.delete needs a value".into()),
        }
    }

    /// The deletions as targets, once placeholders are filled in by `fill`.
    pub fn targets(
        &self,
        fill: impl Fn(&str) -> Result<String, String>,
    ) -> Result<Vec<DeleteTarget>, String> {
        self.delete
            .iter()
            .map(|text| fill(text)?.parse())
            .collect::<Result<_, String>>()
            .map_err(|error| format!("kernel command line: pitstop.delete: {error}"))
    }

    /// The share, once placeholders are filled in by `fill`.
    pub fn share_url(
        &self,
        fill: impl Fn(&str) -> Result<String, String>,
    ) -> Result<Option<ShareUrl>, String> {
        let Some(text) = &self.share else {
            return Ok(None);
        };
        fill(text)
            .and_then(|text| text.parse().map_err(|error| format!("{error}")))
            .map(Some)
            .map_err(|error| format!("kernel command line: pitstop.share: {error}"))
    }
}

fn set(slot: &mut Option<String>, key: &str, value: Option<String>) -> Result<(), String> {
    let Some(value) = value.filter(|value| !value.is_empty()) else {
        return Err(format!("{key} needs a value"));
    };
    match slot {
        // The values may hold passwords: they are not shown.
        Some(held) if *held != value => Err(format!("{key} is given twice with different values")),
        _ => {
            *slot = Some(value);
            Ok(())
        }
    }
}

fn check_log(value: Option<&str>) -> Result<(), String> {
    match value {
        Some("debug" | "info") => Ok(()),
        other => Err(format!(
            "pitstop.log={}: there are debug and info",
            other.unwrap_or_default()
        )),
    }
}

fn check_ntp(value: Option<&str>) -> Result<(), String> {
    NtpServer::list(value.unwrap_or_default())
        .map(drop)
        .map_err(|error| format!("pitstop.ntp: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_pxelinux_line_tells_boot_and_job() {
        let text = "BOOT_IMAGE=vmlinuz initrd=initramfs.img console=tty0 console=ttyS0,115200n8 \
                    pitstop.host=tftp://10.0.2.2/hosts/ pitstop.log=debug BOOTIF=01-52-54-00-12-34-56\n";
        let line = CommandLine::parse(text).unwrap();
        assert_eq!(line.host.as_deref(), Some("tftp://10.0.2.2/hosts/"));
    }

    #[test]
    fn the_name_of_the_program_is_no_parameter() {
        // As iPXE passes `chain http://boot/pitstop.efi pitstop.action=rescue` on.
        let line = CommandLine::parse("pitstop.efi pitstop.action=rescue").unwrap();
        assert_eq!(line.action, Some(ActionName::Rescue));
        let error = CommandLine::parse("quiet pitstop.efi").unwrap_err();
        assert!(error.to_string().contains("unknown parameter pitstop.efi"));
    }

    #[test]
    fn a_medium_is_named_for_the_boot() {
        CommandLine::parse("pitstop.medium=PITSTOP").unwrap();
        let error = CommandLine::parse("pitstop.medium=A pitstop.medium=B").unwrap_err();
        let text = error.to_string();
        assert!(text.contains("pitstop.medium is given twice"), "{text}");
    }

    #[test]
    fn time_servers_are_for_the_boot() {
        let error = CommandLine::parse("pitstop.ntp=a,").unwrap_err();
        assert_eq!(
            error.to_string(),
            "kernel command line: pitstop.ntp: \"\" is not a server: write a name or an address, or HOST:PORT"
        );
    }

    #[test]
    fn the_old_spelling_is_the_same_action() {
        let line = CommandLine::parse("testbox-action-backup-again pitstop.action=backup-again");
        assert_eq!(line.unwrap().action, Some(ActionName::BackupAgain));
        let error = CommandLine::parse("testbox-action-backup pitstop.action=restore").unwrap_err();
        assert_eq!(
            error.to_string(),
            "kernel command line: the action is given twice: backup and restore; leave one"
        );
    }

    #[test]
    fn every_problem_is_named_and_the_rest_is_understood() {
        let error = CommandLine::parse(
            "pitstop.hots=x pitstop.action=destroy pitstop.share=http://a/ pitstop.share=http://b/ \
             pitstop.hots pitstop.Action=x pitstop.delete= pitstop.log=loud pitstop.host",
        )
        .unwrap_err();
        let text = error.to_string();
        for part in [
            "unknown parameters pitstop.hots, pitstop.Action: there are",
            "pitstop.action: unknown action \"destroy\"",
            "pitstop.share is given twice with different values",
            "pitstop.delete needs a value",
            "pitstop.log=loud: there are debug and info",
            "pitstop.host needs a value",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert_eq!(error.understood.share.as_deref(), Some("http://a/"));
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_panic(text in ".{0,200}") {
            if let Err(error) = CommandLine::parse(&format!("pitstop.host={text}")) {
                prop_assert!(!error.problems.is_empty());
            }
        }
    }
}
