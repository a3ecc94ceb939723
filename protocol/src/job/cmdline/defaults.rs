//! Kernel parameters that the initramfs brings along, for boot loaders whose configuration nobody wants to touch.

use super::OLD_ACTION;
use crate::boot_parameters::words;
use std::collections::HashSet;

/// The kernel command line `given`, with those of `defaults` before it that it does not set itself: what a boot
/// loader says wins. Both spellings of an action are one parameter.
pub fn with_defaults(defaults: &str, given: &str) -> String {
    let name = |word: &str| {
        let (key, _) = words::pair(word);
        if key.starts_with(OLD_ACTION) {
            "pitstop.action".to_owned()
        } else {
            key
        }
    };
    let set: HashSet<String> = words::raw(given).into_iter().map(name).collect();
    let mut line: Vec<&str> = words::raw(defaults)
        .into_iter()
        .filter(|word| !set.contains(&name(word)))
        .collect();
    line.push(given.trim());
    line.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::CommandLine;
    use proptest::prelude::*;

    #[test]
    fn what_the_boot_loader_says_wins() {
        let defaults = "pitstop.host=http://a/hosts/ ip=dhcp pitstop.log=debug\n";
        assert_eq!(
            with_defaults(defaults, "quiet pitstop.host=http://b/ ip=10.0.0.2\n"),
            "pitstop.log=debug quiet pitstop.host=http://b/ ip=10.0.0.2"
        );
        assert_eq!(with_defaults("", "quiet\n"), "quiet");
        assert_eq!(with_defaults("a=\"b c\" d", "d"), "a=\"b c\" d");
    }

    #[test]
    fn an_action_of_either_spelling_replaces_the_other() {
        let line = with_defaults("pitstop.action=rescue", "testbox-action-backup");
        assert_eq!(line, "testbox-action-backup");
        let line = with_defaults("testbox-action-rescue", "pitstop.action=backup");
        assert_eq!(line, "pitstop.action=backup");
    }

    proptest! {
        #[test]
        fn defaults_never_contradict_the_command_line(
            defaults in "(pitstop\\.(host|share|action)=(a|b|rescue|backup) ?){0,3}",
            given in "pitstop\\.host=c pitstop\\.share=d pitstop\\.action=backup",
        ) {
            let line = with_defaults(&defaults, &given);
            prop_assert_eq!(CommandLine::parse(&line), CommandLine::parse(&given));
        }
    }
}
