//! The plan for people: the dry run on the console and in the logs.

use super::matching::How;
use super::{About, Arrange, Capture, Heading, OfTree, Plan, Restore, Steps, Wipe};
use pitstop_imaging::image::Part;
use pitstop_imaging::inventory::disks::describe;
use pitstop_imaging::table::PartitionSelector;
use pitstop_imaging::units;
use pitstop_protocol::job::Method;
use std::fmt;

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Heading {
            machine,
            action,
            share,
            folder,
        } = &self.heading;
        write!(
            f,
            "plan for {machine}: {action}, share {share}, folder {folder}"
        )?;
        match &self.steps {
            Steps::Capture(captures) => captures.iter().try_for_each(|step| {
                write!(f, "{step}")?;
                self.write_about(f, &step.disk.identity.device)
            })?,
            Steps::Restore(restores) => restores.iter().try_for_each(|step| {
                write!(f, "{step}")?;
                self.write_about(f, &step.disk.identity.device)
            })?,
            Steps::Arrange(steps) => steps.iter().try_for_each(|step| {
                write!(f, "{step}")?;
                self.write_about(f, &step.disk.identity.device)
            })?,
            Steps::Wipe(wipes) => wipes.iter().try_for_each(|step| {
                write!(f, "{step}")?;
                self.write_about(f, &step.disk.identity.device)
            })?,
            Steps::Tree(step) => {
                write!(f, "{step}")?;
                for disk in &step.disks {
                    self.write_about(f, &disk.identity.device)?;
                }
            }
            Steps::Info => write!(
                f,
                "\n  the disks are left alone; only the info files are written"
            )?,
        }
        for (disk, reason) in &self.left_alone {
            write!(f, "\n  left alone: {disk}: {reason}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Capture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "\n  read {} into {}; the disk is not written",
            self.disk, self.file
        )?;
        if self.redoes {
            write!(
                f,
                "\n    {} of an earlier try of this job is replaced",
                self.file
            )?;
        }
        for old in &self.replaces {
            write!(f, "\n    {old} is kept as {old}.old; an older .old is lost")?;
        }
        Ok(())
    }
}

impl fmt::Display for Restore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            disk,
            image,
            how,
            part,
            grows,
        } = self;
        if let Part::Only(selectors) = part {
            write!(
                f,
                "\n  write partitions {} of {} to the same of {disk}; what is in these is lost, all else stays",
                list(selectors),
                image.file
            )?;
        } else {
            write!(f, "\n  write {} to {disk}", image.file)?;
            if let Some(size) = image.raw_size {
                write!(f, ", {}", units::bytes(size))?;
            }
            write!(f, "; everything on {} is lost", disk.identity.device)?;
        }
        if let Part::Keep(selectors) = part {
            write!(f, " but its partitions {}", list(selectors))?;
        }
        let larger = image.raw_size.is_some_and(|size| size > disk.identity.size);
        if larger && !matches!(part, Part::Only(_)) {
            write!(
                f,
                "\n    the disk is smaller than the image's; the space past its end is unused, so the table is shortened to fit"
            )?;
        }
        if let Some(growth) = grows {
            write!(f, "\n    {}", growth.change())?;
        }
        match (how, &image.of) {
            (How::Serial, _) => write!(f, "\n    the image is of this disk, by its serial"),
            (How::Wwn, _) => write!(f, "\n    the image is of this disk, by its WWN"),
            (How::Table, _) => write!(f, "\n    the image is of this disk, by its partition table"),
            (How::ModelAndSize, _) => write!(
                f,
                "\n    the image is of this disk, by its model and size: neither has a serial"
            ),
            (How::Name, Some(of)) => {
                write!(
                    f,
                    "\n    the image is of another disk: {}; chosen by name",
                    describe(of)
                )
            }
            (How::Name, None) => {
                write!(
                    f,
                    "\n    the image does not tell of which disk it is; chosen by name"
                )
            }
        }
    }
}

fn list(selectors: &[PartitionSelector]) -> String {
    let names: Vec<String> = selectors.iter().map(ToString::to_string).collect();
    names.join(", ")
}

impl Plan {
    fn write_about(&self, f: &mut fmt::Formatter<'_>, device: &str) -> fmt::Result {
        match self.about.iter().find(|about| about.device == device) {
            Some(about) => write!(f, "{about}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for About {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\n    {} is chosen: {}", self.device, self.why)?;
        if let Some(from) = &self.from {
            write!(
                f,
                "\n    its chunks come from {from}, its index from the share"
            )?;
        }
        for partition in &self.partitions {
            write!(f, "\n    {partition}")?;
        }
        for warning in &self.warnings {
            write!(f, "\n    warning: {warning}")?;
        }
        for lost in &self.lost {
            write!(f, "\n    lost: {lost}")?;
        }
        match self.takes {
            Some(time) => write!(
                f,
                "\n    takes about {} at the rate of the last run",
                units::duration(time)
            ),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Wipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { disk, method } = self;
        let how = match method {
            Method::Discard => "discard every block of",
            Method::Zero => "write zeros over every byte of",
            Method::Secure => "have the drive itself erase",
        };
        write!(
            f,
            "\n  wipe ({method}): {how} {disk}; everything on {} is lost",
            disk.identity.device
        )
    }
}

impl fmt::Display for OfTree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\n  tree {}", self.tree)?;
        for line in &self.lines {
            write!(f, "\n    {line}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Arrange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            disk,
            file,
            changes,
        } = self;
        if changes.is_empty() {
            return write!(f, "\n  {disk} is as {file} says already; it is not written");
        }
        if changes.table {
            write!(
                f,
                "\n  make a new {} table on {disk} as {file} says; everything on {} is lost",
                changes.placed.table.name(),
                disk.identity.device
            )?;
        } else {
            write!(f, "\n  complete {disk} as {file} says; its table is right")?;
        }
        for place in &changes.placed.places {
            write!(
                f,
                "\n    partition {}: {}, {} at byte {}",
                place.number,
                place.entry.kind,
                units::bytes(place.size),
                place.start
            )?;
            match &place.entry.filesystem {
                Some(name) if changes.filesystems.contains(&place.number) => {
                    write!(f, ", a new {name}")?;
                }
                Some(name) => write!(f, ", its {name} is kept")?,
                None => {}
            }
        }
        Ok(())
    }
}
