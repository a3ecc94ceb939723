//! `make demo`: the main job on one computer, told as it happens.

use anyhow::{Context, Result};
use qemu_tests::console::Listener;
use qemu_tests::disks::Disk;
use qemu_tests::golden;
use qemu_tests::paths::{self, Payload};
use qemu_tests::site::{Firmware, Site};
use qemu_tests::story::{Story, Teller};
use std::fs;
use std::process::ExitCode;
use std::time::Instant;

fn main() -> ExitCode {
    match demo() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\ndemo: failed: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn demo() -> Result<()> {
    let teller = Terminal {
        started: Instant::now(),
    };
    let folder = paths::out().join("demo");
    if folder.exists() {
        fs::remove_dir_all(&folder)
            .with_context(|| format!("removing the last demo, {}", folder.display()))?;
    }
    fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;

    teller.step("A machine's disk: GPT, ESP, ext4 root with a bootloader, swap; Debian's kernel");
    let original = golden::gpt()?;
    let disk = Disk::kept_copy_of(&original, &folder.join("disk.img"))?;

    teller.step("The server: boot files, jobs and the share, from one folder");
    let site = Site::new(
        &folder.join("server"),
        Firmware::SeaBiosIpxe,
        Payload::Debian,
    )?;
    teller.proven(&format!(
        "pitstop serve --root {} on port {}",
        site.server.root().display(),
        site.server.port()
    ));

    Story {
        name: "demo",
        site: &site,
        disk: &disk,
        original,
        memory_mib: 512,
        processors: 2,
        home_twice: true,
        entry: None,
        teller: &teller,
    }
    .run()?;

    println!(
        "\nProven: a machine that boots over the network was backed up, lost its disk, was restored,"
    );
    println!(
        "and each time went home to its own disk by itself. {} s.",
        teller.started.elapsed().as_secs()
    );
    println!("\nWhere to look:");
    println!(
        "  {}   the share: image, logs, what the machine is",
        site.server.share().display()
    );
    println!("  {}   the machine's disk, restored", disk.path().display());
    println!(
        "  {}   the machine's consoles",
        paths::cache()?.join("consoles").display()
    );
    Ok(())
}

struct Terminal {
    started: Instant,
}

/// Columns that a console line gets; longer ones are cut, not wrapped.
const WIDTH: usize = 110;

impl Teller for Terminal {
    fn step(&self, text: &str) {
        println!("\n[{:>3} s] {text}", self.started.elapsed().as_secs());
    }

    fn proven(&self, text: &str) {
        for line in text.lines() {
            println!("      => {line}");
        }
    }

    fn listener(&self) -> Option<Listener> {
        Some(Box::new(|line| {
            let line = line.trim_end();
            if !line.is_empty() && !is_kernel_noise(line) {
                println!("      | {}", line.chars().take(WIDTH).collect::<String>());
            }
        }))
    }
}

/// Hundreds of lines of the kernel would hide the story; that it starts and that it restarts is part of it.
fn is_kernel_noise(line: &str) -> bool {
    let Some((time, text)) = line
        .strip_prefix('[')
        .and_then(|rest| rest.split_once("] "))
    else {
        return false;
    };
    let told = ["Linux version", "Run /init", "reboot:"];
    time.trim().parse::<f64>().is_ok() && !told.iter().any(|start| text.starts_with(start))
}
