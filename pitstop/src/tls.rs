//! `pitstop tls`: the server's own certificate authority.

use crate::host::Root;
use anyhow::Context;
use clap::Subcommand;
use pitstop_server::tls::{Authority, Facts};
use std::fmt::Write as _;
use std::io::Write;

const EXAMPLES: &str = "\
Examples:
  pitstop tls ca > ca.pem
  mkimage build -o initramfs.img --ca ca.pem
  curl --cacert ca.pem https://srv.lab.example:8443/healthz
  pitstop tls show";

#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Print the authority's certificate, for mkimage --ca and for browsers; make the authority where there is none
    #[command(after_help = "Example:\n  pitstop tls ca --root /srv/pitstop > ca.pem")]
    Ca {
        #[command(flatten)]
        root: Root,
    },
    /// Say until when the authority and the server's certificate are valid, and for which names
    #[command(after_help = "Example:\n  pitstop tls show --root /srv/pitstop")]
    Show {
        #[command(flatten)]
        root: Root,
    },
}

pub fn run(args: &Args) -> anyhow::Result<()> {
    let answer = match &args.command {
        Command::Ca { root } => Authority::open_or_make(&root.path)?.pem().to_owned(),
        Command::Show { root } => shown(root)?,
    };
    std::io::stdout()
        .write_all(answer.as_bytes())
        .context("writing to standard output")
}

fn shown(root: &Root) -> anyhow::Result<String> {
    let Some(authority) = Authority::open(&root.path)? else {
        return Ok(format!(
            "{} has no certificate authority yet: pitstop serve --tls makes one, and so does pitstop tls ca\n",
            root.path.display()
        ));
    };
    let mut text = format!("authority    {}\n", authority.file().display());
    dates(&mut text, &authority.facts);
    match authority.last_facts() {
        None => {
            text.push_str(
                "server       it has no certificate yet: pitstop serve --tls makes one\n",
            );
        }
        Some(facts) => {
            let names: Vec<String> = facts.names.iter().map(ToString::to_string).collect();
            // Writing to a String cannot fail.
            let _ = writeln!(text, "server       {}", names.join(", "));
            dates(&mut text, &facts);
        }
    }
    Ok(text)
}

fn dates(text: &mut String, facts: &Facts) {
    // Writing to a String cannot fail.
    let _ = writeln!(
        text,
        "  name       {}\n  valid      {:.0} to {:.0}\n  SHA-256    {}",
        facts.subject, facts.from, facts.until, facts.fingerprint
    );
}
