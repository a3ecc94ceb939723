//! Builds the initramfs that a machine boots: Pitstop's `/init`, drivers with everything they depend on, and
//! whatever the admin adds. The same input gives the same bytes.

mod build;
mod codec;
mod command;
mod elf;
mod list;
mod modules;
mod tree;
mod weigh;

use clap::{CommandFactory, Parser};
use command::{Arguments, Command};
use std::process::ExitCode;

fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Command::Build(options) => build::run(&options),
        Command::List(options) => list::run(&options),
        Command::Completions { shell } => {
            let mut command = Arguments::command();
            clap_complete::generate(shell, &mut command, "mkimage", &mut std::io::stdout());
            Ok(())
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
