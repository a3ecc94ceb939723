//! The plan for programs: `plan.json` on the share, and `pitstop plan --json`.

use super::matching::How;
use super::{About, Plan, Steps};
use pitstop_imaging::image::{Growth, Part};
use pitstop_imaging::inventory::Disk;
use pitstop_imaging::table::PartitionSelector;
use pitstop_protocol::job::Word as _;
use serde_json::{Map, Value, json};

impl Plan {
    /// The plan as JSON. Sizes are bytes, times seconds; what is not known is left out or empty.
    pub fn to_json(&self) -> Value {
        let heading = &self.heading;
        let left_alone: Vec<Value> = self
            .left_alone
            .iter()
            .map(|(disk, reason)| json!({"disk": seen(disk), "reason": reason}))
            .collect();
        json!({
            "version": 1,
            "machine": heading.machine,
            "action": heading.action.as_str(),
            "share": heading.share,
            "folder": heading.folder,
            "steps": self.steps(),
            "left-alone": left_alone,
        })
    }

    fn steps(&self) -> Vec<Value> {
        match &self.steps {
            Steps::Capture(steps) => steps
                .iter()
                .map(|step| {
                    let own = json!({"do": "read", "file": step.file, "replaces": step.replaces});
                    self.step(&step.disk, own)
                })
                .collect(),
            Steps::Restore(steps) => steps
                .iter()
                .map(|step| {
                    let by = match step.how {
                        How::Serial => "serial",
                        How::Wwn => "wwn",
                        How::Table => "table",
                        How::ModelAndSize => "model-and-size",
                        How::Name => "name",
                    };
                    let own = json!({
                        "do": "write",
                        "file": step.image.file,
                        "matched-by": by,
                        "image-of": step.image.of,
                        "image-size": step.image.raw_size,
                        "keep": match &step.part {
                            Part::Keep(kept) => names(kept),
                            Part::Whole | Part::Only(_) => Vec::new(),
                        },
                        "partitions": match &step.part {
                            Part::Only(only) => names(only),
                            Part::Whole | Part::Keep(_) => Vec::new(),
                        },
                        "grows": step.grows.as_ref().map(grows),
                    });
                    self.step(&step.disk, own)
                })
                .collect(),
            Steps::Wipe(steps) => steps
                .iter()
                .map(|step| {
                    self.step(
                        &step.disk,
                        json!({"do": "wipe", "method": step.method.word()}),
                    )
                })
                .collect(),
            Steps::Arrange(steps) => steps
                .iter()
                .map(|step| {
                    let partitions: Vec<Value> = step
                        .changes
                        .placed
                        .places
                        .iter()
                        .map(|place| {
                            json!({
                                "number": place.number,
                                "type": place.entry.kind,
                                "start": place.start,
                                "size": place.size,
                                "filesystem": place.entry.filesystem,
                            })
                        })
                        .collect();
                    let own = json!({
                        "do": "partition",
                        "file": step.file,
                        "new-table": step.changes.table,
                        "new-filesystems": step.changes.filesystems,
                        "partitions": partitions,
                    });
                    self.step(&step.disk, own)
                })
                .collect(),
            Steps::Tree(step) => {
                let own = || {
                    json!({
                        "do": self.heading.action.as_str(),
                        "tree": step.tree,
                        "bytes": step.bytes,
                        "what": step.lines,
                    })
                };
                if step.disks.is_empty() {
                    return vec![own()];
                }
                let disks = step.disks.iter();
                disks.map(|disk| self.step(disk, own())).collect()
            }
            Steps::Info => Vec::new(),
        }
    }

    /// What every step tells beside its own.
    fn step(&self, disk: &Disk, own: Value) -> Value {
        let mut step = Map::new();
        if let Value::Object(own) = own {
            step.extend(own);
        }
        step.insert("disk".into(), seen(disk));
        let of_this = |about: &&About| about.device == disk.identity.device;
        if let Some(about) = self.about.iter().find(of_this) {
            step.insert("why".into(), json!(about.why));
            step.insert("part".into(), json!(about.partitions));
            step.insert("warnings".into(), json!(about.warnings));
            step.insert("lost".into(), json!(about.lost));
            if let Some(time) = about.takes {
                step.insert("seconds".into(), json!(time.as_secs()));
            }
        }
        Value::Object(step)
    }
}

fn grows(growth: &Growth) -> Value {
    json!({
        "partition": growth.place.number,
        "filesystem": growth.filesystem,
        "from": growth.place.from,
        "to": growth.place.to,
        "moved-swap": growth.place.moved.as_ref().map(|moved| moved.number),
    })
}

fn names(selectors: &[PartitionSelector]) -> Vec<String> {
    selectors.iter().map(ToString::to_string).collect()
}

fn seen(disk: &Disk) -> Value {
    let partitions: Vec<Value> = disk
        .partitions
        .iter()
        .map(|part| json!({"name": part.name, "start": part.start, "size": part.size}))
        .collect();
    let mut value = json!(disk.identity);
    if let Value::Object(fields) = &mut value {
        fields.insert("standing".into(), json!(disk.standing.to_string()));
        fields.insert("partitions".into(), Value::Array(partitions));
    }
    value
}
