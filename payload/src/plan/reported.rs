//! The plan as it is reported: which disks, and what will be done with them.

use super::{Plan, Steps};
use pitstop_imaging::event::Act;
use pitstop_imaging::inventory::Disk;
use pitstop_protocol::event::{LONGEST_NAME, MOST_DISKS, Planned, What, shortened};
use pitstop_protocol::job::ActionName;

impl Plan {
    pub fn reported(&self) -> What {
        let disks: Vec<Planned> = match &self.steps {
            Steps::Capture(steps) => self.each(steps, |step| (&step.disk, Act::Backup, &step.file)),
            Steps::Restore(steps) => {
                self.each(steps, |step| (&step.disk, Act::Restore, &step.image.file))
            }
            Steps::Wipe(steps) => self.each(steps, |step| (&step.disk, Act::Wipe, "")),
            Steps::Arrange(steps) => {
                self.each(steps, |step| (&step.disk, Act::Partition, &step.file))
            }
            Steps::Tree(step) => {
                let act = match self.heading.action {
                    ActionName::Capture => Act::Capture,
                    _ => Act::Extract,
                };
                self.each(&step.disks, |disk| (disk, act, ""))
            }
            Steps::Info => Vec::new(),
        };
        What::Plan {
            action: self.heading.action.as_str().into(),
            disks,
        }
    }

    fn each<'a, T>(
        &self,
        steps: &'a [T],
        what: impl Fn(&'a T) -> (&'a Disk, Act, &'a str),
    ) -> Vec<Planned> {
        let short = |text: &str| shortened(text, LONGEST_NAME);
        let planned = steps.iter().take(MOST_DISKS).map(|step| {
            let (disk, will, file) = what(step);
            let identity = &disk.identity;
            Planned {
                disk: short(&identity.device),
                model: short(&identity.model),
                serial: short(&identity.serial),
                size: identity.size,
                sector: identity.logical_sector_size,
                will,
                image: match file {
                    "" => String::new(),
                    file => short(&format!("{}/{file}", self.heading.folder)),
                },
            }
        });
        planned.collect()
    }
}
