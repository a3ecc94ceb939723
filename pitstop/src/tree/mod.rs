//! `pitstop tree`: whole systems as files.

mod capture;
mod deploy;
mod get;
mod import;
mod look;
mod new_image;
mod parts;
mod prune;
mod rollback;
mod shared;
mod shell;
mod store;
mod text;
mod update;
mod versions;
mod work_folder;

use anyhow::Context;
use std::io::{self, Write};

#[derive(clap::Args)]
#[command(after_help = "Examples:
  pitstop tree capture / web
  pitstop tree extract web.tar.gz /mnt
  pitstop tree diff web@2026-11-01T080000Z web

An image is a NAME on the share of the server, NAME@VERSION, a path (with a / or ending in .tar.gz) or a URL. docs/trees.md tells
the whole story.")]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Make an image of a system, or of any folder
    Capture(capture::Args),
    /// Make an image of a machine's system, over ssh
    Get(get::Args),
    /// Make an image of a tar, an OCI layout or a folder
    Import(import::Args),
    /// Work in a tree, and make the next version of it
    Shell(shell::Args),
    /// Put a system onto a disk, so that it boots
    Deploy(deploy::Args),
    /// Bring a system up to date with an image, by what changed
    Update(update::Args),
    /// Go back to the system as it was before the last update
    Rollback(rollback::Args),
    /// Unpack an image with all attributes
    Extract(look::Extract),
    /// Check every file of an image
    Verify(look::Verify),
    /// Say what is in an image
    Inspect(look::Inspect),
    /// Say what differs between two images
    Diff(look::Diff),
    /// Write one file of an image to standard output
    Cat(look::Cat),
    /// List the files of an image, or the images on the share
    List(look::List),
    /// Remove old versions from the share
    Prune(prune::Args),
}

pub fn run(args: &Args) -> anyhow::Result<()> {
    match &args.command {
        Command::Capture(args) => capture::run(args),
        Command::Get(args) => get::run(args),
        Command::Import(args) => import::run(args),
        Command::Shell(args) => shell::run(args),
        Command::Deploy(args) => deploy::run(args),
        Command::Update(args) => update::run(args),
        Command::Rollback(args) => rollback::run(args),
        Command::Extract(args) => look::extract(args),
        Command::Verify(args) => look::verify(args),
        Command::Inspect(args) => look::inspect(args),
        Command::Diff(args) => look::diff(args),
        Command::Cat(args) => look::cat(args),
        Command::List(args) => look::list(args),
        Command::Prune(args) => prune::run(args),
    }
}

/// What is asked for goes to standard output, and nothing else does.
fn print(text: &str) -> anyhow::Result<()> {
    let written = Out(std::io::stdout()).write_all(text.as_bytes());
    written.context("writing to standard output")
}

/// Standard output. Who closes it, as `head` does, has all that he wants: the command ends then, and nothing failed.
struct Out<W: Write>(W);

impl<W: Write> Out<W> {
    fn unless_closed<T>(done: io::Result<T>) -> io::Result<T> {
        if done
            .as_ref()
            .is_err_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
        {
            std::process::exit(0);
        }
        done
    }
}

impl<W: Write> Write for Out<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Self::unless_closed(self.0.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        Self::unless_closed(self.0.flush())
    }
}
