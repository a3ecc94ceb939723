//! `docs/mkimage.md` against the program: every option of every command stands in it.

mod common;

use common::run;
use std::fs::{self, OpenOptions};
use std::path::Path;
use std::process::Command;

#[test]
fn every_option_is_in_the_manual() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/mkimage.md");
    let page = fs::read_to_string(path).unwrap();
    for command in ["build", "uki", "iso", "list"] {
        let mut mkimage = Command::new(env!("CARGO_BIN_EXE_mkimage"));
        let help = String::from_utf8(run(mkimage.args([command, "--help"]))).unwrap();
        let (_, options) = help.split_once("\nOptions:\n").unwrap();
        let mut count = 0;
        let lines = options
            .lines()
            .take_while(|line| line.is_empty() || line.starts_with(' '));
        for line in lines.filter(|line| line.trim_start().starts_with('-')) {
            // Deeper are the values of an option.
            if line.len() - line.trim_start().len() > 6 {
                continue;
            }
            // Of `-o, --output` the page may have either.
            let words = line.split_whitespace();
            let names: Vec<&str> = words
                .take_while(|word| word.starts_with('-'))
                .map(|word| word.trim_end_matches(','))
                .collect();
            count += 1;
            let told = page.split_whitespace().any(|word| {
                let word = word.trim_matches(|c: char| !c.is_ascii_alphanumeric() && c != '-');
                names.contains(&word)
            });
            assert!(
                told || names.contains(&"--help"),
                "mkimage {command} has {names:?}, and the page does not"
            );
        }
        assert!(count > 1, "{help}");
    }
}

#[test]
fn a_completion_script_that_cannot_be_told_is_an_error_and_no_panic() {
    let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_mkimage"))
        .args(["completions", "bash"])
        .stdout(full)
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.contains("writing the completion script"), "{error}");
}
