//! Which of its parts this process plays. Everything but PID 1 itself is started by PID 1 (or by the
//! kernel, as `modprobe`), so a person who runs the program on a desktop gets a refusal and nothing else.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// The program file of this process: what children are started from.
pub const SELF: &str = "/proc/self/exe";

/// The part that this process plays.
#[derive(Debug, PartialEq, Eq)]
pub enum Role {
    PidOne,
    /// Loads the modules that devices ask for, now and as they appear.
    Devices,
    /// The kernel wants a module: `modprobe -q -- fs-nfs4`.
    Modprobe(Vec<String>),
    /// Brings the network up and does the job.
    Worker,
    /// Logs on the share what a crashed worker could not.
    AfterCrash,
    /// A rescue shell on the named console.
    Shell(String),
    /// Not started by our own PID 1: why it refuses.
    Stranger(String),
}

/// Reads the role from the arguments, the first of which is the program's name.
pub fn role(args: impl IntoIterator<Item = OsString>) -> Role {
    if std::process::id() == 1 {
        return Role::PidOne;
    }
    let args: Vec<String> = args
        .into_iter()
        .map(|arg| arg.to_string_lossy().into_owned())
        .collect();
    match named(&args) {
        Some(role) if pid_one_is_us() => role,
        _ => Role::Stranger(
            "this is Pitstop's PID 1: it boots machines from the network and does nothing here. \
             The command for admins is `pitstop`."
                .into(),
        ),
    }
}

fn named(args: &[String]) -> Option<Role> {
    let (program, rest) = args.split_first()?;
    if Path::new(program).file_name()? == "modprobe" {
        let names = rest.iter().filter(|arg| !arg.starts_with('-'));
        return Some(Role::Modprobe(names.cloned().collect()));
    }
    match rest {
        [flag] if flag == "--devices" => Some(Role::Devices),
        [flag] if flag == "--worker" => Some(Role::Worker),
        [flag] if flag == "--after-crash" => Some(Role::AfterCrash),
        [flag, console] if flag == "--shell" => Some(Role::Shell(console.clone())),
        _ => None,
    }
}

fn pid_one_is_us() -> bool {
    let file = |path: &str| fs::metadata(path).map(|file| (file.dev(), file.ino()));
    matches!((file("/proc/1/exe"), file(SELF)), (Ok(one), Ok(me)) if one == me)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(words: &[&str]) -> Vec<String> {
        words.iter().map(|&word| word.to_owned()).collect()
    }

    #[test]
    fn the_arguments_name_the_part() {
        assert_eq!(named(&args(&["/init", "--worker"])), Some(Role::Worker));
        assert_eq!(
            named(&args(&["/init", "--shell", "ttyS0"])),
            Some(Role::Shell("ttyS0".into()))
        );
        assert_eq!(
            named(&args(&["/sbin/modprobe", "-q", "--", "fs-nfs4"])),
            Some(Role::Modprobe(vec!["fs-nfs4".into()]))
        );
        assert_eq!(named(&args(&["/init"])), None);
        assert_eq!(named(&[]), None);
    }

    #[test]
    fn a_desktop_gets_a_refusal() {
        for words in [&["init"][..], &["init", "--worker"], &["modprobe", "x"]] {
            let role = role(words.iter().map(OsString::from));
            assert!(
                matches!(&role, Role::Stranger(why) if why.contains("does nothing here")),
                "{words:?}: {role:?}"
            );
        }
    }
}
