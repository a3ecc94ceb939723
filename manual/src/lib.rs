//! Man pages of a command and all its subcommands, made of the definitions that parse its command line: what `--help`
//! says and what the manual says cannot differ.

use clap::Command;
use clap_mangen::Man;
use roff::Roff;
use std::fs;
use std::io::{self, Error, Write};
use std::path::Path;

/// Commands for an administrator's shell (man-pages(7)).
const SECTION: &str = "1";

/// Writes a page for the command and one for each subcommand below `folder`, which is made where it is missing:
/// `pitstop.1`, `pitstop-host.1`, `pitstop-host-set.1`, …
pub fn write(command: Command, folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder).map_err(naming("making", folder))?;
    for command in &all(command) {
        let path = folder.join(format!("{}.{SECTION}", name(command)));
        fs::write(&path, page(command)?).map_err(naming("writing", &path))?;
    }
    Ok(())
}

/// The command and everything below it, each complete with what it inherits; none that is hidden.
pub fn all(command: Command) -> Vec<Command> {
    // A page that says "print this message or the help of the given subcommand" helps nobody.
    let mut command = command.disable_help_subcommand(true);
    command.build();
    let mut found = Vec::new();
    collect(&command, &mut found);
    found
}

fn collect(command: &Command, found: &mut Vec<Command>) {
    found.push(command.clone());
    for below in command.get_subcommands().filter(|one| !one.is_hide_set()) {
        collect(below, found);
    }
}

/// `pitstop-host-set`: what `man` finds it under.
fn name(command: &Command) -> &str {
    command
        .get_display_name()
        .unwrap_or_else(|| command.get_name())
}

fn page(command: &Command) -> io::Result<Vec<u8>> {
    let version = command.get_version().unwrap_or(env!("CARGO_PKG_VERSION"));
    let page = Man::new(command.clone())
        .title(name(command).to_uppercase())
        .section(SECTION)
        // No date: the same source makes the same page on every day.
        .source(format!("Pitstop {version}"));
    let mut text = Vec::new();
    page.render_title(&mut text)?;
    page.render_name_section(&mut text)?;
    page.render_synopsis_section(&mut text)?;
    page.render_description_section(&mut text)?;
    if command.get_arguments().next().is_some() {
        page.render_options_section(&mut text)?;
    }
    if command.get_subcommands().next().is_some() {
        page.render_subcommands_section(&mut text)?;
    }
    if let Some(after) = command.get_after_help() {
        text.write_all(examples(&after.to_string()).as_bytes())?;
    }
    Ok(text)
}

/// What follows the options in `--help`, line by line as it stands there: commands must not be filled into a paragraph.
fn examples(text: &str) -> String {
    let lines = match text.split_once('\n') {
        Some((title, rest)) if title.trim_end_matches(':').starts_with("Example") => rest,
        _ => text,
    };
    let mut roff = Roff::new();
    roff.control("SH", ["EXAMPLES"]).control("nf", []);
    for line in lines.lines() {
        roff.text([roff::roman(line)]);
    }
    roff.control("fi", []);
    roff.to_roff()
}

fn naming<'a>(act: &'a str, path: &'a Path) -> impl FnOnce(Error) -> Error + 'a {
    move |error| Error::new(error.kind(), format!("{act} {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Arg;

    fn tool() -> Command {
        Command::new("tool")
            .about("Does things")
            .version("1.2.3")
            .after_help("Examples:\n  tool set --name x\n  .tool\n\nMore.")
            .subcommand(
                Command::new("set")
                    .about("Sets")
                    .arg(Arg::new("name").long("name")),
            )
            .subcommand(Command::new("secret").hide(true))
    }

    #[test]
    fn each_command_has_a_page_and_examples_keep_their_lines() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("man1");
        write(tool(), &folder).unwrap();
        let mut names: Vec<_> = fs::read_dir(&folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        names.sort();
        assert_eq!(names, ["tool-set.1", "tool.1"]);

        let page = fs::read_to_string(folder.join("tool.1")).unwrap();
        assert!(page.contains("Pitstop 1.2.3"), "{page}");
        assert!(
            page.contains(".SH EXAMPLES\n.nf\n  tool set \\-\\-name x\n"),
            "{page}"
        );
        // A dot at the start of a line would be a macro.
        assert!(!page.contains("\n.tool"), "{page}");
        let page = fs::read_to_string(folder.join("tool-set.1")).unwrap();
        assert!(page.contains("\\-\\-name"), "{page}");
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = write(tool(), &file.path().join("man1")).unwrap_err();
        let path = file.path().display().to_string();
        assert!(
            error
                .to_string()
                .starts_with(&format!("making {path}/man1: ")),
            "{error}"
        );
    }
}
