//! `pitstop`: the admin's command. Images without a boot, the embedded server, and machines' jobs.

/// What nobody has to take on standard error: a log on a full disk, a terminal that is gone. The work goes on, and
/// the exit status tells how it ended; `std`'s own would end the program with a status of its own.
macro_rules! eprint {
    ($($text:tt)*) => {{
        let _ = ::std::io::Write::write_fmt(&mut ::std::io::stderr(), ::std::format_args!($($text)*));
    }};
}

/// A line of it.
macro_rules! eprintln {
    () => { eprint!("\n") };
    ($($line:tt)*) => { eprint!("{}\n", ::std::format_args!($($line)*)) };
}

mod ask;
mod commands;
mod fleet;
mod host;
mod images;
mod inventory;
mod job;
mod job_options;
mod key;
mod notify;
mod people;
mod power;
mod remote;
mod tls;
mod tree;

use anyhow::Context;
use clap::{CommandFactory, Parser, Subcommand};
use clap_complete::Shell;
use commands::{backup, convert, inspect, layout, mount, plan, restore, shrink, torrent, verify};
use pitstop_server as serve;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

const EXAMPLES: &str = "\
Examples:
  pitstop serve --root /srv/pitstop --boot out
  pitstop host set 192.168.1.50 backup
  pitstop host list
  pitstop backup /dev/sda http://192.168.1.10:8080/share/192.168.1.50/sda.raw.gz
  pitstop restore sda.raw.gz /dev/sda --verify

Exit status: 0 all is done, 1 it failed, 2 the command line is wrong.";

/// Back up, restore and look after the disks of machines that boot over the network
#[derive(Parser)]
#[command(name = "pitstop", version, after_help = EXAMPLES, max_term_width = 100)]
struct Cli {
    #[command(flatten)]
    server: remote::Server,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Write an image of a disk
    Backup(backup::Args),
    /// Write an image to a disk
    Restore(restore::Args),
    /// Check every chunk of an image
    Verify(verify::Args),
    /// Say what is in an image
    Inspect(inspect::Args),
    /// Capture, import and make partitions and filesystems
    Layout(layout::Args),
    /// Say what a job would do to the disks of this machine
    Plan(plan::Args),
    /// Make an image with an index from any gzip, xz, zstd or raw image
    Convert(convert::Args),
    /// Make an image of a smaller disk of an image
    Shrink(shrink::Args),
    /// Make a torrent of an image, for copies between servers
    Torrent(torrent::Args),
    /// Show the disk in an image and its partitions as files
    Mount(mount::Args),
    /// Serve boot files, host files and the share over HTTP and TFTP
    // It has three times the options of others.
    Serve(Box<serve::Args>),
    /// Set, list and clear the jobs of machines
    Host(host::Args),
    /// List, show, cancel, repeat and wait for the jobs of machines
    Job(job::Args),
    /// Make and show the keys that sign jobs
    Key(key::Args),
    /// Switch machines on and off, and ask whether they run
    Power(power::Args),
    /// List the images on the share
    Image(images::Args),
    /// Keep the machines of a lab in one file, and make the configurations of other servers from it
    Fleet(fleet::Args),
    /// Try those who are told of failures, by webhook and mail
    Notify(notify::Args),
    /// Say what machines are, search them, and tell what changed
    Inventory(inventory::Args),
    /// Make, list and remove the users of the page and the API, and print who did what
    User(people::user::Args),
    /// Make, list and revoke tokens for programs
    Token(people::token::Args),
    /// Show the server's own certificate authority
    Tls(tls::Args),
    /// Keep whole systems as files: capture, unpack, compare them
    Tree(tree::Args),
    /// Print a completion script for a shell
    #[command(after_help = "Example:\n  pitstop completions bash > /etc/bash_completion.d/pitstop")]
    Completions { shell: Shell },
    /// Write the manual pages of every command
    #[command(after_help = "Example:\n  pitstop man /usr/local/share/man/man1")]
    Man {
        /// The folder they go to; made if missing
        #[arg(value_name = "DIR")]
        folder: PathBuf,
    },
}

fn main() -> ExitCode {
    let Cli { server, command } = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) if error.use_stderr() => {
            eprintln!(
                "pitstop: {}",
                error.render().to_string().trim_end_matches('\n')
            );
            return ExitCode::from(2);
        }
        Err(help) => {
            let shown = help.print().and_then(|()| std::io::stdout().flush());
            return match shown {
                // `pitstop --help | head -1` closes the pipe: nobody is left to tell.
                Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
                    eprintln!("pitstop: error: writing to standard output: {error}");
                    ExitCode::FAILURE
                }
                _ => ExitCode::SUCCESS,
            };
        }
    };
    let done = match server.run(&command) {
        Ok(false) => run(command),
        Ok(true) => Ok(()),
        Err(error) => Err(error),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("pitstop: error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Backup(args) => backup::run(&args),
        Command::Restore(args) => restore::run(&args),
        Command::Verify(args) => verify::run(&args),
        Command::Inspect(args) => inspect::run(&args),
        Command::Torrent(args) => torrent::run(&args),
        Command::Layout(args) => layout::run(&args),
        Command::Plan(args) => plan::run(&args),
        Command::Convert(args) => convert::run(&args),
        Command::Shrink(args) => shrink::run(&args),
        Command::Mount(args) => mount::run(&args),
        Command::Serve(args) => serve::run(&args),
        Command::Host(args) => host::run(&args),
        Command::Job(args) => job::run(&args),
        Command::Key(args) => key::run(&args),
        Command::Power(args) => power::run(&args),
        Command::Image(args) => images::run(&args),
        Command::Fleet(args) => fleet::run(&args),
        Command::Inventory(args) => inventory::run(&args),
        Command::Notify(args) => notify::run(&args),
        Command::User(args) => people::user::run(&args),
        Command::Token(args) => people::token::run(&args),
        Command::Tls(args) => tls::run(&args),
        Command::Tree(args) => tree::run(&args),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "pitstop", &mut script);
            std::io::stdout()
                .write_all(&script)
                .context("writing the completion script to standard output")
        }
        Command::Man { folder } => Ok(pitstop_manual::write(Cli::command(), &folder)?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_shows_how_it_is_used() {
        for command in pitstop_manual::all(Cli::command()) {
            let help = command.get_after_help().map(ToString::to_string);
            assert!(
                help.is_some_and(|text| text.starts_with("Example")),
                "{:?} has no examples",
                command.get_display_name()
            );
        }
    }
}
