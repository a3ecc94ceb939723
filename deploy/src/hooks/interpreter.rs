//! Which programs of a tree a hook cannot begin without.

use super::Hook;
use crate::chroot::PATH;

/// The program of a script that names none.
const SHELL: &str = "/bin/sh";
/// A segment of a program that names its loader (elf(5), `PT_INTERP`).
const LOADER: u64 = 3;

/// The program that runs a hook, where a tree lacks it: `has` tells whether it has one at a path, its symlinks followed. Of
/// `#!/usr/bin/env NAME` it is NAME.
#[must_use]
pub fn missing(hook: &Hook, has: &dyn Fn(&str) -> bool) -> Option<String> {
    let script = &hook.script;
    if script.starts_with(b"\x7fELF") {
        return loader(script).filter(|loader| !has(loader));
    }
    let first = script.split(|byte| *byte == b'\n').next();
    let named = first.and_then(|line| line.strip_prefix(b"#!"));
    let Some(named) = named else {
        return (!has(SHELL)).then(|| SHELL.to_owned());
    };
    let named = String::from_utf8_lossy(named);
    let named = named.trim();
    // What follows the name is one word to it, whatever it is (execve(2)).
    let (program, word) = named.split_once([' ', '\t']).unwrap_or((named, ""));
    if !has(program) {
        return Some(program.to_owned());
    }
    let word = word.trim();
    let is_name = !word.is_empty() && !word.contains(['=', '/']) && !word.starts_with('-');
    if program.rsplit('/').next() != Some("env") || !is_name {
        return None;
    }
    let found = PATH
        .split(':')
        .any(|folder| has(&format!("{folder}/{word}")));
    (!found).then(|| word.to_owned())
}

/// The loader that a dynamic program names (elf(5)); none of a static one.
fn loader(program: &[u8]) -> Option<String> {
    let is_64 = *program.get(4)? == 2;
    let is_little = *program.get(5)? == 1;
    let number = |at: usize, size: usize| {
        let bytes = program.get(at..at.checked_add(size)?)?;
        let add = |all: u64, byte: &u8| all << 8 | u64::from(*byte);
        Some(if is_little {
            bytes.iter().rev().fold(0, add)
        } else {
            bytes.iter().fold(0, add)
        })
    };
    // Where the table of segments is, the size of an entry, and their number; in an entry, place and size in the file.
    let (table, each, count, place, size, word) = if is_64 {
        (number(32, 8)?, number(54, 2)?, number(56, 2)?, 8, 32, 8)
    } else {
        (number(28, 4)?, number(42, 2)?, number(44, 2)?, 4, 16, 4)
    };
    (0..count).find_map(|segment| {
        let at = usize::try_from(table.checked_add(segment * each)?).ok()?;
        if number(at, 4)? != LOADER {
            return None;
        }
        let from = usize::try_from(number(at.checked_add(place)?, word)?).ok()?;
        let length = usize::try_from(number(at.checked_add(size)?, word)?).ok()?;
        let name = program.get(from..from.checked_add(length)?)?;
        let name = name.split(|byte| *byte == 0).next()?;
        Some(String::from_utf8_lossy(name).into_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lacks(script: &[u8], tree: &[&str]) -> Option<String> {
        let hook = Hook {
            name: "hook".into(),
            script: script.into(),
        };
        missing(&hook, &|path| tree.contains(&path))
    }

    #[test]
    fn the_program_of_a_hook_is_looked_for_where_the_kernel_would() {
        let tree = ["/bin/sh", "/usr/bin/env", "/usr/bin/python3"];
        for (script, lacking) in [
            ("#!/bin/sh\nexit", None),
            ("#! /bin/sh -e\nexit", None),
            ("echo", None),
            ("#!/bin/bash\n", Some("/bin/bash")),
            ("#!\t/bin/bash -e\n", Some("/bin/bash")),
            ("#!/usr/bin/env python3\n", None),
            ("#!/usr/bin/env perl\n", Some("perl")),
            ("#!/usr/bin/env -S perl -w\n", None),
            ("#!/usr/bin/env A=b\n", None),
        ] {
            let found = lacks(script.as_bytes(), &tree);
            assert_eq!(found.as_deref(), lacking, "{script}");
        }
        assert_eq!(lacks(b"echo", &[]).as_deref(), Some(SHELL));
    }

    #[test]
    fn a_program_wants_its_loader_and_a_static_one_nothing() {
        let dynamic = std::fs::read("/usr/bin/env").unwrap();
        let loader = lacks(&dynamic, &[]).unwrap();
        assert!(std::path::Path::new(&loader).exists(), "{loader}");
        assert_eq!(lacks(&dynamic, &[&loader]), None);
        let alone = std::fs::read("/bin/busybox").expect("install busybox-static");
        assert_eq!(lacks(&alone, &[]), None);
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_make_no_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            let _ = lacks(&[b"\x7fELF\x02\x01".as_slice(), &bytes].concat(), &[]);
            let _ = lacks(&[b"#!".as_slice(), &bytes].concat(), &[]);
        }
    }
}
