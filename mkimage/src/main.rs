//! Builds the initramfs that a machine boots: Pitstop's `/init`, drivers with everything they depend on, and
//! whatever the admin adds; and puts it with its kernel on boot media. The same input gives the same bytes.

mod arch;
mod build;
mod codec;
mod command;
mod doctor;
mod elf;
mod exfat;
mod input;
mod iso;
mod list;
mod modules;
mod output;
mod tools;
mod tree;
mod uki;
mod weigh;

use anyhow::Context;
use clap::{CommandFactory, Parser};
use command::{Arguments, Command};
use std::io::Write;
use std::process::ExitCode;

fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Command::Build(options) => build::run(&options),
        Command::Uki(options) => uki::run(&options),
        Command::Iso(options) => iso::run(&options),
        Command::List(options) => list::run(&options),
        Command::Doctor(options) => match doctor::run(&options) {
            Ok(found) => return found,
            Err(error) => Err(error),
        },
        Command::Completions { shell } => {
            let (mut command, mut script) = (Arguments::command(), Vec::new());
            clap_complete::generate(shell, &mut command, command::name(), &mut script);
            std::io::stdout()
                .write_all(&script)
                .context("writing the completion script to standard output")
        }
        Command::Man { folder } => {
            pitstop_manual::write(Arguments::command(), &folder).map_err(Into::into)
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("mkimage: error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
