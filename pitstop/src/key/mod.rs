//! `pitstop key`: the keys that sign jobs. They are minisign's, in its files: either program takes the other's.

mod secret;

use crate::host::say;
use anyhow::{Context, anyhow};
use clap::Subcommand;
use minisign::{KeyPair, PublicKey, PublicKeyBox};
pub use secret::{Password, Secret};
use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

const SECRET: &str = "sec";
const PUBLIC: &str = "pub";

#[derive(clap::Args)]
#[command(after_help = "Examples:\n  pitstop key new lab\n  pitstop key show lab.pub")]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Make a key pair: NAME.sec signs jobs, NAME.pub goes into initramfses
    #[command(
        after_help = "Examples:\n  pitstop key new lab\n  pitstop key new ci/lab --no-password"
    )]
    New {
        /// Where the two files go, without .sec and .pub
        name: PathBuf,
        #[command(flatten)]
        password: Password,
        /// Keep the secret key as it is: whoever reads the file can sign
        #[arg(long, conflicts_with = "password_stdin")]
        no_password: bool,
    },
    /// Show a key: its number, and the public key that machines need
    #[command(
        after_help = "Examples:\n  pitstop key show lab.pub\n  pitstop key show lab.sec > lab.pub"
    )]
    Show {
        /// NAME.pub, or NAME.sec to make its public key anew
        #[arg(value_name = "FILE")]
        file: PathBuf,
        #[command(flatten)]
        password: Password,
    },
}

pub fn run(args: &Args) -> anyhow::Result<()> {
    match &args.command {
        Command::New {
            name,
            password,
            no_password,
        } => new(name, password, *no_password),
        Command::Show { file, password } => show(file, password),
    }
}

fn new(name: &Path, password: &Password, no_password: bool) -> anyhow::Result<()> {
    let [secret, public] = [SECRET, PUBLIC].map(|end| with_end(name, end));
    for path in [&secret, &public] {
        if path.exists() {
            return Err(anyhow!(
                "{} is there already: a key that jobs are signed with is not overwritten",
                path.display()
            ));
        }
    }
    let pair = if no_password {
        KeyPair::generate_unencrypted_keypair()
    } else {
        KeyPair::generate_encrypted_keypair(password.read()?)
    };
    let pair = pair.context(
        "making a key (no terminal to ask for a password: --password-stdin, or --no-password)",
    )?;
    let text = pair.sk.to_box(None).context("writing the secret key")?;
    write_new(&secret, &text.into_string(), 0o600)?;
    let text = pair.pk.to_box().context("writing the public key")?;
    write_new(&public, &text.into_string(), 0o644)?;
    say(&format!(
        "{}: the secret key; it signs jobs: pitstop host set MACHINE restore --sign {}\n\
         {}: the public key, number {}; it goes into initramfses: mkimage build --job-key {}\n",
        secret.display(),
        secret.display(),
        public.display(),
        number(&pair.pk),
        public.display()
    ))
}

fn show(file: &Path, password: &Password) -> anyhow::Result<()> {
    let doing = || format!("reading {}", file.display());
    let text = std::fs::read_to_string(file).with_context(doing)?;
    let is_public = PublicKeyBox::from_string(&text)
        .and_then(PublicKeyBox::into_public_key)
        .ok();
    let key = match is_public {
        Some(key) => key,
        None => Secret::open(file, password)?.public()?,
    };
    eprintln!("key number {}", number(&key));
    let text = key.to_box().with_context(doing)?.into_string();
    say(&format!("{}\n", text.trim_end()))
}

/// As minisign writes it in comments.
fn number(key: &PublicKey) -> String {
    let bytes = key.keynum().iter().rev();
    let bytes: Vec<String> = bytes.map(|byte| format!("{byte:02X}")).collect();
    bytes.concat()
}

fn with_end(name: &Path, end: &str) -> PathBuf {
    let mut path = name.as_os_str().to_owned();
    path.push(format!(".{end}"));
    path.into()
}

fn write_new(path: &Path, text: &str, mode: u32) -> anyhow::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(mode);
    options
        .open(path)
        .and_then(|mut file| {
            file.write_all(text.as_bytes())?;
            file.sync_all()
        })
        .with_context(|| format!("writing {}", path.display()))
}
